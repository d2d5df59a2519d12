"""BuildStates."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tasks.export_directory.state_files import StateFiles
from tasks.postgres.database import Database
from tasks.workflow import findings, run_context
from tasks.workflow.base_task import MarketsTask
from tasks.workflow.exit_codes import determining
from tasks.workflow.market_choice import markets_with_ticks

_log = logging.getLogger("tick_export.states")


class BuildStates(MarketsTask):
    """Write states/marketId=<id>.parquet, status and in-play of each market over time, wherever it differs from the
    database."""

    unused_options = frozenset({"export_metadata"})

    @property
    def result(self) -> Path:
        """Where the files are."""
        return self.layout.states_dir

    def market_ids(self) -> list[str]:
        """Return the markets with ticks, in the database or in a file."""
        return markets_with_ticks(self)

    def complete(self) -> bool:
        """Return whether every file says what the database says; without a database, there is nothing to do."""
        if self.offline:
            return True
        market_ids = self.market_ids()
        with determining(), Database(findings.server()) as database:
            files = StateFiles(database, self.layout, market_ids)
            is_complete = files.are_current()
        if is_complete:
            run_context.current().at_end(files.remember)
        return is_complete

    def work(self) -> Mapping[str, str]:
        """Write what is missing or has changed; return the markets whose file is damaged."""
        layout = self.layout
        for directory in (layout.states_dir, layout.journal_dir):
            directory.mkdir(parents=True, exist_ok=True)
        written = 0
        with Database(findings.server()) as database:
            files = StateFiles(database, layout, self.market_ids())
            for count in files.write():
                written += count
                self.say(f"{written:,} states files written")
        _log.info("%d states files written.", written)
        self.say_done(f"{written:,} states files written")
        return files.failed
