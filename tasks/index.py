"""BuildIndex: index.csv and execution_report.txt."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from tasks.export import pending_exports
from tasks.export_directory import directory_scan
from tasks.exporting import execution_report
from tasks.storage.atomic_files import replacing
from tasks.workflow.base_task import AllMarketsTask
from tasks.workflow.exit_codes import determining

_log = logging.getLogger("tick_export.index")


class BuildIndex(AllMarketsTask):
    """Write index.csv, one row per market file with counts and checksum, and execution_report.txt."""

    writes = "index.csv, execution_report.txt"
    examples = ("", "--offline --output-dir their_export")

    unused_options = frozenset({"export_metadata"})

    def requires(self) -> Any:
        """Return the exports that are missing or out of date."""
        return pending_exports(self)

    def output(self) -> luigi.LocalTarget:
        """Return index.csv."""
        return luigi.LocalTarget(str(self.layout.index))

    @property
    def result(self) -> Path:
        """The execution report."""
        return self.layout.execution_report

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.layout.index} describes exactly what is in {self.layout.markets_dir.name}"

    def complete(self) -> bool:
        """Return whether nothing waits to be exported, index.csv says exactly what is in markets/, and the report is
        there.
        """
        plan = self.plan()
        if plan.any_open(tuple(plan.pending)) or plan.stored.refused:
            return False
        with determining():
            if not self.layout.execution_report.exists():
                return False
        disk = plan.disk
        if plan.pending:
            with determining():
                disk = directory_scan.look_at_disk(self.layout, directory_scan.list_files(self.layout))
        return directory_scan.is_indexed(self.layout, disk, plan.stored.events)

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "indexed"

    def work(self) -> Mapping[str, str] | None:
        """Write the report, then the index; return what is wrong with market files."""
        plan, layout = self.plan(), self.layout
        disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
        rows = directory_scan.index_rows(layout, disk, plan.stored.events)
        failed = plan.failures(disk)
        text = execution_report.execution_report(layout, rows, plan.stored, disk, failed, time.time() - plan.started_s)
        for line in text.splitlines():
            if line.startswith("WARNING: "):
                _log.warning("%s", line.removeprefix("WARNING: "))
        with replacing(layout.execution_report) as file:
            file.write(text.encode())
        directory_scan.publish_index(layout, disk, rows)
        self.say_done(f"index.csv: {len(rows):,} market files")
        problems = disk.not_ours(layout)  # so that nobody takes the index for complete
        return problems | failed if problems or self.is_asked_for else None
