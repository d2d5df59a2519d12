"""VerifyExport: compare an export with its index and the database."""

import logging
from pathlib import Path

import luigi

from tasks.day_csv import export_source
from tasks.errors import NotVerified
from tasks.postgres.database import Database
from tasks.storage.atomic_files import replacing
from tasks.verification import directory_check
from tasks.verification.export_check import verify
from tasks.workflow import findings
from tasks.workflow.base_task import ExportTask, FormatFrom
from tasks.workflow.exit_codes import determining
from tasks.workflow.progress import Progress
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.verify")

#: Differences that go to the log; the report has all.
_LOGGED = 50


class VerifyExport(ExportTask):
    """Verify the export against its index and, unless --offline, the database; write verification_report.txt."""

    writes = "verification_report.txt, every difference in a line"
    examples = ("", "--offline --output-dir their_export")

    unused_options = frozenset({"allow_other_database"})
    format_from = FormatFrom.FILES

    def output(self) -> luigi.LocalTarget:
        """Return the report."""
        return luigi.LocalTarget(str(self.result))

    @property
    def result(self) -> Path:
        """The report."""
        return self.layout.verification_report

    def complete(self) -> bool:
        """Return False: this always runs."""
        with determining():
            export_source.require_export(self.layout)
            if not self.offline:
                Database(findings.server()).close()
        return False

    def work(self) -> None:
        """Compare everything, write the report, fail if something differs."""
        layout = self.layout
        progress = Progress()
        rows, _ = directory_check.read_index(layout)
        progress.expect(len(rows), sum(row.facts.tick_records for row in rows.values()))
        count = self.showing(progress, progress.count)
        if self.offline:
            verdict = verify(layout, None, 0, self.export_metadata, count)
        else:
            with Database(findings.server()) as database:
                verdict = verify(layout, database, tick_export().settle_us, self.export_metadata, count)
        for difference in verdict.differences[:_LOGGED]:
            _log.error("%s", difference)
        with replacing(self.result) as file:
            file.write(verdict.render(layout).encode())
        self.say_done(verdict.conclusion)
        if verdict.differences:
            raise NotVerified(f"{verdict.conclusion} See {self.result}.")
        _log.info("%s", verdict.conclusion)
