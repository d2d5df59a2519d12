"""BuildMetadata: a JSON file of metadata per market."""

import abc
import logging

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

    writes = "markets/marketId=<id>_metadata.json of each market"
    examples = ("",)

    unused_options = frozenset({"export_metadata"})

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        if self.offline:
            return "metadata comes from the database, which --offline leaves alone"
        return f"all metadata files in {self.layout.markets_dir} agree with the database"

    def market_ids(self) -> list[str]:
        """Return the markets with ticks, in the database or in a file."""
        return markets_with_ticks(self)
