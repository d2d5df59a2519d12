"""BuildMetadata."""

import abc
import logging

import luigi

from tasks.export_directory.metadata_json import MetadataFiles
from tasks.postgres.database import Database
from tasks.ticks.value_text import counted
from tasks.workflow import findings, run_context
from tasks.workflow.base_task import ExportTask, MarketsTask
from tasks.workflow.exit_codes import determining
from tasks.workflow.market_choice import markets_with_ticks

_log = logging.getLogger("tick_export.metadata")


class SomeMarketsMetadata(ExportTask):
    """Writes the metadata of some markets, wherever it differs from the database."""

    @abc.abstractmethod
    def market_ids(self) -> list[str]:
        """Return the markets, sorted."""

    def complete(self) -> bool:
        """Return whether every metadata file agrees with the database; without a database, there is nothing to do."""
        if self.offline:
            return True
        market_ids = self.market_ids()
        with determining(), Database(findings.server()) as database:
            files = MetadataFiles(database, self.layout, market_ids)
            is_complete = files.are_current()
        if is_complete:
            run_context.current().at_end(files.remember)
        return is_complete

    def work(self) -> None:
        """Write what is missing or has changed."""
        layout = self.layout
        layout.markets_dir.mkdir(parents=True, exist_ok=True)
        written = 0
        with Database(findings.server()) as database:
            for count in MetadataFiles(database, layout, self.market_ids()).write():
                written += count
                self.say(f"{counted(written, 'metadata file')} written")
        _log.info("%s written.", counted(written, "metadata file"))
        self.say_done(f"{counted(written, 'metadata file')} written")


class BuildMetadata(MarketsTask, SomeMarketsMetadata):
    """Write markets/marketId=<id>_metadata.json for every market with ticks, wherever it differs from the database."""

    unused_options = frozenset({"export_metadata"})

    def market_ids(self) -> list[str]:
        """Return the markets with ticks, in the database or in a file."""
        return markets_with_ticks(self)


@BuildMetadata.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_unchanged(task: BuildMetadata) -> None:
    if task.is_asked_for:
        _log.info("Nothing to do: all metadata files in %s say what the database says.", task.layout.markets_dir)
