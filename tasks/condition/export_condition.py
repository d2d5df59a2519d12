"""The condition of a whole export, and condition.json, its form for programs (docs/condition.md)."""

import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.condition import day_condition, market_condition
from tasks.condition.day_condition import DayCondition
from tasks.condition.market_condition import Found, MarketCondition
from tasks.condition.reasons import Condition
from tasks.export_directory import metadata_json
from tasks.export_directory.metadata_json import Metadata
from tasks.statistics.tick_statistics import DAY_US, Statistics
from tasks.storage.layout import Layout
from tasks.ticks.value_text import time_text

#: Raised by any change that could break a program that reads condition.json.
SCHEMA_VERSION = 1
_EPOCH = datetime.date(1970, 1, 1)


@dataclasses.dataclass(frozen=True)
class ExportCondition:
    """The condition of each market and each day of an export, with the statistics and metadata that it is based on."""

    markets: Mapping[str, MarketCondition]
    days: Sequence[DayCondition]
    statistics: Mapping[str, Statistics]
    metadata: Mapping[str, Metadata | None]

    def day(self, date: datetime.date) -> DayCondition | None:
        """Return the condition of a day, None if it is unknown."""
        wanted = day_number(date)
        return next((day for day in self.days if day.day == wanted), None)


def judge(
    layout: Layout,
    statistics: Mapping[str, Statistics],
    below_percent: int,
    today: datetime.date,
    without_ticks: Mapping[int, Sequence[str]] | None = None,
) -> ExportCondition:
    """Judge the markets of an export by their statistics, and their days. For the other arguments see judge_days."""
    metadata = dict(read_metadata(layout, statistics))
    markets = {
        market_id: market_condition.judge(market_id, counted, metadata[market_id])
        for market_id, counted in statistics.items()
    }
    days = day_condition.judge_days(markets, statistics, below_percent, day_number(today), without_ticks)
    return ExportCondition(markets, days, statistics, metadata)


def read_metadata(layout: Layout, market_ids: Iterable[str]) -> Iterator[tuple[str, Metadata | None]]:
    """Yield the metadata of each market, None if there is none. Raises OSError if a file cannot be read."""
    for market_id in market_ids:
        try:
            with open(layout.metadata_file(market_id), "rb") as file:
                yield market_id, metadata_json.parse(file.read())
        except FileNotFoundError:
            yield market_id, None


def day_number(date: datetime.date) -> int:
    """Return the number of a UTC day, counted from 1970."""
    return (date - _EPOCH).days


def date_of(day: int) -> datetime.date:
    """Return the date of a day counted from 1970."""
    return _EPOCH + datetime.timedelta(days=day)


def render(judged: ExportCondition) -> bytes:
    """Return the content of condition.json: one line per day and per market."""
    encode = json.JSONEncoder(separators=(", ", ": ")).encode
    counts: dict[str, Any] = {
        kind: {str(condition): sum(one.condition == condition for one in some) for condition in Condition}
        for kind, some in (("markets", list(judged.markets.values())), ("days", list(judged.days)))
    }
    gaps = sum(found.count for one in judged.markets.values() for found in one.found if found.reason == "gap")
    days = ",\n".join(encode(_day(day)) for day in judged.days)
    markets = ",\n".join(encode(_market(judged, judged.markets[market_id])) for market_id in sorted(judged.markets))
    return (
        f'{{\n"schema_version": {SCHEMA_VERSION},\n"counts": {encode(counts | {"gaps": gaps})},\n'
        f'"days": [\n{days}\n],\n"markets": [\n{markets}\n]\n}}\n'
    ).encode()


def read_counts(path: Path) -> dict[str, Any] | None:
    """Return schema_version, counts and days of a condition.json, None if there is none of this version."""
    try:
        with open(path, encoding="utf-8") as file:
            head = "".join(itertools.takewhile(lambda line: not line.startswith('"markets"'), file))
        read: dict[str, Any] = json.loads(head.rstrip().rstrip(",") + "}")
        return read if read["schema_version"] == SCHEMA_VERSION else None
    except (OSError, ValueError, KeyError):
        return None


def _day(day: DayCondition) -> dict[str, Any]:
    return {
        "date": str(date_of(day.day)),
        "condition": str(day.condition),
        "ticks": day.ticks,
        "markets": day.markets,
        "usual_ticks": day.usual_ticks,
        "usual_markets": day.usual_markets,
        "markets_without_ticks": None if day.without_ticks is None else list(day.without_ticks),
        "reasons": [_found(found) | {"markets": day.markets_with.get(found.reason, 0)} for found in day.found],
    }


def _market(judged: ExportCondition, market: MarketCondition) -> dict[str, Any]:
    counted = judged.statistics[market.market_id]
    return {
        "market_id": market.market_id,
        "condition": str(market.condition),
        "ticks": counted["ticks"],
        "messages": counted["messages"],
        "first": None if counted["first"] is None else time_text(counted["first"]),
        "last": None if counted["last"] is None else time_text(counted["last"]),
        "reasons": [_found(found) for found in market.found],
    }


def _found(found: Found) -> dict[str, Any]:
    return {
        "reason": found.reason,
        "is_note": found.is_note,
        "count": found.count,
        "messages": found.messages,
        "intervals": [
            {"from": time_text(start), "to": time_text(end), "count": count} for start, end, count in found.intervals
        ],
        "intervals_left_out": max(0, found.runs - len(found.intervals)),
    }


def told(judged: ExportCondition, date: datetime.date) -> str:
    """Return, in one line, why a day is not good; an empty text if it is good."""
    day = judged.day(date)
    if day is None or day.condition == Condition.GOOD and not day.without_ticks:
        return ""
    said = [] if day.condition == Condition.GOOD else [str(day.condition)]
    for found in day.found:
        said += [f"nothing was recorded from {_span(start, end)}" for start, end, _ in found.intervals[:3]]
        if len(found.intervals) > 3:
            said.append(f"and {len(found.intervals) - 3} more such gaps")
    gaps = [one for one in judged.markets.values() if any(found.reason == "gap" for found in one.on_day(day.day))]
    if gaps and not any(found.intervals for found in day.found):
        intervals = sorted(interval for one in gaps for interval in _intervals_on(one, day.day))
        said.append(f"{_counted(len(gaps), 'market')} with gaps, the longest from {_span(*_longest(intervals))}")
    for what, found_count, usual in (
        ("ticks", day.ticks, day.usual_ticks),
        ("markets", day.markets, day.usual_markets),
    ):
        if usual and found_count < usual and day.condition != Condition.GOOD:
            said.append(f"{100 - 100 * found_count / usual:.0f} % fewer {what} than the median of the days before")
    if day.without_ticks:
        said.append(f"{_counted(len(day.without_ticks), 'market')} known without ticks")
    others = {found.reason for found in day.found if not found.is_note} - {"gap", "below_usual", "not_over"}
    if others:
        said.append(", ".join(f"{day.markets_with.get(one, 0)} with {one}" for one in sorted(others)))
    return "; ".join(said)


def _intervals_on(market: MarketCondition, day: int) -> list[tuple[int, int]]:
    return [
        (start, end)
        for found in market.found
        if found.reason == "gap"
        for start, end, _ in found.intervals
        if start // DAY_US <= day <= end // DAY_US
    ]


def _longest(intervals: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return max(intervals, key=lambda interval: interval[1] - interval[0])


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _span(start: int, end: int) -> str:
    return f"{time_text(start)[:23]}Z to {time_text(end)[:23]}Z ({duration_text(end - start)})"


def duration_text(duration_us: int) -> str:
    """Return a duration as text: 10 h 0 min, 12 min 5 s, 7 s."""
    seconds = round(duration_us / 1e6)
    if seconds >= 3600:
        return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
