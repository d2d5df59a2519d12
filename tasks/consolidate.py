"""ConsolidateDay, ConsolidateAll and ConsolidateDayDirect."""

import dataclasses
import datetime
import functools
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility
from tqdm import tqdm

from tasks.day import BuildDayMetadata, IndexDay, OfDay, StoredTicks
from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation import Consolidation, TickSource, consolidate
from tasks.day_csv.consolidation_report import PARTIAL, Published, Totals
from tasks.day_csv.database_source import DatabaseSource, Runners, runners_between
from tasks.day_csv.export_source import ExportSource
from tasks.errors import UnreadableMarket
from tasks.export_directory import directory_scan
from tasks.export_directory.index_csv import IndexRow
from tasks.exporting import execution_report
from tasks.index import BuildIndex, raise_failed, take_failures
from tasks.market_files.time_span import Span
from tasks.metadata import BuildMetadata
from tasks.postgres.database import Database
from tasks.storage.layout import Layout
from tasks.workflow import run
from tasks.workflow.base_task import AllMarketsTask, ExportTask
from tasks.workflow.exit_codes import EXIT_USAGE, stop
from tasks.workflow.parameters import DayParameter, PositiveParameter
from tasks.workflow.progress import Progress

_log = logging.getLogger("tick_export.consolidate")


class RowProgress(Progress):
    """Counts the rows and slices of one consolidation."""

    def __init__(self, expected_rows: float) -> None:
        super().__init__()
        self.expect(1, expected_rows)
        self._slices = 0

    def count_slice(self, rows: int) -> None:
        """Count a finished slice of so many rows."""
        self._slices += 1
        self.count(0, rows)

    @property
    def text(self) -> str:
        """The state in words: 1,200,000 of about 2,400,000 rows, 8 slices, 900,000 rows/s, about 00:01 left."""
        rows, expected = self._numbers[1], self._numbers[3]
        rate = rows / max(time.monotonic() - self._started, 1e-3)
        left = f", about {tqdm.format_interval(max(expected - rows, 0) / rate)} left" if rate else ""
        return (
            f"{rows:,.0f} of about {max(expected, rows):,.0f} rows, {self._slices:,} slices, {rate:,.0f} rows/s{left}"
        )


class _Consolidate(ExportTask):
    """What the three consolidations share."""

    chunk_rows = PositiveParameter(
        option="--chunk-rows",
        default=1_500_000,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="rows sorted and made text at a time; bounds the memory",
    )

    def consolidate(self, wanted: Consolidation, source: TickSource) -> Totals:
        """Write CSV and report, showing progress."""
        progress = RowProgress(sum(source.expected_rows))

        def count(rows: int) -> None:
            progress.count_slice(rows)
            self.say(progress.text, progress.percent)

        totals = consolidate(dataclasses.replace(wanted, chunk_rows=self.chunk_rows, progress=count), source)
        text = f"{wanted.csv.name}: {totals.rows:,} rows written, {totals.duplicates:,} duplicates removed"
        _log.info("%s.", text)
        self.say_done(text)
        return totals


class _OneDay(_Consolidate):
    """What the consolidations of one day share."""

    date = DayParameter(description="UTC day, such as 2024-01-15")
    allow_partial = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="write a day that is not over yet; the report says so, and a later run rebuilds it",
    )

    @property
    def is_over(self) -> bool:
        """Whether the day is over, in UTC."""
        return bool(self.date < datetime.datetime.now(datetime.UTC).date())

    def require_over(self) -> None:
        """Stop with one line where the day is not over, unless that is wanted."""
        if not self.is_over and not self.allow_partial:
            stop(
                f"--date is {self.date}, which is not over yet in UTC: its file would stay incomplete. Ask for an"
                " earlier day, or use --allow-partial for a trial.",
                EXIT_USAGE,
            )

    def output(self) -> list[luigi.LocalTarget]:
        """Return the day's CSV and report."""
        return [
            luigi.LocalTarget(str(path)) for path in (self.layout.day_csv(self.date), self.layout.day_report(self.date))
        ]

    @property
    def result(self) -> Path:
        """The day's report."""
        return self.layout.day_report(self.date)

    def wanted(self, failed: dict[str, str]) -> Consolidation:
        """Return what is to be written. failed: why markets of the day are not in it, or not as they should be."""
        notes = (
            []
            if self.is_over
            else [f"{PARTIAL}: written before {self.date} was over in UTC. A later run makes it anew."]
        )
        notes += [
            f"WARNING: market {market_id!r} is missing or not up to date: {reason}"
            for market_id, reason in sorted(failed.items())
        ]
        return Consolidation(
            self.layout.day_csv(self.date),
            self.layout.day_report(self.date),
            Span.of_day(self.date),
            str(self.date),
            notes=notes,
        )


class ConsolidateDay(_OneDay, OfDay):
    """Write one UTC day of the export as one sorted CSV, consolidated_ticks_YYYY_MM_DD.csv, with a report."""

    @property
    def layout(self) -> Layout:
        """The paths of the export, offline in the format that it has."""
        return export_source.as_it_lies(super().layout) if self.offline else super().layout

    def requires(self) -> Any:
        """Return index and metadata of the day's markets, and with them the exports that are missing."""
        if not self.rows_before and (self.offline or not self.plan().stored.newest):
            where = "in index.csv" if self.offline else "in the database, nor in a market file"
            return StoredTicks(
                when=str(self.date),
                exist=False,
                missing=(
                    f"There are no ticks on {self.date} (UTC) {where}. Check --date: the recorder was down, or nobody"
                    " has exported the day before the platform dropped it."
                ),
            )
        return [] if self.offline else [self.clone(IndexDay), self.clone(BuildDayMetadata)]

    @functools.cached_property
    def rows_before(self) -> dict[str, IndexRow]:
        """The index rows of the files with ticks on the day, as they are before anything runs."""
        with run.determining():
            if self.offline:
                rows = _index_offline(self.layout)
            else:
                rows = directory_scan.index_rows(self.layout, self.plan().disk, self.plan().stored.events)
            return export_source.with_ticks(self.layout, rows, Span.of_day(self.date))

    def complete(self) -> bool:
        """Tell whether the report names the checksums that all markets with ticks on the day have now, and the CSV is
        there.
        """
        self.require_over()
        rows = self.rows_before
        published = consolidation_report.read(self.layout.day_report(self.date))
        if published is None or published.partial or not rows:
            return False
        if not self.offline and not (
            rows.keys() >= set(self.day_market_ids())
            and not self.plan().stored.refused
            and all(task.complete() for task in self.requires())
        ):
            return False
        return _is_current(self.layout, published, rows)

    def run(self) -> None:
        """Write the day; fail, last of all, where markets of it could not be exported."""
        layout = self.layout
        failed = {} if self.offline else take_failures(self.plan())
        rows = export_source.with_ticks(layout, export_source.indexed(layout), Span.of_day(self.date))
        wanted = self.wanted(failed)
        self.consolidate(wanted, ExportSource(layout, rows, wanted.span))
        raise_failed(failed, "in the CSV")


class ConsolidateAll(_Consolidate, AllMarketsTask):
    """Write the whole export as one sorted CSV, consolidated_ticks.csv, with a report."""

    partition_by_month = luigi.BoolParameter(
        default=False, description="write a file for each month too, if the CSV is larger than --partition-threshold-gb"
    )
    partition_threshold_gb = PositiveParameter(
        option="--partition-threshold-gb",
        kind=float,
        default=8.0,
        significant=False,
        description="size in GB above which months get files",
    )

    @property
    def layout(self) -> Layout:
        """The paths of the export, offline in the format that it has."""
        return export_source.as_it_lies(super().layout) if self.offline else super().layout

    def requires(self) -> Any:
        """Return index and metadata of all markets, and with them the exports that are missing."""
        with run.determining():
            rows: Mapping[str, IndexRow] = _index_offline(self.layout) if self.offline else {}
        if not any(row.facts.tick_records for row in rows.values()) and (
            self.offline
            or not (
                any(self.plan().stored.with_ladder())
                or any(facts.tick_records for facts in self.plan().disk.facts.values())
            )
        ):
            return StoredTicks(
                when="ever", exist=False, missing="There are no ticks at all. Check POSTGRES_DB and --output-dir."
            )
        return [] if self.offline else [self.clone(BuildIndex), self.clone(BuildMetadata)]

    def output(self) -> list[luigi.LocalTarget]:
        """Return CSV and report."""
        return [luigi.LocalTarget(str(path)) for path in (self.layout.full_csv, self.layout.full_report)]

    @property
    def result(self) -> Path:
        """The report."""
        return self.layout.full_report

    def complete(self) -> bool:
        """Tell whether the report names the checksums that all markets with ticks have now, and the CSV is there."""
        tasks = luigi.task.flatten(self.requires())
        published = consolidation_report.read(self.layout.full_report)
        if (
            published is None
            or not self.offline
            and self.plan().any_failed()
            or not all(task.complete() for task in tasks)
        ):
            return False
        with run.determining():
            rows = _with_ticks(export_source.indexed(self.layout))
        if (
            self.partition_by_month
            and published.file.size_bytes > self.partition_threshold_gb * 1e9
            and not published.parts
        ):
            return False
        return _is_current(self.layout, published, rows) and not _months_of_earlier(self.layout)

    def run(self) -> None:
        """Write the CSV; fail, last of all, where markets could not be exported."""
        layout = self.layout
        failed = {} if self.offline else take_failures(self.plan())
        rows = _with_ticks(export_source.indexed(layout))
        ticks = [
            tick for row in rows.values() for tick in (row.facts.first_tick, row.facts.last_tick) if tick is not None
        ]
        wanted = Consolidation(
            layout.full_csv,
            layout.full_report,
            Span(min(ticks), max(ticks) + 1),
            notes=[
                f"WARNING: market {market_id!r} is missing or not up to date: {reason}"
                for market_id, reason in sorted(failed.items())
            ],
            part_bytes=self.partition_threshold_gb * 1e9 if self.partition_by_month else None,
            part_path=layout.month_csv,
        )
        self.consolidate(wanted, ExportSource(layout, rows, wanted.span))
        for path in _months_of_earlier(layout):
            _log.info("Removed %s: it was a month of an earlier CSV.", path.name)
            path.unlink()
        raise_failed(failed, "in the CSV")


class ConsolidateDayDirect(_OneDay):
    """Write one UTC day straight from the database as one sorted CSV, the same bytes as ConsolidateDay, without an
    export.
    """

    output_dir = luigi.Parameter(
        default="data_exports/direct", description="directory of CSV and report; made if it does not exist"
    )

    def requires(self) -> Any:
        """Return the day's ticks in the database."""
        return StoredTicks(
            when=str(self.date),
            missing=(
                f"The database has no ticks on {self.date} (UTC). Check --date and POSTGRES_DB. If the platform has"
                " dropped that day, an export made before may still have it: try ConsolidateDay."
            ),
            exist=bool(_runners(self.date).selections),
        )

    def complete(self) -> bool:
        """Return False: this always runs. Stop where the day is not over."""
        self.require_over()
        if self.offline:
            stop(
                "ConsolidateDayDirect reads the database: --offline makes no sense with it. Use ConsolidateDay"
                " --offline.",
                EXIT_USAGE,
            )
        with run.determining():
            run.claim(self.layout)
        return False

    def run(self) -> None:
        """Write the day; begin again without a market that cannot be read, and fail, last of all, if there was one."""
        runners = _runners(self.date)
        failed = execution_report.refused(runners.refused)
        while selections := {name: found for name, found in runners.selections.items() if name not in failed}:
            wanted = self.wanted(failed)
            try:
                with DatabaseSource(run.server(), wanted.span, selections) as source:
                    self.consolidate(wanted, source)
                break
            except UnreadableMarket as error:
                _log.warning("%s. Beginning again without it.", error)
                failed[error.market_id] = str(error)
        raise_failed(failed, "in the CSV")


@functools.cache
def _runners(date: datetime.date) -> Runners:
    with run.determining(), Database(run.server()) as database:
        return runners_between(database, Span.of_day(date))


@functools.cache
def _index_offline(layout: Layout) -> Mapping[str, IndexRow]:
    """Return the index of an export that is taken as it lies. Raises UsageError where it is none."""
    rows = export_source.indexed(layout)
    run.claim(layout)
    export_source.refuse_unindexed(layout, rows)
    return rows


def _with_ticks(rows: Mapping[str, IndexRow]) -> dict[str, IndexRow]:
    return {market_id: rows[market_id] for market_id in sorted(rows) if rows[market_id].facts.tick_records}


def _months_of_earlier(layout: Layout) -> list[Path]:
    """Return the months of a CSV that has been replaced by one without them: nothing keeps them up to date."""
    published = consolidation_report.read(layout.full_report)
    current = {part.name for part in published.parts} if published else set()
    return [path for path in layout.month_csvs() if path.name not in current]


def _is_current(layout: Layout, published: Published, rows: dict[str, IndexRow]) -> bool:
    """Tell whether a report names exactly the markets and checksums of now, and its files are there."""
    return published.inputs == export_source.inputs(layout, rows.values()) and consolidation_report.is_in_place(
        published, layout.output_dir
    )


@ConsolidateDay.event_handler(luigi.Event.DEPENDENCY_PRESENT)
@ConsolidateAll.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_unchanged(task: ConsolidateDay | ConsolidateAll) -> None:
    _log.info("Nothing to do: %s is what the market files make.", task.output()[0].path)
