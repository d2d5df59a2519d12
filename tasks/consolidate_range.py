"""ConsolidateRange: each day of many as a sorted file of its own, by Luigi's workers or by a Spark cluster."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from tasks.csv_task import StoredTicks
from tasks.day_csv.export_source import ExportSource
from tasks.range_task import DaysTask, RangeTask
from tasks.spread_days import SpreadDays, SpreadPublishedDays
from tasks.ticks.value_text import counted
from tasks.workflow.exit_codes import EXIT_USAGE, stop
from tasks.workflow.parameters import DayParameter

_log = logging.getLogger("tick_export.consolidate")


class ConsolidateStoredDay(DaysTask):
    """Write one UTC day of an export that is up to date as one sorted file, with a report."""

    date = DayParameter(description="UTC day, such as 2024-01-15")

    def requires(self) -> Any:
        """Return what brings the whole export up to date."""
        return self.export_tasks()

    def output(self) -> list[luigi.LocalTarget]:
        """Return the day's file and report."""
        paths = self.layout.day_csv(self.date, self.day_format), self.layout.day_report(self.date, self.day_format)
        return [luigi.LocalTarget(str(path)) for path in paths]

    @property
    def result(self) -> Path:
        """The day's report."""
        return self.layout.day_report(self.date, self.day_format)

    def complete(self) -> bool:
        """Return whether the day's file was made from what there is now."""
        return self.is_made(self.date)

    def work(self) -> None:
        """Write the day, unless what was exported in this run did not change it."""
        if self.is_as_stored(self.date):
            self.say_done(f"{self.layout.day_csv(self.date, self.day_format).name} is up to date")
            return
        wanted = self.wanted(self.date)
        self.consolidate(wanted, ExportSource(self.layout, self.rows_of(self.date), wanted.span))


class ConsolidateRange(RangeTask):
    """Write each UTC day from --from to --to, both included, as one sorted CSV (or Parquet file) with a report.

    The bytes are those of ConsolidateDay. The whole export is brought up to date first, as ExportAll does, unless
    --offline. A day that fails is named and stops no other. The days are made by the workers, several at once; with
    --spark-master they are spread over a Spark cluster, whose machines see the output directory under the same path, or
    with --store fetch what they need from a published export, and put the days there.
    """

    writes = "for each day what ConsolidateDay writes; with --day-format parquet, consolidated_ticks_YYYY_MM_DD.parquet"
    examples = (
        "--from 2024-01-01 --to 2024-01-31 --workers 2",
        "--from 2024-01-01 --to 2024-01-31 --day-format parquet",
        "--from 2024-01-01 --to 2024-01-31 --spark-master local[2]",
    )

    def requires(self) -> Any:
        """Return the tasks that make the days. Days without ticks are missing data."""
        days, without = self.days_by_ticks()
        where = "in the database or in a market file"
        if self.offline or self.store:
            where = f"in index.csv{f' of {self.store}' if self.store else ''}"
        missing = [
            StoredTicks(
                when=str(day),
                exist=False,
                missing=(
                    f"There are no ticks on {day} (UTC) {where}, so it gets no file: the recorder was down, or nobody"
                    " has exported the day before the platform dropped it."
                ),
            )
            for day in without
        ]
        if self.spark_master:
            spread = SpreadPublishedDays if self.store else SpreadDays
            return [*([self.clone(spread)] if days else ()), *missing]
        return [*(self.clone(ConsolidateStoredDay, date=day) for day in days), *missing]

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"the {counted(len(self.days), 'day')} in {self._where} are up to date with the market files"

    @property
    def _where(self) -> str:
        return str(self.store or self.layout.output_dir)

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "in the days' files"

    def complete(self) -> bool:
        """Return whether each day's file was made from what there is now."""
        if self.store and not self.spark_master:
            stop("--store needs --spark-master, because executors of a cluster make the days there.", EXIT_USAGE)
        return self.are_made(self.days)

    def work(self) -> Mapping[str, str]:
        """Return why markets could not be exported."""
        self.say_done(f"{counted(len(self.days), 'day')} in {self._where}", _log)
        return self.failures()
