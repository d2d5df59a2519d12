"""The condition of one market, from the statistics of its ticks and from its metadata."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tasks.condition.reasons import RANK, REASONS, Condition
from tasks.export_directory.metadata_json import Metadata
from tasks.statistics import message_pace
from tasks.statistics.tick_statistics import DAY_US, MOST_INTERVALS, Statistics
from tasks.ticks.value_text import parse_time

#: If gaps make up this share of a market's time or more, it is partial.
_PARTIAL_SHARE = 0.1
#: If more than this share of its rows is off the ladder, a market uses another price ladder (Asian handicaps, lines).
_OTHER_LADDER_SHARE = 0.05

#: From and to, both times of messages, in µs since 1970; and how often the reason occurred between them.
Interval = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Found:
    """A reason that applies. messages: to how many messages; intervals: the first of them; runs: how many intervals
    there are; is_note: whether it leaves the condition as it is; days: how often on each day since 1970.
    """

    reason: str
    count: int
    messages: int = 0
    intervals: Sequence[Interval] = ()
    runs: int = 0
    is_note: bool = False
    days: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MarketCondition:
    """The condition of a market, with its reasons."""

    market_id: str
    condition: Condition
    found: Sequence[Found]

    def on_day(self, day: int) -> list[Found]:
        """Return the reasons that apply on a day (days since 1970)."""
        return [found for found in self.found if day in found.days]


def in_play_from(metadata: Metadata | None) -> int | None:
    """Return when a market went in play according to its metadata: at its start. None: never, or unknown."""
    start = (metadata or {}).get("marketStartTime")
    return parse_time(start) if start and (metadata or {}).get("inPlay") else None


def judge(
    market_id: str, statistics: Statistics, metadata: Metadata | None, in_play: Callable[[int], bool] | None = None
) -> MarketCondition:
    """Judge a market. in_play: returns whether the market was in play at a time; by default according to its
    metadata.
    """
    if not statistics["ticks"]:
        return MarketCondition(market_id, Condition.MISSING, _notes(statistics, metadata))
    off = in_play_from(metadata)
    gaps = _gaps(statistics, in_play or (lambda moment: off is not None and moment >= off))
    found = [*gaps, *_first_image(statistics), *_flaws(statistics), *_notes(statistics, metadata)]
    condition = Condition.GOOD
    if any(not one.is_note for one in found):
        condition = Condition.DEGRADED
    missing = sum(end - start for gap in gaps for start, end, _ in gap.intervals)
    span = statistics["last"] - statistics["first"]
    if missing >= max(1, span * _PARTIAL_SHARE) or not statistics["first_has_ladder"]:
        condition = Condition.PARTIAL
    return MarketCondition(market_id, condition, found)


def worst(conditions: Sequence[Condition]) -> Condition:
    """Return the worst of several conditions."""
    return max(conditions, key=RANK.__getitem__, default=Condition.GOOD)


def _gaps(statistics: Statistics, in_play: Callable[[int], bool]) -> list[Found]:
    gaps = [(quiet[0], quiet[1], 1) for quiet in statistics["quiet"] if message_pace.is_gap(quiet, in_play(quiet[0]))]
    if not gaps:
        return []
    days: dict[int, int] = {}
    for start, end, _ in gaps:
        for day in range(start // DAY_US, end // DAY_US + 1):
            days[day] = days.get(day, 0) + 1
    return [Found("gap", len(gaps), len(gaps), gaps, len(gaps), days=days)]


def _first_image(statistics: Statistics) -> list[Found]:
    first = statistics["first"]
    if statistics["first_has_ladder"]:
        return []
    return [Found("no_first_image", 1, 1, [(first, first, 1)], 1, days={first // DAY_US: 1})]


def _flaws(statistics: Statistics) -> list[Found]:
    found = []
    for reason, flaw in statistics["flaws"].items():
        share = REASONS[reason].share or 0.0
        is_note = flaw["messages"] < share * statistics["messages"]
        if reason == "off_ladder_price":
            is_note = flaw["count"] > _OTHER_LADDER_SHARE * statistics["ticks"]
        intervals = [tuple(interval) for interval in flaw["intervals"][:MOST_INTERVALS]]
        found.append(
            Found(reason, flaw["count"], flaw["messages"], intervals, flaw["runs"], is_note, dict(flaw["days"]))
        )
    return found


def _notes(statistics: Statistics, metadata: Metadata | None) -> list[Found]:
    if metadata is None or not any(metadata[key] for key in ("marketType", "marketName", "eventId")):
        return [Found("no_metadata", 1, is_note=True)]
    runners = {runner["selectionId"]: runner["runnerName"] for runner in metadata["runners"]}
    selections = set(statistics["selections"])
    counts: dict[str, Any] = {
        "no_runner_name": sum(1 for selection in selections | runners.keys() if not runners.get(selection)),
        "runner_without_ticks": len(runners.keys() - selections) if selections else 0,
        "in_play_unknown": int(metadata["inPlay"] is None),
    }
    return [Found(reason, count, is_note=True) for reason, count in counts.items() if count]
