"""Archive: pack the export into one file."""

import datetime
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import luigi

from tasks.day_csv import export_source
from tasks.delivery import archive_file
from tasks.delivery.containers import KINDS
from tasks.errors import DamagedFile
from tasks.report import ReportedExportTask
from tasks.storage.atomic_files import remove_leftovers
from tasks.verification.ledger_check import check_ledger
from tasks.workflow import run_context
from tasks.workflow.exit_codes import determining
from tasks.workflow.parameters import DayParameter, FormatParameter
from tasks.workflow.progress import ByteProgress

_log = logging.getLogger("tick_export.archive")

#: How often progress is sent to luigid.
_SAY_S = 1.0


class ArchiveFormatParameter(FormatParameter):
    """--archive-format tar.gz, zip or tar.zst."""

    option = "--archive-format"
    values = tuple(KINDS)
    expected = "tar.gz, zip or tar.zst"

    def parse_text(self, value: str) -> str:
        """Return the kind of archive."""
        if value not in KINDS:
            raise ValueError(value)
        return value


def _today() -> datetime.date:
    """Return the UTC day on which this run began."""
    return datetime.datetime.fromtimestamp(run_context.current().started_s, datetime.UTC).date()


class Archive(ReportedExportTask):
    """Pack the export into one archive beside its directory, <output dir>_YYYYMMDD.tar.gz, with a .sha256."""

    writes = "nothing; beside it, <output dir>_YYYYMMDD.tar.gz (or .zip, .tar.zst), and that name with .sha256"
    examples = ("", "--archive-format zip --offline --output-dir their_export")

    date = DayParameter(
        default=_today(), description="day for the archive's name, such as 2024-01-15; default today in UTC"
    )
    with_streams = luigi.BoolParameter(default=False, description="pack the files in streams/ too")
    archive_format = ArchiveFormatParameter(default="tar.gz", description="tar.gz, zip or tar.zst")

    @property
    def archive(self) -> archive_file.Archive:
        """The archive to be made."""
        with determining():
            return archive_file.Archive.of(self.layout, self.date, self.archive_format)

    def output(self) -> list[luigi.LocalTarget]:
        """Return archive and checksum file."""
        return [luigi.LocalTarget(str(path)) for path in (self.archive.path, self.archive.checksum_file)]

    @property
    def result(self) -> Path:
        """The archive."""
        return self.archive.path

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "in the archive"

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.archive.path} holds what is in {self.layout.output_dir}"

    def complete(self) -> bool:
        """Return whether the archive was made from exactly the files that are there now."""
        if not self.offline and self.plan().any_failed() or not all(task.complete() for task in self.requires()):
            return False
        with determining():
            try:
                is_made = self.archive.is_of(archive_file.members(self.layout, self.with_streams)[0])
                return is_made and not (self.offline and self._lost())
            except DamagedFile:
                return False  # work() says what it is

    def work(self) -> Mapping[str, str]:
        """Make the archive; return why markets could not be exported."""
        archive = self.archive
        remove_leftovers(archive.path.parent)
        contents, inventory = archive_file.members(self.layout, self.with_streams)
        left_out = inventory.strays + inventory.aside
        if left_out:
            _log.warning(
                "Not part of the export, so not in the archive: %s%s.",
                ", ".join(left_out[:9]),
                " ..." if len(left_out) > 9 else "",
            )
        if inventory.without_file:
            _log.warning(
                "Not in the archive, because the export of their markets failed: %s%s.",
                ", ".join(inventory.without_file[:9]),
                " ..." if len(inventory.without_file) > 9 else "",
            )
        if stale := archive_file.outdated(self.layout):
            _log.warning(
                "Older than a refresh of their market files or metadata, and archived as they are: %s. Consolidate them"
                " again to include what came since.",
                ", ".join(stale),
            )
        progress = ByteProgress(sum(member.size_bytes for member in contents))
        said_s = 0.0

        def count(size_bytes: int) -> None:
            nonlocal said_s
            progress.count(0, size_bytes)
            if time.monotonic() - said_s > _SAY_S:  # a message may be a request to luigid
                said_s = time.monotonic()
                self.say(progress.text, progress.percent)

        archive_file.make(archive, contents, count)
        progress.count(1, 0)
        text = f"{archive.path}: {len(contents):,} files, {archive.path.stat().st_size:,} bytes, read back and compared"
        self.say_done(text, _log)
        return self._lost() if self.offline else self.failures()

    def _lost(self) -> dict[str, str]:
        """Return, for an export that is archived as it is, the markets that have lost ticks."""
        differences, _ = check_ledger(self.layout, export_source.indexed(self.layout))
        return {difference.market_id: str(difference) for difference in differences}
