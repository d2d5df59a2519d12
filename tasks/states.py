"""BuildStates: status and in-play of each market over time."""

import logging
from pathlib import Path

from tasks.described_markets import DescribedMarketsTask
from tasks.export_directory.state_files import StateFiles
from tasks.postgres.database import Database
from tasks.workflow.base_task import MarketsTask
from tasks.workflow.market_choice import markets_with_ticks

_log = logging.getLogger("tick_export.states")


class BuildStates(MarketsTask, DescribedMarketsTask):
    """Write states/marketId=<id>.parquet, status and in-play of each market over time, wherever it differs from the
    database."""

    writes = "states/marketId=<id>.parquet, states/results.parquet"
    examples = ("",)

    unused_options = frozenset({"export_metadata"})
    file_kind = "states file"

    @property
    def result(self) -> Path:
        """Where the files are."""
        return self.layout.states_dir

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        if self.offline:
            return "states come from the database, which --offline leaves alone"
        return f"all files in {self.layout.states_dir} agree with the database"

    def files(self, database: Database) -> StateFiles:
        """Return the states files of the markets with ticks, in the database or in a file."""
        return StateFiles(database, self.layout, markets_with_ticks(self))
