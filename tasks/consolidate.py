"""ConsolidateDay and ConsolidateAll: market files as sorted CSVs."""

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from tasks.csv_task import CsvTask, DayCsvTask, StoredTicks, is_current, warnings
from tasks.day import BuildDayMetadata, IndexDay
from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation import Consolidation
from tasks.day_csv.export_source import ExportSource
from tasks.export_directory import directory_scan
from tasks.export_directory.index_csv import IndexRow
from tasks.index import BuildIndex
from tasks.market_files.time_span import Span
from tasks.metadata import BuildMetadata
from tasks.storage.layout import Layout
from tasks.ticks.value_text import size_text
from tasks.workflow import judging, run_context
from tasks.workflow.base_task import AllMarketsTask, DayMarketsTask, FormatFrom
from tasks.workflow.exit_codes import determining
from tasks.workflow.parameters import PositiveParameter

_log = logging.getLogger("tick_export.consolidate")


class ConsolidateDay(DayCsvTask, DayMarketsTask):
    """Write one UTC day of the export as one sorted CSV, consolidated_ticks_YYYY_MM_DD.csv, with a report."""

    writes = "consolidated_ticks_YYYY_MM_DD.csv, consolidation_report_YYYY_MM_DD.txt"
    examples = ("--date 2024-01-15 --workers 2", "--date 2024-01-15 --offline --output-dir their_export")

    unused_options = frozenset({"export_metadata"})
    format_from = FormatFrom.FILES_IF_OFFLINE

    def requires(self) -> Any:
        """Return index and metadata of the day's markets, and with them the exports that are missing."""
        if not self.rows_before and (self.offline or not self.plan().stored.newest):
            where = "in index.csv" if self.offline else "in the database or in a market file"
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
        with determining():
            if self.offline:
                rows = run_context.current().once(_index_offline, self.layout)
            else:
                rows = directory_scan.index_rows(self.layout, self.plan().disk, self.plan().stored.events)
            return export_source.with_ticks(self.layout, rows, self.span)

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.layout.day_csv(self.date)} is up to date with the market files"

    def complete(self) -> bool:
        """Return whether the report names the checksums that all markets with ticks on the day have now, and the CSV is
        there.
        """
        self.require_over()
        rows = self.rows_before
        with determining():
            published = consolidation_report.read(self.layout.day_report(self.date))
        if published is None or published.partial or not rows:
            return False
        if not self.offline and not (
            rows.keys() >= set(self.day_market_ids())
            and not self.plan().stored.refused
            and all(task.complete() for task in self.requires())
        ):
            return False
        return is_current(self.layout, published, rows)

    def work(self) -> Mapping[str, str]:
        """Write the day; return why markets of it could not be exported."""
        layout = self.layout
        failed: Mapping[str, str] = {} if self.offline else self.plan().failures()
        rows = export_source.with_ticks(layout, export_source.indexed(layout), self.span)
        wanted = self.wanted(failed)
        wanted = dataclasses.replace(wanted, notes=[*wanted.notes, *self._condition()])
        self.consolidate(wanted, ExportSource(layout, rows, wanted.span))
        return failed

    def _condition(self) -> list[str]:
        """Return what is to be said of the condition of the day."""
        rows, span = export_source.indexed(self.layout), self.span
        unknown = None if self.offline else judging.without_ticks(span.lower_us, span.upper_us, rows)
        return judging.day_lines(self.layout, rows, self.date, unknown)


class ConsolidateAll(CsvTask, AllMarketsTask):
    """Write the whole export as one sorted CSV, consolidated_ticks.csv, with a report."""

    writes = (
        "consolidated_ticks.csv, consolidation_report.txt; with --partition-by-month, consolidated_ticks_YYYY_MM.csv"
    )
    examples = ("", "--partition-by-month --partition-threshold-gb 2")

    unused_options = frozenset({"export_metadata"})
    format_from = FormatFrom.FILES_IF_OFFLINE

    partition_by_month = luigi.BoolParameter(
        default=False, description="also write one file per month if the CSV is larger than --partition-threshold-gb"
    )
    partition_threshold_gb = PositiveParameter(
        option="--partition-threshold-gb",
        kind=float,
        default=8.0,
        significant=False,
        description="size in GB above which monthly files are written",
    )

    def requires(self) -> Any:
        """Return index and metadata of all markets, and with them the exports that are missing."""
        with determining():
            rows: Mapping[str, IndexRow] = (
                run_context.current().once(_index_offline, self.layout) if self.offline else {}
            )
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

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.layout.full_csv} is up to date with the market files"

    def complete(self) -> bool:
        """Return whether the report names the checksums that all markets with ticks have now, and the CSV is there."""
        tasks = luigi.task.flatten(self.requires())
        with determining():
            published = consolidation_report.read(self.layout.full_report)
        if (
            published is None
            or not self.offline
            and self.plan().any_failed()
            or not all(task.complete() for task in tasks)
        ):
            return False
        with determining():
            rows = _with_ticks(export_source.indexed(self.layout))
        if (
            self.partition_by_month
            and published.file.size_bytes > self.partition_threshold_gb * 1e9
            and not published.parts
        ):
            return False
        return is_current(self.layout, published, rows) and not _months_of_earlier(self.layout)

    def work(self) -> Mapping[str, str]:
        """Write the CSV; return why markets could not be exported."""
        layout = self.layout
        failed: Mapping[str, str] = {} if self.offline else self.plan().failures()
        rows = _with_ticks(export_source.indexed(layout))
        ticks = [
            tick for row in rows.values() for tick in (row.facts.first_tick, row.facts.last_tick) if tick is not None
        ]
        wanted = Consolidation(
            layout.full_csv,
            layout.full_report,
            Span(min(ticks), max(ticks) + 1),
            notes=warnings(failed),
            part_bytes=self.partition_threshold_gb * 1e9 if self.partition_by_month else None,
            part_path=layout.month_csv,
        )
        self.consolidate(wanted, ExportSource(layout, rows, wanted.span))
        size_bytes = layout.full_csv.stat().st_size
        if self.partition_by_month and size_bytes <= self.partition_threshold_gb * 1e9:
            _log.info(
                "No months written: %s has %s, they are written above --partition-threshold-gb, %g GB.",
                layout.full_csv.name,
                size_text(size_bytes),
                self.partition_threshold_gb,
            )
        for path in _months_of_earlier(layout):
            _log.info("Removed %s, a month of an earlier CSV.", path.name)
            path.unlink()
        return failed


def _index_offline(layout: Layout) -> Mapping[str, IndexRow]:
    """Return the index of an export that is taken as it is. Raises UsageError if there is none."""
    rows = export_source.indexed(layout)
    export_source.refuse_unindexed(layout, rows)
    return rows


def _with_ticks(rows: Mapping[str, IndexRow]) -> dict[str, IndexRow]:
    return {market_id: rows[market_id] for market_id in sorted(rows) if rows[market_id].facts.tick_records}


def _months_of_earlier(layout: Layout) -> list[Path]:
    """Return the month files of an earlier CSV that the new one does not have: they would become out of date."""
    published = consolidation_report.read(layout.full_report)
    current = {part.name for part in published.parts} if published else set()
    return [path for path in layout.month_csvs() if path.name not in current]
