"""Archive."""

import datetime
import logging
import time
from pathlib import Path
from typing import Any

import luigi
from tqdm import tqdm

from tasks.day_csv import export_source
from tasks.delivery import archive_file
from tasks.delivery.containers import KINDS
from tasks.errors import DamagedFile
from tasks.index import BuildIndex, raise_failed, take_failures
from tasks.metadata import BuildMetadata
from tasks.storage.atomic_files import remove_leftovers
from tasks.storage.layout import Layout
from tasks.workflow import run
from tasks.workflow.base_task import AllMarketsTask
from tasks.workflow.parameters import DayParameter, FormatParameter
from tasks.workflow.progress import Progress

_log = logging.getLogger("tick_export.archive")

#: How often luigid is told how far the archive is.
_SAY_S = 1.0


class ByteProgress(Progress):
    """Counts the bytes of an archive: each is written once and read back once."""

    def __init__(self, expected_bytes: int) -> None:
        super().__init__()
        self.expect(1, 2 * expected_bytes)

    @property
    def text(self) -> str:
        """The state in words: 1,200 of 2,400 MB written, 300 MB/s, about 00:04 left."""
        done, expected = self._numbers[1], max(self._numbers[3], 1)
        rate = done / max(time.monotonic() - self._started, 1e-3)
        left = f", about {tqdm.format_interval(max(expected - done, 0) / rate)} left" if rate else ""
        what, part = ("written", done) if done * 2 <= expected else ("read back", done - expected / 2)
        return f"{part / 1e6:,.0f} of {expected / 2e6:,.0f} MB {what}, {rate / 1e6:,.0f} MB/s{left}"


class ArchiveFormatParameter(FormatParameter):
    """--archive-format tar.gz, zip or tar.zst."""

    option = "--archive-format"
    expected = "tar.gz, zip or tar.zst"

    def parse_text(self, value: str) -> str:
        """Return the kind of archive."""
        if value not in KINDS:
            raise ValueError(value)
        return value


def _today() -> datetime.date:
    """Return the UTC day on which this run began."""
    return datetime.datetime.fromtimestamp(run.STARTED_S, datetime.UTC).date()


class Archive(AllMarketsTask):
    """Pack the export into one archive beside its directory, <output dir>_YYYYMMDD.tar.gz, with a .sha256."""

    date = DayParameter(
        default=_today(), description="day for the archive's name, such as 2024-01-15; default today in UTC"
    )
    archive_format = ArchiveFormatParameter(default="tar.gz", description="tar.gz, zip or tar.zst")

    @property
    def layout(self) -> Layout:
        """The paths of the export, offline in the format that it has."""
        return export_source.as_it_lies(super().layout) if self.offline else super().layout

    @property
    def archive(self) -> archive_file.Archive:
        """The archive to be made."""
        with run.determining():
            return archive_file.Archive.of(self.layout, self.date, self.archive_format)

    def requires(self) -> Any:
        """Return index and metadata, and with them the exports that are missing."""
        if self.offline:
            return []
        tasks = [self.clone(BuildIndex)]
        return [*tasks, self.clone(BuildMetadata)] if self.export_metadata else tasks

    def output(self) -> list[luigi.LocalTarget]:
        """Return archive and checksum file."""
        return [luigi.LocalTarget(str(path)) for path in (self.archive.path, self.archive.checksum_file)]

    @property
    def result(self) -> Path:
        """The archive."""
        return self.archive.path

    def complete(self) -> bool:
        """Tell whether the archive was made from exactly the files that are there now."""
        if not self.offline and self.plan().any_failed() or not all(task.complete() for task in self.requires()):
            return False
        with run.determining():
            if self.offline:
                export_source.indexed(self.layout)  # before the lock: it would make a directory that is not there
            run.claim(self.layout)
            try:
                return self.archive.is_of(archive_file.members(self.layout)[0])
            except DamagedFile:
                return False  # run() says what it is

    def run(self) -> None:
        """Make the archive; fail, last of all, where markets could not be exported."""
        archive = self.archive
        remove_leftovers(archive.path.parent)
        contents, inventory = archive_file.members(self.layout)
        left_out = inventory.strays + inventory.aside
        if left_out:
            _log.warning(
                "Not in the archive, since they are no part of the export: %s%s.",
                ", ".join(left_out[:9]),
                " ..." if len(left_out) > 9 else "",
            )
        if stale := archive_file.outdated(self.layout):
            _log.warning(
                "Made before market files or metadata were refreshed, and archived as they lie: %s. Consolidate them"
                " again if they shall have what came since.",
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
        _log.info("%s.", text)
        self.say_done(text)
        if not self.offline:
            raise_failed(take_failures(self.plan()), "in the archive")


@Archive.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_unchanged(task: Archive) -> None:
    _log.info("Nothing to do: %s is what %s holds.", task.archive.path, task.layout.output_dir)
