"""BuildMetadata."""

import logging

from tasks.export_directory.metadata_json import MetadataFiles
from tasks.postgres.database import Database
from tasks.workflow import run
from tasks.workflow.base_task import AllMarketsTask

_log = logging.getLogger("tick_export.metadata")


class BuildMetadata(AllMarketsTask):
    """Write markets/marketId=<id>_metadata.json for every market with ticks, wherever it does not say what the database
    says."""

    def _market_ids(self) -> list[str]:
        plan = self.plan()
        stored = plan.stored
        kept = (
            market_id
            for market_id, facts in plan.disk.facts.items()
            if facts.tick_records and not stored.has_ladder(market_id)
        )
        return sorted([*stored.with_ladder(), *kept])

    def complete(self) -> bool:
        """Tell whether every metadata file says what the database says; without a database, there is nothing to do."""
        if self.offline:
            return True
        market_ids = self._market_ids()
        with run.determining(), Database(run.server()) as database:
            return MetadataFiles(database, self.layout, market_ids).are_current()

    def run(self) -> None:
        """Write what is missing or has changed."""
        layout = self.layout
        layout.markets_dir.mkdir(parents=True, exist_ok=True)
        written = 0
        with Database(run.server()) as database:
            for count in MetadataFiles(database, layout, self._market_ids()).write():
                written += count
                self.say(f"{written:,} metadata files written")
        _log.info("%d metadata files written.", written)
        self.say_done(f"{written:,} metadata files written")
