"""ConsolidateRange: each day of many as a sorted file of its own, by Luigi's workers or by a Spark cluster."""

import datetime
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import luigi

from tasks.cluster import day_jobs, spark_cluster
from tasks.csv_task import CsvTask, StoredTicks, is_current, warnings
from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation import Consolidation
from tasks.day_csv.export_source import ExportSource
from tasks.errors import SomeDaysFailed
from tasks.export_directory.index_csv import IndexRow
from tasks.index import BuildIndex
from tasks.market_files.time_span import Span
from tasks.metadata import BuildMetadata
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks.value_text import counted
from tasks.workflow import findings, judging, run_context
from tasks.workflow.base_task import AllMarketsTask, FormatFrom
from tasks.workflow.exit_codes import EXIT_USAGE, determining, stop
from tasks.workflow.parameters import ChoiceParameter, ClusterParameter, DayParameter, PositiveParameter
from tasks.workflow.progress import DayProgress

_log = logging.getLogger("tick_export.consolidate")


class DaysTask(CsvTask, AllMarketsTask):
    """Makes files of UTC days from a whole export, which is brought up to date first unless offline."""

    unused_options = frozenset({"export_metadata"})
    format_from = FormatFrom.FILES_IF_OFFLINE

    day_format = ChoiceParameter(
        option="--day-format", choices=("csv", "parquet"), default="csv", description="format of the days' files"
    )

    def export_tasks(self) -> list[Any]:
        """Return what brings the export up to date."""
        return [] if self.offline else [self.clone(BuildIndex), self.clone(BuildMetadata)]

    def failures(self) -> Mapping[str, str]:
        """Return why markets could not be exported in this run."""
        return {} if self.offline else self.plan().failures()

    def rows_of(self, date: datetime.date) -> dict[str, IndexRow]:
        """Return the rows of index.csv, as it is now, of the markets with ticks on a day."""
        return export_source.with_ticks(self.layout, _indexed(self.layout), Span.of_day(date))

    def is_made(self, date: datetime.date) -> bool:
        """Return whether the day's file was made from what is in the database, or offline in the export, now."""
        return self.is_as_stored(date) and self._is_export_current()

    def is_as_stored(self, date: datetime.date) -> bool:
        """Return whether the day's file was made from the market files as they are."""
        with determining():
            published = consolidation_report.read(self.layout.day_report(date, self.day_format))
            if published is None or published.partial or not (self.offline or self.layout.index.exists()):
                return False
            rows = self.rows_of(date)
            return bool(rows) and is_current(self.layout, published, rows)

    def _is_export_current(self) -> bool:
        """Return whether the export is up to date. It is asked once per run, unless it is not."""
        try:
            run_context.current().once(_require_complete, *self.export_tasks())
        except _NotComplete:
            return False
        return True

    def wanted(self, date: datetime.date) -> Consolidation:
        """Return what is to be written for a day."""
        layout, span = self.layout, Span.of_day(date)
        rows = _indexed(layout)
        unknown = None if self.offline else judging.without_ticks(span.lower_us, span.upper_us, rows)
        notes = [*warnings(self.failures()), *judging.day_lines(layout, rows, date, unknown)]
        paths = layout.day_csv(date, self.day_format), layout.day_report(date, self.day_format)
        return Consolidation(*paths, span, str(date), self.chunk_rows, notes)


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


class RangeTask(DaysTask):
    """Makes files of the UTC days of a range."""

    # "from" is a keyword, so it cannot be assigned in the class body, but it can be in the class's namespace.
    locals()["from"] = DayParameter(option="--from", description="the first UTC day, such as 2024-01-01")
    to = DayParameter(option="--to", description="the last UTC day, such as 2024-01-31")
    spark_master = ClusterParameter(
        default="",
        significant=False,
        description="spread the days over this Spark cluster, such as spark://host:7077; local[2] is Spark here",
    )
    part_rows = PositiveParameter(
        option="--part-rows",
        default=10_000_000,
        significant=False,
        description="with --spark-master, a larger day is cut by time into parts of about so many ticks",
    )

    @property
    def days(self) -> list[datetime.date]:
        """The days. Stops with one line if there are none, or one is not over yet."""
        first: datetime.date = getattr(self, "from")
        if first > self.to:
            stop(f"--from is {first}, which is after --to, {self.to}. Exchange them.", EXIT_USAGE)
        if self.to >= datetime.datetime.now(datetime.UTC).date():
            stop(
                f"--to is {self.to}, which is not over yet in UTC. Its file would stay incomplete. Ask for days up to"
                " yesterday.",
                EXIT_USAGE,
            )
        return [first + datetime.timedelta(days=number) for number in range((self.to - first).days + 1)]

    def days_by_ticks(self) -> tuple[Sequence[datetime.date], Sequence[datetime.date]]:
        """Return the days with ticks, and those without."""
        days = self.days
        with determining():
            return run_context.current().once(
                _divided, self.layout, self.offline, self.allow_other_database, days[0], days[-1]
            )


class SpreadDays(RangeTask):
    """Make the days of a range that have ticks, on a Spark cluster."""

    def requires(self) -> Any:
        """Return what brings the whole export up to date."""
        return self.export_tasks()

    def complete(self) -> bool:
        """Return whether each day's file was made from what there is now. If not, stop if there is no cluster."""
        if all(self.is_made(day) for day in self.days_by_ticks()[0]):
            return True
        with determining():
            spark_cluster.require(self.spark_master)
        return False

    def work(self) -> None:
        """Make the days. Raises SomeDaysFailed at the end if some could not be made."""
        open_days = {day: self.rows_of(day) for day in self.days_by_ticks()[0] if not self.is_as_stored(day)}
        spans = {day: Span.of_day(day) for day in open_days}
        expected = [
            row.facts.tick_records * spans[day].share(row.facts)
            for day, rows in open_days.items()
            for row in rows.values()
        ]
        progress = DayProgress(len(open_days), sum(expected))
        failed = day_jobs.make_days(
            self.spark_master,
            self.layout,
            {day: (rows, self.wanted(day)) for day, rows in open_days.items()},
            int(self.part_rows),
            self.showing(progress, progress.count),
        )
        for day, reason in sorted(failed.items()):
            _log.error("%s: %s", day, reason)
        if failed:
            named = ", ".join(map(str, sorted(failed)[:3])) + (" …" if len(failed) > 3 else "")
            raise SomeDaysFailed(
                f"{counted(len(failed), 'day')} failed ({named}; the lines above have the reasons), all others are"
                " done."
            )
        self.say_done(f"{counted(len(open_days), 'day')} made on {self.spark_master}", _log)


class ConsolidateRange(RangeTask):
    """Write each UTC day from --from to --to, both included, as one sorted CSV (or Parquet file) with a report.

    The bytes are those of ConsolidateDay. The whole export is brought up to date first, as ExportAll does, unless
    --offline. A day that fails is named and stops no other. The days are made by the workers, several at once; with
    --spark-master they are spread over a Spark cluster, whose machines see the output directory under the same path.
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
        where = "in index.csv" if self.offline else "in the database or in a market file"
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
            return [*([self.clone(SpreadDays)] if days else ()), *missing]
        return [*(self.clone(ConsolidateStoredDay, date=day) for day in days), *missing]

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"the {counted(len(self.days), 'day')} in {self.layout.output_dir} are up to date with the market files"

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "in the days' files"

    def complete(self) -> bool:
        """Return whether each day's file was made from what there is now."""
        return all(self.is_made(day) for day in self.days)

    def work(self) -> Mapping[str, str]:
        """Return why markets could not be exported."""
        self.say_done(f"{counted(len(self.days), 'day')} in {self.layout.output_dir}", _log)
        return self.failures()


class _NotComplete(Exception):
    """A task is not complete."""


def _require_complete(*tasks: Any) -> None:
    if not all(task.complete() for task in tasks):
        raise _NotComplete


def _indexed(layout: Layout) -> Mapping[str, IndexRow]:
    """Return the rows of index.csv as it is now; it is read again when it has changed."""
    if not layout.index.exists():
        return export_source.indexed(layout)  # which says so
    return run_context.current().once(_read_index, layout, FileStat.of_path(layout.index))


def _read_index(layout: Layout, stat: FileStat) -> Mapping[str, IndexRow]:
    return export_source.indexed(layout)


def _divided(
    layout: Layout, offline: bool, allow_other_database: bool, first: datetime.date, last: datetime.date
) -> tuple[Sequence[datetime.date], Sequence[datetime.date]]:
    """Return the days with ticks in the index or, unless offline, in the database, and those without."""
    rows: Mapping[str, IndexRow] = {}
    if offline or layout.index.exists():
        rows = _indexed(layout)
    if offline:
        export_source.refuse_unindexed(layout, rows)
    found: tuple[list[datetime.date], list[datetime.date]] = [], []
    for number in range((last - first).days + 1):
        day = first + datetime.timedelta(days=number)
        has_ticks = bool(export_source.with_ticks(layout, rows, Span.of_day(day))) or (
            not offline and bool(findings.look_at_day(layout, day, allow_other_database).stored.newest)
        )
        found[not has_ticks].append(day)
    return found
