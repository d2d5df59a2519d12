"""BuildMetadata: a JSON file of metadata per market."""

import abc
import logging

import luigi

from tasks.described_markets import DescribedMarketsTask
from tasks.export_directory.metadata_json import MetadataFiles
from tasks.postgres.database import Database
from tasks.workflow.base_task import MarketsTask
from tasks.workflow.market_choice import markets_with_ticks

_log = logging.getLogger("tick_export.metadata")


class SomeMarketsMetadata(DescribedMarketsTask):
    """Writes the metadata of some markets, wherever it differs from the database."""

    file_kind = "metadata file"

    @abc.abstractmethod
    def market_ids(self) -> list[str]:
        """Return the markets, sorted."""

    def files(self, database: Database) -> MetadataFiles:
        """Return the metadata files of the markets."""
        return MetadataFiles(database, self.layout, self.market_ids())


class BuildMetadata(MarketsTask, SomeMarketsMetadata):
    """Write markets/marketId=<id>_metadata.json for every market with ticks, wherever it differs from the database."""

    unused_options = frozenset({"export_metadata"})

    def market_ids(self) -> list[str]:
        """Return the markets with ticks, in the database or in a file."""
        return markets_with_ticks(self)


@BuildMetadata.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_unchanged(task: BuildMetadata) -> None:
    if task.is_asked_for:
        _log.info("Nothing to do: all metadata files in %s agree with the database.", task.layout.markets_dir)
