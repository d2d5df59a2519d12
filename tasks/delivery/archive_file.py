"""The delivery: one compressed archive of an export beside its directory, with its checksum."""

import concurrent.futures
import dataclasses
import datetime
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tasks.day_csv import consolidation_report, export_source
from tasks.delivery import containers
from tasks.delivery.containers import Progress
from tasks.errors import ArchiveFailed, DamagedFile, UsageError
from tasks.export_directory.inventory import Inventory, take_inventory
from tasks.market_files import formats
from tasks.storage.atomic_files import NewFile, flush_directory, replacing
from tasks.storage.disk_space import require_room
from tasks.storage.file_identity import file_checksum
from tasks.storage.layout import Layout

#: The highest ratio of compressed to original size of text that was seen; for estimating the disk space needed.
_TEXT_SHARE = 0.2
#: The bytes that a member takes in addition to its content.
_MEMBER_BYTES = 2_048


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A file for the archive: its name there, its path, its size, and the SHA-256 that it must have."""

    name: str
    path: Path
    size_bytes: int
    checksum: str


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive: its path and kind (tar.gz, zip, tar.zst)."""

    path: Path
    kind: str

    @staticmethod
    def of(layout: Layout, date: datetime.date, kind: str) -> "Archive":
        """Return the archive of an export: data_exports/tick_export_20240115.tar.gz"""
        return Archive(layout.archive(date, kind), kind)

    @property
    def checksum_file(self) -> Path:
        """The file with its checksum."""
        return Layout.archive_checksum(self.path)

    def is_of(self, members: Sequence[Member]) -> bool:
        """Return whether the archive was made from exactly these members and is still what its checksum file says."""
        if containers.note_of(self.kind, self.path) != fingerprint(members):
            return False
        try:
            return self.checksum_file.read_text(encoding="utf-8") == _checksum_line(file_checksum(self.path), self.path)
        except (OSError, ValueError):
            return False


def fingerprint(members: Sequence[Member]) -> str:
    """Return the note of an archive, which identifies its members: the SHA-256 of their checksums and names."""
    return hashlib.sha256("".join(f"{member.checksum}  {member.name}\n" for member in members).encode()).hexdigest()


def members(layout: Layout, with_streams: bool = False) -> tuple[list[Member], Inventory]:
    """Return the files that belong in the archive of an export, sorted by name, and the other files in the directory.

    with_streams: include stream files.

    A market file must have the checksum in index.csv, a CSV the one in its report. Raises UsageError if index and
    market files do not have the same markets or a day was consolidated before it was over; DamagedFile if a file does
    not have its checksum.
    """
    rows = export_source.indexed(layout)
    export_source.refuse_unindexed(layout, rows)
    inventory = take_inventory(layout, rows, with_streams)
    sizes = {row.file_path: row.facts.size_bytes for row in rows.values()}
    for name, size_bytes in sizes.items():
        found = inventory.files.get(name)
        if found != size_bytes:
            raise DamagedFile(
                f"{layout.output_dir / name}: has {'no' if found is None else found} bytes of its own, index.csv says "
                f"{size_bytes}. Restore the file, or run ExportAll with the database to repair it."
            )
    known = {row.file_path: row.facts.checksum for row in rows.values()} | _consolidated(layout)
    unknown = [name for name in inventory.files if name not in known]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        known.update(zip(unknown, pool.map(lambda name: file_checksum(layout.output_dir / name), unknown)))
    top = os.path.basename(os.path.abspath(layout.output_dir))
    return [
        Member(f"{top}/{name}", layout.output_dir / name, size, known[name]) for name, size in inventory.files.items()
    ], inventory


def _consolidated(layout: Layout) -> dict[str, str]:
    """Return the checksum of each consolidated CSV from its report."""
    directory = layout.output_dir
    known: dict[str, str] = {}
    for path in layout.consolidation_reports():
        report = consolidation_report.read(path)
        if report is None:
            raise DamagedFile(f"{path}: not a report of this pipeline. Delete it and consolidate again.")
        if report.partial:
            raise UsageError(
                f"{path}: {report.file.name} was written before its day was over. Run ConsolidateDay for it again, or"
                " delete both."
            )
        if not consolidation_report.is_in_place(report, directory):
            raise DamagedFile(
                f"{directory / report.file.name}: not the CSV that {path.name} describes. Run the consolidation"
                " again, or delete both."
            )
        known |= {file.name: file.checksum for file in report.files}
    for path in layout.consolidated_csvs():
        if path.name not in known:
            raise DamagedFile(f"{path}: no consolidation report. Run the consolidation again, or delete it.")
    return known


def outdated(layout: Layout) -> list[str]:
    """Return the names of consolidated CSVs made from market files or metadata that were refreshed since."""
    rows = export_source.indexed(layout)
    reports = filter(None, map(consolidation_report.read, layout.consolidation_reports()))
    return [
        report.file.name
        for report in reports
        if report.inputs and not export_source.are_of_now(layout, rows, report.inputs)
    ]


def _checksum_line(checksum: str, path: Path) -> str:
    """Return a line as sha256sum writes and checks it; a line break in the name is escaped."""
    name = path.name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if name != path.name else ""
    return f"{mark}{checksum}  {name}\n"


def make(archive: Archive, contents: Sequence[Member], progress: Progress, workers: int | None = None) -> None:
    """Write an archive, read it back, and give it its name if every member has the right checksum.

    progress is called with the bytes of every piece, once when it is written and once when it is read back; workers:
    how many cores to use (all if None), which does not change the result. Raises ExportError.
    """
    _require_room(archive, contents)
    with NewFile(archive.path) as file:
        containers.write(
            archive.kind,
            file,
            [(member.name, member.path) for member in contents],
            fingerprint(contents),
            progress,
            workers,
        )
        if file.finish_and_read_back() != file.checksum:
            raise ArchiveFailed(
                f"{archive.path}: the content read back is not what was written. The disk may be faulty. Nothing was"
                " published."
            )
        _compare(archive, file.temporary, contents, progress)
        with replacing(archive.checksum_file) as checksum_file:
            checksum_file.write(_checksum_line(file.checksum, archive.path).encode())
        file.publish()
    flush_directory(archive.path.parent)


def _require_room(archive: Archive, contents: Sequence[Member]) -> None:
    wanted = sum(
        _MEMBER_BYTES + member.size_bytes * (1 if formats.is_compressed(member.name) else _TEXT_SHARE)
        for member in contents
    )
    require_room(archive.path, wanted)


def _compare(archive: Archive, path: Path, contents: Sequence[Member], progress: Progress) -> None:
    """Raise ArchiveFailed if the archive at path does not hold exactly these members."""
    try:
        found = list(containers.checksums(archive.kind, path, progress))
    except containers.DAMAGED as error:
        raise ArchiveFailed(
            f"{archive.path}: cannot be read back: {error}. The disk may be faulty. Nothing was published."
        ) from None
    if [name for name, _ in found] != [member.name for member in contents]:
        raise ArchiveFailed(
            f"{archive.path}: has {len(found)} members when read back, {len(contents)} were written. The disk may be"
            " faulty. Nothing was published."
        )
    for member, (_, checksum) in zip(contents, found):
        if checksum == member.checksum:
            continue
        if file_checksum(member.path) == member.checksum:
            raise ArchiveFailed(
                f"{archive.path}: {member.name} read back has SHA-256 {checksum[:16]}…, expected"
                f" {member.checksum[:16]}…. Another process has changed it in the meantime, or the disk is faulty."
                " Nothing was published. Start again."
            )
        raise DamagedFile(
            f"{member.path}: its SHA-256 is {checksum[:16]}…, expected {member.checksum[:16]}…. Restore the file, or"
            " run ExportAll with the database to repair it. Nothing was published."
        )
