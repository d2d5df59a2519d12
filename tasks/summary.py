"""BuildRunnerSummary: one row per market and runner."""

import logging
from collections.abc import Mapping
from pathlib import Path

import luigi
import luigi.interface

from tasks.runner_summaries import summary_file
from tasks.streams import FromMarketFiles
from tasks.ticks.value_text import counted
from tasks.workflow.exit_codes import determining
from tasks.workflow.progress import PartProgress

_log = logging.getLogger("tick_export.summary")


class BuildRunnerSummary(FromMarketFiles):
    """Write runner_summary.parquet and .csv, one row per market and runner: prices before the off, trades, result."""

    writes = "runner_summary.parquet, runner_summary.csv"
    examples = ("--workers 2", "--offline --output-dir their_export")

    def output(self) -> list[luigi.LocalTarget]:
        """Return both files."""
        return [luigi.LocalTarget(str(path)) for path in (self.layout.runner_summary, self.layout.runner_summary_csv)]

    @property
    def result(self) -> Path:
        """The CSV."""
        return self.layout.runner_summary_csv

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "in the summary"

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.layout.runner_summary_csv} is up to date with the market files"

    def complete(self) -> bool:
        """Return whether both files are made of what there is now."""
        if not self.is_ready():
            return False
        index = self.index()
        with determining():
            return summary_file.is_current(self.layout, index)

    def work(self) -> Mapping[str, str]:
        """Write them; return the markets that are not in them."""
        index = self.index()
        expected = sum(row.facts.tick_records for row in index.values())
        progress = PartProgress("market", "summarised", len(index), expected)
        count = self.showing(progress, lambda ticks: progress.count(1, ticks))
        failed = summary_file.write(self.layout, index, int(luigi.interface.core().workers), count)
        text = f"{self.layout.runner_summary_csv}: {counted(len(index) - len(failed), 'market')}"
        self.say_done(text, _log)
        return self.failures() | failed
