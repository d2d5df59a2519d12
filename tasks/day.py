"""The export of one day's markets: what ConsolidateDay needs of it, and no other market."""

from pathlib import Path
from typing import Any

import luigi

from tasks.export import pending_exports
from tasks.export_directory import directory_scan
from tasks.metadata import SomeMarketsMetadata
from tasks.some_markets import MarketGroupExport, OneMarketExport
from tasks.workflow.base_task import DayMarketsTask


class ExportDayMarkets(DayMarketsTask, MarketGroupExport):
    """Export several markets that have ticks on the day, in one process."""


class ExportDayMarket(DayMarketsTask, OneMarketExport):
    """Export one market that has ticks on the day."""

    batch_class = ExportDayMarkets


class BuildDayMetadata(DayMarketsTask, SomeMarketsMetadata):
    """Write the metadata of the markets with ticks on the day."""

    def market_ids(self) -> list[str]:
        """Return the markets with ticks on that day in the database, and those whose files overlap it."""
        return sorted({*self.day_market_ids(), *self.kept_market_ids()})


class IndexDay(DayMarketsTask):
    """Merge the markets with ticks on the day into index.csv."""

    def requires(self) -> Any:
        """Return those of the day's exports that are missing or out of date."""
        return pending_exports(self, ExportDayMarket)

    def output(self) -> luigi.LocalTarget:
        """Return index.csv."""
        return luigi.LocalTarget(str(self.layout.index))

    @property
    def result(self) -> Path:
        """index.csv"""
        return self.layout.index

    def complete(self) -> bool:
        """Return whether index.csv says what is in the files of the day's markets."""
        plan = self.plan()
        rows = directory_scan.index_rows(self.layout, plan.disk, plan.stored.events)
        markets = {*self.day_market_ids(), *self.kept_market_ids()}
        if not markets.isdisjoint(plan.disk.unreadable):
            return False
        return not plan.any_open(tuple(plan.pending)) and all(
            market_id in rows and rows[market_id] == plan.disk.index.get(market_id) for market_id in markets
        )

    def work(self) -> None:
        """Write the index: the files that exist, and the old rows of files that are damaged or missing."""
        layout = self.layout
        disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
        rows = disk.index | directory_scan.index_rows(layout, disk, self.plan().stored.events)
        directory_scan.publish_index(layout, disk, rows)
        self.say_done(f"index.csv: {len(rows):,} market files")
