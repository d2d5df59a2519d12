"""ConsolidateDayDirect: one day from the database as a sorted CSV."""

import datetime
import logging
from collections.abc import Mapping
from typing import Any

import luigi

from tasks.csv_task import DayCsvTask, StoredTicks
from tasks.day_csv.database_source import DatabaseSource, Runners, runners_between
from tasks.errors import UnreadableMarket
from tasks.exporting import execution_report
from tasks.market_files.time_span import Span
from tasks.postgres.database import Database
from tasks.workflow import findings, run_context
from tasks.workflow.base_task import MarketsTask
from tasks.workflow.exit_codes import EXIT_USAGE, determining, stop

_log = logging.getLogger("tick_export.consolidate")


class ConsolidateDayDirect(DayCsvTask, MarketsTask):
    """Write one UTC day straight from the database as one sorted CSV, with the same bytes as ConsolidateDay."""

    writes = "consolidated_ticks_YYYY_MM_DD.csv, consolidation_report_YYYY_MM_DD.txt"
    examples = ("--date 2024-01-15",)

    unused_options = frozenset({"export_metadata", "format", "offline", "allow_other_database"})

    output_dir = luigi.Parameter(
        default="data_exports/direct", description="directory of CSV and report; created if it does not exist"
    )

    def requires(self) -> Any:
        """Return the day's ticks in the database."""
        return StoredTicks(
            when=str(self.date),
            missing=(
                f"The database has no ticks on {self.date} (UTC). Check --date and POSTGRES_DB. If the platform has"
                " dropped that day, an export made before may still have it: try ConsolidateDay."
            ),
            exist=bool(self._runners().selections),
        )

    def complete(self) -> bool:
        """Return False: this always runs. Stop if the day is not over."""
        self.require_over()
        if self.offline:
            stop(
                "ConsolidateDayDirect reads the database, so --offline makes no sense. Use ConsolidateDay --offline.",
                EXIT_USAGE,
            )
        return False

    def work(self) -> Mapping[str, str]:
        """Write the day. If a market cannot be read, start again without it, and return the reason."""
        runners = self._runners()
        failed = execution_report.refused(runners.refused)
        while selections := {name: found for name, found in runners.selections.items() if name not in failed}:
            wanted = self.wanted(failed)
            try:
                with DatabaseSource(findings.server(), wanted.span, selections) as source:
                    self.consolidate(wanted, source)
                break
            except UnreadableMarket as error:
                _log.warning("%s. Starting again without it.", error)
                failed[error.market_id] = str(error)
        return failed

    def _runners(self) -> Runners:
        return run_context.current().once(_find_runners, self.date, self.include_markets_without_ladder)


def _find_runners(date: datetime.date, without_ladder: bool) -> Runners:
    with determining(), Database(findings.server()) as database:
        return runners_between(database, Span.of_day(date), without_ladder)
