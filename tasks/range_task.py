"""The base classes of tasks that make the files of UTC days from a whole export, or from a published one."""

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.cluster.published_export import PublishedExport
from tasks.csv_task import CsvTask, is_current, warnings
from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation import Consolidation
from tasks.export_directory.index_csv import IndexRow
from tasks.index import BuildIndex
from tasks.market_files.time_span import Span
from tasks.metadata import BuildMetadata
from tasks.publishing import manifest, publication
from tasks.publishing.place import Place, open_place
from tasks.publishing.transfers import AT_ONCE
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.workflow import findings, judging, run_context
from tasks.workflow.base_task import AllMarketsTask, FormatFrom
from tasks.workflow.exit_codes import EXIT_USAGE, determining, stop
from tasks.workflow.parameters import (
    AddressParameter,
    ChoiceParameter,
    ClusterParameter,
    DayParameter,
    PositiveParameter,
)


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
    store = AddressParameter(
        option="--store",
        default="",
        significant=False,
        description=(
            "with --spark-master, the address of a published export (s3://bucket/prefix, gs://bucket/prefix or"
            " file:///folder): the days are made from what is there, and put there"
        ),
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

    def export_tasks(self) -> list[Any]:
        """Return what brings the export up to date: nothing if it is a published one."""
        return [] if self.store else super().export_tasks()

    def failures(self) -> Mapping[str, str]:
        """Return why markets could not be exported in this run."""
        return {} if self.store else super().failures()

    def published(self) -> PublishedExport:
        """Return the published export as its manifest is now."""
        place = run_context.current().once(_place, self.store, os.getpid())
        return run_context.current().once(_published, place, place.read(manifest.NAME))

    def are_made(self, days: Sequence[datetime.date]) -> bool:
        """Return whether the files of days were made from what there is now."""
        if not self.store:
            return all(self.is_made(day) for day in days)
        with determining():
            published = self.published()
            published.rows_of(days, self.day_format)
            return all(published.is_made(day, self.day_format) for day in days)

    def days_by_ticks(self) -> tuple[Sequence[datetime.date], Sequence[datetime.date]]:
        """Return the days with ticks, and those without."""
        days = self.days
        with determining():
            if self.store:
                rows = self.published().rows_of(days, self.day_format)
                return [day for day in days if rows[day]], [day for day in days if not rows[day]]
            return run_context.current().once(
                _divided, self.layout, self.offline, self.allow_other_database, days[0], days[-1]
            )


def _place(address: str, pid: int) -> Place:
    """Open the place of a published export, anew in each process: connections cannot be shared."""
    return open_place("--store", address, AT_ONCE)


def _published(place: Place, listed: bytes | None) -> PublishedExport:
    if listed is None:
        publication.require_manifest(place)  # which says so
    return PublishedExport(place, manifest.parse(place.address, listed or b""))


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
