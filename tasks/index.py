"""BuildIndex and ExportAll."""

import logging
import time
from pathlib import Path
from typing import Any

import luigi

from tasks.errors import SomeMarketsFailed
from tasks.export import pending_exports
from tasks.export_directory import directory_scan
from tasks.export_directory.journal import Journal
from tasks.exporting import execution_report
from tasks.metadata import BuildMetadata
from tasks.storage.atomic_files import replacing
from tasks.workflow import run
from tasks.workflow.base_task import AllMarketsTask

_log = logging.getLogger("tick_export.index")


def take_failures(plan: run.Plan) -> dict[str, str]:
    """Return why markets could not be exported, and forget it."""
    journal = Journal(plan.layout.journal_dir)
    failed = execution_report.failures(plan.stored, plan.disk, journal)
    journal.clear("failed")
    return failed


def raise_failed(failed: dict[str, str], others: str) -> None:
    """Raise SomeMarketsFailed where markets failed; others: what became of the rest."""
    if failed:
        named = "; ".join(f"{market_id!r}: {reason}" for market_id, reason in sorted(failed.items())[:3])
        raise SomeMarketsFailed(
            f"{len(failed)} markets failed ({named}{' …' if len(failed) > 3 else ''}), all others are {others}."
        )


class BuildIndex(AllMarketsTask):
    """Write index.csv, one row a market file with counts and checksum, and execution_report.txt."""

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

    def complete(self) -> bool:
        """Tell whether nothing waits to be exported, index.csv says exactly what lies in markets/, and the report is
        there.
        """
        plan = self.plan()
        if plan.any_open(tuple(plan.pending)) or plan.stored.refused:
            return False
        if not self.layout.execution_report.exists():
            return False
        disk = plan.disk
        if plan.pending:
            with run.determining():
                disk = directory_scan.look_at_disk(self.layout, directory_scan.list_files(self.layout))
        return directory_scan.is_indexed(self.layout, disk, plan.stored.events)

    def run(self) -> None:
        """Write the report, then the index."""
        plan, layout = self.plan(), self.layout
        layout.output_dir.mkdir(parents=True, exist_ok=True)
        disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
        rows = directory_scan.index_rows(layout, disk, plan.stored.events)
        text = execution_report.execution_report(
            layout, rows, plan.stored, disk, Journal(layout.journal_dir), time.time() - plan.started_s
        )
        for line in text.splitlines():
            _log.info("%s", line)
        with replacing(layout.execution_report) as file:
            file.write(text.encode())
        directory_scan.publish_index(layout, disk, rows)
        self.say_done(f"index.csv: {len(rows):,} market files")
        if problems := disk.not_ours(layout):  # no consumer shall take the index for whole
            raise_failed(
                problems | execution_report.failures(plan.stored, disk, Journal(layout.journal_dir)), "indexed"
            )


class ExportAll(AllMarketsTask):
    """Export every market with ticks, its metadata, the index and the execution report. The main job."""

    def requires(self) -> Any:
        """Return index and, unless switched off, metadata."""
        tasks = [self.clone(BuildIndex)]
        return [*tasks, self.clone(BuildMetadata)] if self.export_metadata else tasks

    @property
    def result(self) -> Path:
        """The execution report."""
        return self.layout.execution_report

    def complete(self) -> bool:
        """Tell whether everything is exported, indexed and described."""
        return not self.plan().any_failed() and all(task.complete() for task in self.requires())

    def run(self) -> None:
        """Fail, last of all, where markets failed."""
        plan = self.plan()
        failed = take_failures(plan)
        self.say_done(f"Market files written: {len(plan.pending) - len(failed):,}, markets failed: {len(failed):,}")
        raise_failed(failed, f"exported and indexed. See {self.layout.execution_report}")


@ExportAll.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_unchanged(task: ExportAll) -> None:
    _log.info(
        "Nothing to do: all market files in %s are complete, and index and metadata say so.", task.layout.output_dir
    )
