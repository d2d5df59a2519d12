"""The export of one day's markets: what ConsolidateDay needs of it, and no other market."""

import logging
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from tasks.export import ExportMarket, ExportMarkets, pending_exports
from tasks.export_directory import directory_scan
from tasks.market_files.time_span import Span
from tasks.metadata import BuildMetadata
from tasks.workflow import run
from tasks.workflow.base_task import AllMarketsTask
from tasks.workflow.parameters import DayParameter

_log = logging.getLogger("tick_export.day")


class StoredTicks(luigi.ExternalTask):
    """The ticks that a consolidation is asked for, in the database or in market files."""

    when = luigi.Parameter(description="UTC day, or ever")
    missing = luigi.Parameter(
        significant=False, visibility=ParameterVisibility.PRIVATE, description="what to say if there are none"
    )
    exist = luigi.BoolParameter(significant=False, visibility=ParameterVisibility.PRIVATE)

    def complete(self) -> bool:
        """Tell whether there are any."""
        if not self.exist:
            _log.error("%s", self.missing)
        return bool(self.exist)


class OfDay(AllMarketsTask):
    """A task on the markets with ticks on one UTC day."""

    date = DayParameter(description="UTC day, such as 2024-01-15")

    def plan(self) -> run.Plan:
        """Return the plan for the day's markets."""
        return run.plan_day(self.layout, self.date, allow_other_database=self.allow_other_database)

    def day_market_ids(self) -> list[str]:
        """Return the markets that the database has ticks of on that day."""
        return sorted(self.plan().stored.newest)

    def kept_market_ids(self) -> list[str]:
        """Return the markets whose files reach over that day."""
        span = Span.of_day(self.date)
        return sorted(market_id for market_id, facts in self.plan().disk.facts.items() if span.share(facts))


class ExportDayMarket(OfDay, ExportMarket):
    """Export one large market that has ticks on the day."""


class ExportDayMarkets(OfDay, ExportMarkets):
    """Export a group of small markets that have ticks on the day."""


class BuildDayMetadata(OfDay, BuildMetadata):
    """Write the metadata of the markets with ticks on the day."""

    def _market_ids(self) -> list[str]:
        return sorted({*self.day_market_ids(), *self.kept_market_ids()})


class IndexDay(OfDay):
    """Merge the markets with ticks on the day into index.csv."""

    def requires(self) -> Any:
        """Return those of the day's exports that are missing or out of date."""
        return pending_exports(self, ExportDayMarket, ExportDayMarkets)

    def output(self) -> luigi.LocalTarget:
        """Return index.csv."""
        return luigi.LocalTarget(str(self.layout.index))

    @property
    def result(self) -> Path:
        """index.csv"""
        return self.layout.index

    def complete(self) -> bool:
        """Tell whether index.csv says what lies in the files of the day's markets."""
        plan = self.plan()
        rows = directory_scan.index_rows(self.layout, plan.disk, plan.stored.events)
        markets = {*self.day_market_ids(), *self.kept_market_ids()}
        if not markets.isdisjoint(plan.disk.unreadable):
            return False
        return not plan.any_open(tuple(plan.pending)) and all(
            market_id in rows and rows[market_id] == plan.disk.index.get(market_id) for market_id in markets
        )

    def run(self) -> None:
        """Write the index: of what lies there, and what it said before of files that are damaged or gone."""
        layout = self.layout
        disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
        rows = disk.index | directory_scan.index_rows(layout, disk, self.plan().stored.events)
        directory_scan.publish_index(layout, disk, rows)
        self.say_done(f"index.csv: {len(rows):,} market files")
