"""The condition of each UTC day: from the conditions of its markets, and from how much was recorded."""

import dataclasses
import statistics as averages
from collections.abc import Iterable, Mapping, Sequence

from tasks.condition.market_condition import Found, Interval, MarketCondition
from tasks.condition.reasons import Condition
from tasks.statistics import message_pace
from tasks.statistics.tick_statistics import DAY_US, HOUR_US, Statistics

#: How many days before a day define what is usual, and the fewest that can.
_DAYS_BEFORE, _FEWEST_DAYS = 7, 3
#: Days without ticks count as missing if the days with ticks around them are at most so far apart. Otherwise they are
#: two recordings rather than one that was interrupted.
_LONGEST_BREAK_DAYS = 14
#: An hour with so many markets is one in which ticks are usual; with fewer, perhaps just no market was open.
_FEWEST_MARKETS = 3
#: A day that lacks this much is partial.
_PARTIAL_US = HOUR_US


@dataclasses.dataclass(frozen=True)
class DayCondition:
    """The condition of a UTC day.

    day: days since 1970; markets: the number with ticks on that day; usual_ticks, usual_markets: medians of the days
    before, None if there are too few; without_ticks: markets that the database lists for the day but has no ticks for,
    None if no database was queried; markets_with: how many markets have each reason.
    """

    day: int
    condition: Condition
    found: Sequence[Found]
    ticks: int
    markets: int
    usual_ticks: int | None = None
    usual_markets: int | None = None
    without_ticks: Sequence[str] | None = None
    markets_with: Mapping[str, int] = dataclasses.field(default_factory=dict)


def judge_days(
    markets: Mapping[str, MarketCondition],
    statistics: Mapping[str, Statistics],
    below_percent: int,
    today: int,
    without_ticks: Mapping[int, Sequence[str]] | None = None,
) -> list[DayCondition]:
    """Judge every day from the first to the last that has ticks.

    below_percent: a day with a smaller share of the usual ticks or markets is degraded; today: the UTC day that is not
    over, days since 1970; without_ticks: by day, the markets that the database lists but has no ticks for.
    """
    hours: dict[int, dict[int, int]] = {}
    counts: dict[int, int] = {}
    by_day: dict[int, list[str]] = {}
    for market_id, counted in statistics.items():
        days = set()
        for hour, ticks, _ in counted["hours"]:
            day = hour // 24
            counts[day] = counts.get(day, 0) + ticks
            at = hours.setdefault(day, {})
            at[hour % 24] = at.get(hour % 24, 0) + 1
            days.add(day)
        for day in days:
            by_day.setdefault(day, []).append(market_id)
    holes = _holes(statistics.values())
    judged = []
    recorded = sorted(counts)
    for day in _all_days(recorded):
        before = [other for other in recorded if day - _DAYS_BEFORE <= other < day]
        usual_ticks = usual_markets = None
        if len(before) >= _FEWEST_DAYS:
            usual_ticks = round(averages.median(counts[other] for other in before))
            usual_markets = round(averages.median(len(by_day[other]) for other in before))
        unknown = None if without_ticks is None else without_ticks.get(day, ())
        if day not in counts:
            judged.append(DayCondition(day, Condition.MISSING, [], 0, 0, usual_ticks, usual_markets, unknown))
            continue
        on_day = {market_id: markets[market_id].on_day(day) for market_id in by_day[day] if market_id in markets}
        own = _day_gaps(day, holes, before, hours, statistics, by_day[day])
        found = [
            *own,
            *(
                _usual(counts[day], usual_ticks, below_percent)
                or _usual(len(by_day[day]), usual_markets, below_percent)
            ),
            *_summed(on_day, day),
        ]
        if unknown:
            found.append(Found("markets_without_ticks", len(unknown), is_note=True))
        if day >= today:
            found.append(Found("not_over", 1))
        condition = Condition.DEGRADED if any(not one.is_note for one in found) else Condition.GOOD
        lost = sum(end - start for one in own for start, end, _ in one.intervals)
        if lost >= _PARTIAL_US or day >= today:
            condition = Condition.PARTIAL
        markets_with: dict[str, int] = {}
        for some in on_day.values():
            for one in some:
                markets_with[one.reason] = markets_with.get(one.reason, 0) + 1
        judged.append(
            DayCondition(
                day, condition, found, counts[day], len(by_day[day]), usual_ticks, usual_markets, unknown, markets_with
            )
        )
    return judged


def _all_days(recorded: Sequence[int]) -> list[int]:
    """Return the days with ticks, and the days between them that the recording lacks."""
    days = list(recorded[:1])
    for before, day in zip(recorded, recorded[1:]):
        days += range(before + 1, day) if day - before <= _LONGEST_BREAK_DAYS else ()
        days.append(day)
    return days


def _holes(statistics: Iterable[Statistics]) -> list[tuple[int, int]]:
    """Return each interval of five minutes or more without a message of any market, and what is missing before the
    first and after the last message on their days.
    """
    spans = []
    for counted in statistics:
        start = counted["first"]
        if start is None:
            continue
        for quiet_from, quiet_to in counted["silent"]:
            spans.append((start, quiet_from))
            start = quiet_to
        spans.append((start, counted["last"]))
    if not spans:
        return []
    spans.sort()
    end = spans[0][0]
    holes = [(end // DAY_US * DAY_US, end)]  # from midnight to the first message
    for start, stop in spans:
        if start - end >= message_pace.SILENT_US:
            holes.append((end, start))
        end = max(end, stop)
    return [*holes, (end, (end // DAY_US + 1) * DAY_US)]


def _day_gaps(
    day: int,
    holes: Sequence[tuple[int, int]],
    before: Sequence[int],
    hours: Mapping[int, Mapping[int, int]],
    statistics: Mapping[str, Statistics],
    on_day: Sequence[str],
) -> list[Found]:
    """Return the gaps of the whole recording on a day: intervals without a message of any market, if the pace of a
    market that was open before and after does not explain them, or most days before have several markets in that hour.
    """
    gaps: list[Interval] = []
    midnight = day * DAY_US
    for hole_from, hole_to in holes:
        start, end = max(hole_from, midnight), min(hole_to, midnight + DAY_US)
        if start >= end:
            continue
        whole_hours = range(-(-(start - midnight) // HOUR_US), (end - midnight) // HOUR_US)
        usual = any(
            2 * sum(hours[other].get(hour, 0) >= _FEWEST_MARKETS for other in before) > len(before)
            for hour in whole_hours
        )
        if len(before) >= _FEWEST_DAYS and usual or _is_unexplained(hole_from, hole_to, statistics, on_day):
            gaps.append((start, end, 1))
    return [Found("gap", len(gaps), 0, gaps, len(gaps))] if gaps else []


def _is_unexplained(start: int, end: int, statistics: Mapping[str, Statistics], on_day: Sequence[str]) -> bool:
    """Return whether an interval without any message makes up half or more of a gap of one of the day's markets."""
    return any(
        quiet[0] <= start
        and end <= quiet[1] <= quiet[0] + 2 * (end - start)
        and message_pace.is_gap(quiet, in_play=False)
        for market_id in on_day
        for quiet in statistics[market_id]["quiet"]
    )


def _usual(count: int, usual: int | None, below_percent: int) -> list[Found]:
    return [Found("below_usual", 1)] if usual is not None and count * 100 < usual * below_percent else []


def _summed(on_day: Mapping[str, Sequence[Found]], day: int) -> list[Found]:
    """Return the reasons of a day's markets, added up; the intervals are listed with the markets."""
    counts: dict[tuple[str, bool], int] = {}
    for some in on_day.values():
        for found in some:
            key = found.reason, found.is_note
            counts[key] = counts.get(key, 0) + found.days[day]
    return [Found(reason, count, is_note=is_note) for (reason, is_note), count in sorted(counts.items())]
