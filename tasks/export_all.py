"""ExportAll: the main task."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from tasks.index import BuildIndex
from tasks.metadata import BuildMetadata
from tasks.report import Report
from tasks.streams import BuildStreams
from tasks.workflow.base_task import AllMarketsTask
from tasks.workflow.parameters import SwitchParameter

_log = logging.getLogger("tick_export.index")


class ExportAll(AllMarketsTask):
    """Export every market with ticks, its metadata, the index and the reports. The main task."""

    writes = (
        "markets/marketId=<id>.parquet (or .jsonl) and marketId=<id>_metadata.json, index.csv, execution_report.txt,"
        " report.html, condition.json; with --streams, streams/ and states/"
    )
    examples = ("--workers 2", "--output-dir /srv/export --format jsonl", "--recheck-days 3")

    report = SwitchParameter(
        option="--report",
        default=True,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="write report.html and condition.json; false leaves them out",
    )

    streams = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="write streams/ too, each market in Betfair's historic format, as BuildStreams does",
    )

    def requires(self) -> Any:
        """Return the report, which needs index and metadata, or these alone; streams where they are wanted."""
        if self.report:
            tasks = [self.clone(Report)]
        else:
            tasks = [self.clone(BuildIndex), *([self.clone(BuildMetadata)] if self.export_metadata else [])]
        return [*tasks, self.clone(BuildStreams)] if self.streams else tasks

    @property
    def result(self) -> Path:
        """The page, or the execution report where there is none."""
        return self.layout.report_page if self.report else self.layout.execution_report

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"all market files in {self.layout.output_dir} are complete, and index and metadata agree"

    def complete(self) -> bool:
        """Return whether everything is exported, indexed, described and reported."""
        return not self.plan().any_failed() and all(task.complete() for task in self.requires())

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return f"exported and indexed. See {self.layout.execution_report}"

    def work(self) -> Mapping[str, str]:
        """Return the markets that failed: all else is done."""
        plan = self.plan()
        failed = plan.failures()
        self.say_done(f"Market files written: {len(plan.pending) - len(failed):,}, markets failed: {len(failed):,}")
        _log.info("%s", plan.closing_line(failed))
        return failed
