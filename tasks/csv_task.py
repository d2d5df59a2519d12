"""The base classes of tasks that write a consolidated CSV."""

import dataclasses
import datetime
import logging
from collections.abc import Mapping
from pathlib import Path

import luigi
from luigi.parameter import ParameterVisibility

from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation import Consolidation, TickSource, consolidate
from tasks.day_csv.consolidation_report import PARTIAL, Published, Totals
from tasks.export_directory.index_csv import IndexRow
from tasks.storage.layout import Layout
from tasks.workflow import clocks
from tasks.workflow.base_task import DayTask, ExportTask
from tasks.workflow.exit_codes import EXIT_USAGE, stop
from tasks.workflow.parameters import PositiveParameter
from tasks.workflow.progress import RowProgress

_log = logging.getLogger("tick_export.consolidate")


class StoredTicks(luigi.ExternalTask):
    """The ticks for a consolidation, in the database or in market files."""

    when = luigi.Parameter(description="UTC day, or ever")
    missing = luigi.Parameter(
        significant=False, visibility=ParameterVisibility.PRIVATE, description="what to say if there are none"
    )
    exist = luigi.BoolParameter(significant=False, visibility=ParameterVisibility.PRIVATE)

    def complete(self) -> bool:
        """Return whether there are any."""
        if not self.exist:
            _log.error("%s", self.missing)
        return bool(self.exist)


class CsvTask(ExportTask):
    """Writes a consolidated CSV and its report."""

    chunk_rows = PositiveParameter(
        option="--chunk-rows",
        default=1_500_000,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="rows sorted and rendered at a time; limits memory",
    )

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "in the CSV"

    def consolidate(self, wanted: Consolidation, source: TickSource) -> Totals:
        """Write CSV and report, showing progress."""
        progress = RowProgress(sum(source.expected_rows))
        count = self.showing(progress, progress.count_slice)
        totals = consolidate(dataclasses.replace(wanted, chunk_rows=self.chunk_rows, progress=count), source)
        progress.count(1, 0)
        text = f"{wanted.csv.name}: {totals.rows:,} rows written, {totals.duplicates:,} duplicates removed"
        self.say_done(text, _log)
        return totals


class DayCsvTask(CsvTask, DayTask):
    """Writes the CSV of one UTC day."""

    allow_partial = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="write a day that is not over yet; the report says so and a later run rebuilds it",
    )

    @property
    def is_over(self) -> bool:
        """Whether the day is over, in UTC, also by the server's clock."""
        now = datetime.datetime.now(datetime.UTC)
        if self.date < now.date() and not self.offline:  # this machine's clock can be days ahead
            now = datetime.datetime.fromtimestamp(clocks.now_us() / 1e6, datetime.UTC)
        return bool(self.date < now.date())

    def require_over(self) -> None:
        """Stop with one line if the day is not over, unless that is wanted."""
        if not self.is_over and not self.allow_partial:
            stop(
                f"--date is {self.date}, which is not over yet in UTC. Its file would stay incomplete. Ask for an"
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

    def wanted(self, failed: Mapping[str, str]) -> Consolidation:
        """Return what is to be written. failed: why markets of the day are not in it, or not as they should be."""
        notes = (
            [] if self.is_over else [f"{PARTIAL}: written before {self.date} was over in UTC. A later run rebuilds it."]
        )
        notes += warnings(failed)
        return Consolidation(
            self.layout.day_csv(self.date), self.layout.day_report(self.date), self.span, str(self.date), notes=notes
        )


def warnings(failed: Mapping[str, str]) -> list[str]:
    """Return the lines of a report that name the markets that are missing from the CSV or not up to date in it."""
    return [
        f"WARNING: market {market_id!r} is missing or not up to date: {reason}"
        for market_id, reason in sorted(failed.items())
    ]


def is_current(layout: Layout, published: Published, rows: Mapping[str, IndexRow]) -> bool:
    """Return whether a report lists exactly the current markets and checksums, and its files are there."""
    return published.inputs == export_source.inputs(layout, rows.values()) and consolidation_report.is_in_place(
        published, layout.output_dir
    )
