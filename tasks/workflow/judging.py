"""Judge the condition of an export with the settings, the clock and the database of the run."""

import datetime
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from tasks.condition import export_condition
from tasks.condition.export_condition import ExportCondition
from tasks.condition.reasons import Condition
from tasks.errors import ExportError
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.time_span import DAY_US, Span
from tasks.postgres import known_markets
from tasks.postgres.database import Database
from tasks.statistics import statistics_store
from tasks.storage.layout import Layout
from tasks.workflow import findings
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.condition")

#: The number of days before a day that are needed to judge it.
_BEFORE_US = 7 * DAY_US

#: By day since 1970, the markets that the database lists but has no ticks for.
WithoutTicks = Mapping[int, Sequence[str]]


def judge_export(
    layout: Layout,
    rows: Mapping[str, IndexRow],
    without_ticks: WithoutTicks | None,
    progress: Callable[[int, int], None] = lambda markets, ticks: None,
) -> tuple[ExportCondition, dict[str, str]]:
    """Judge everything that an index lists; return the condition, and why market files could not be read."""
    found, failed = statistics_store.load(layout, rows, progress)
    return export_condition.judge(layout, found, tick_export().day_below_percent, today(), without_ticks), failed


def judge_day(
    layout: Layout, rows: Mapping[str, IndexRow], date: datetime.date, without_ticks: WithoutTicks | None
) -> ExportCondition:
    """Judge a day by its markets and those of the days before."""
    span = Span.of_day(date)
    span = Span(span.lower_us - _BEFORE_US, span.upper_us)
    near = {market_id: row for market_id, row in rows.items() if span.share(row.facts)}
    found, _ = statistics_store.load(layout, near, save=False)
    return export_condition.judge(layout, found, tick_export().day_below_percent, today(), without_ticks)


def day_lines(
    layout: Layout, rows: Mapping[str, IndexRow], date: datetime.date, without_ticks: WithoutTicks | None
) -> list[str]:
    """Return a report's lines about the condition of a day; a line with the reason if it is unknown."""
    try:
        judged = judge_day(layout, rows, date, without_ticks)
    except (ExportError, OSError) as error:  # the day itself is as it should be
        return [f"Condition: unknown, {error}"]
    day = judged.day(date)
    if day is None:
        return []
    text = export_condition.told(judged, date)
    if day.condition != Condition.GOOD or text:
        _log.warning("%s (UTC): %s.", date, text)
    return [f"Condition: {text or day.condition}"]


def without_ticks(first_us: int, end_us: int, rows: Mapping[str, IndexRow]) -> WithoutTicks:
    """Return the markets that the database lists for [first_us, end_us) but has no ticks for. Raises DatabaseError."""
    ticks = {market_id for market_id, row in rows.items() if row.facts.tick_records}
    with Database(findings.server()) as database:
        return known_markets.without_ticks(database, first_us, end_us, ticks)


def today() -> datetime.date:
    """Return the UTC day that is not over."""
    return datetime.datetime.now(datetime.UTC).date()


def reaches(markets: Iterable[FileFacts], date: datetime.date) -> bool:
    """Return whether a market has ticks on a day or after it."""
    lower_us = Span.of_day(date).lower_us
    return any(facts.last_tick is not None and facts.last_tick >= lower_us for facts in markets)
