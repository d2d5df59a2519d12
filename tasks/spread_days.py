"""The days of a range on a Spark cluster, from a folder that all its machines see or from a published export."""

import abc
import contextlib
import datetime
import functools
import logging
from collections.abc import Mapping
from typing import Any

from tasks.cluster import day_jobs, shared_days, spark_cluster
from tasks.cluster.day_jobs import Day
from tasks.cluster.published_days import PublishedDay
from tasks.cluster.published_export import Additions
from tasks.cluster.shared_days import SharedDay
from tasks.day_csv.consolidation import Consolidation
from tasks.errors import SomeDaysFailed
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files.time_span import Span
from tasks.range_task import RangeTask
from tasks.ticks.value_text import counted
from tasks.workflow.exit_codes import determining
from tasks.workflow.progress import DayProgress

_log = logging.getLogger("tick_export.consolidate")


class SpreadTask(RangeTask):
    """Makes the days of a range that have ticks, on a Spark cluster."""

    def requires(self) -> Any:
        """Return what brings the whole export up to date."""
        return self.export_tasks()

    def complete(self) -> bool:
        """Return whether each day's file was made from what there is now. If not, stop if there is no cluster."""
        if self.are_made(self.days_by_ticks()[0]):
            return True
        with determining():
            spark_cluster.require(self.spark_master)
        return False

    @abc.abstractmethod
    def work(self) -> None:
        """Make the days. Raises SomeDaysFailed at the end if some could not be made."""

    def make(self, days: Mapping[datetime.date, Day], rows: Mapping[datetime.date, Mapping[str, IndexRow]]) -> None:
        """Make days, of which these are the rows, on the cluster."""
        spans = {day: Span.of_day(day) for day in days}
        expected = [row.facts.tick_records * spans[day].share(row.facts) for day in days for row in rows[day].values()]
        progress = DayProgress(len(days), sum(expected))
        failed = day_jobs.make_days(self.spark_master, days, self.showing(progress, progress.count))
        for day, reason in sorted(failed.items()):
            _log.error("%s: %s", day, reason)
        if failed:
            named = ", ".join(map(str, sorted(failed)[:3])) + (" …" if len(failed) > 3 else "")
            raise SomeDaysFailed(
                f"{counted(len(failed), 'day')} failed ({named}; the lines above have the reasons), all others are"
                " done."
            )


class SpreadDays(SpreadTask):
    """Make the days of a range that have ticks, on a Spark cluster whose machines see the output directory."""

    def work(self) -> None:
        """Make the days. Raises SomeDaysFailed at the end if some could not be made."""
        rows = {day: self.rows_of(day) for day in self.days_by_ticks()[0] if not self.is_as_stored(day)}
        days = {day: SharedDay(self.layout, day, rows[day], self.wanted(day), int(self.part_rows)) for day in rows}
        try:
            self.make(days, rows)
        finally:
            shared_days.remove_parts(self.layout)
        self.say_done(f"{counted(len(days), 'day')} made on {self.spark_master}", _log)


class SpreadPublishedDays(SpreadTask):
    """Make the days of a range that have ticks, on a Spark cluster, from a published export, and put them there."""

    def work(self) -> None:
        """Make the days. Raises SomeDaysFailed at the end if some could not be made."""
        published = self.published()
        place, additions = published.place, Additions(published.place)
        found = published.rows_of(self.days_by_ticks()[0], self.day_format)
        rows = {day: found[day] for day in found if not published.is_made(day, self.day_format)}
        days = {
            day: PublishedDay(
                published.work_on(day, rows[day], self._wanted(day)),
                place,
                int(self.part_rows),
                functools.partial(additions.add, report_name=self.layout.day_report(day, self.day_format).name),
            )
            for day in rows
        }
        with contextlib.ExitStack() as at_end:  # in reverse
            at_end.callback(place.abandon, [day.name for day in days.values()])
            at_end.callback(additions.write)
            self.make(days, rows)
        self.say_done(f"{counted(len(days), 'day')} made on {self.spark_master}, in {self.store}", _log)

    def _wanted(self, date: datetime.date) -> Consolidation:
        paths = self.layout.day_csv(date, self.day_format), self.layout.day_report(date, self.day_format)
        note = "Condition: not judged by this run; see condition.json"
        return Consolidation(*paths, Span.of_day(date), str(date), self.chunk_rows, [note])
