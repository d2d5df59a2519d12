"""Scan the output directory, and compare it with index.csv."""

import contextlib
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Mapping

from tasks.errors import DamagedFile, DamagedLedger, UnreadableIndex, UsageError
from tasks.export_directory import index_csv, metadata_json
from tasks.export_directory.index_csv import Index
from tasks.export_directory.journal import Journal
from tasks.export_directory.ledger import Ledger
from tasks.export_directory.packed_records import Packed
from tasks.market_files import formats, market_file
from tasks.market_files.file_facts import FileFacts
from tasks.storage.atomic_files import replacing
from tasks.storage.file_identity import FileStat, checksum_of
from tasks.storage.file_names import market_file_name
from tasks.storage.layout import Layout

_log = logging.getLogger("tick_export.disk")

Stats = Mapping[str, FileStat]


@dataclasses.dataclass(frozen=True, slots=True)
class OnDisk:
    """What is in the output directory.

    seen_us: when the scan began, microseconds since 1970; files: the stat of each market file; facts: of each sound
    file that we have written; damaged: what is wrong with the content of a file; unvouched: facts of files that can be
    read but are not as we wrote them; unreadable: why a file could not be read, which says nothing about its content;
    index: the rows of index.csv; ledger: what was written for each market; unknown: how many files had to be read,
    because their stat was not known; journalled: the markets whose file was written since the index.
    """

    seen_us: int
    files: Stats
    facts: Packed[FileFacts]
    damaged: dict[str, str]
    unvouched: dict[str, FileFacts]
    unreadable: dict[str, str]
    index: Index
    ledger: Ledger
    unknown: int
    journalled: frozenset[str] = frozenset()

    def written_ns(self, market_id: str) -> int:
        """Return when a sound market file was written, nanoseconds since 1970, also if its copy is younger."""
        stat = self.files[market_id]
        return stat.st_mtime_ns if market_id in self.journalled else self.ledger.written_ns(market_id, stat, self.facts)

    def promise(self, market_id: str) -> FileFacts | None:
        """Return the facts of the fullest file that the market has had; None if none is known."""
        return self.ledger.promise(market_id) if self.ledger.exists else self.index.facts.get(market_id)

    def is_below_promise(self, market_id: str) -> bool:
        """Return whether a market has had more ticks than its file has now."""
        if self.ledger.is_met(market_id, self.facts):  # as nearly always
            return False
        promised = self.promise(market_id)
        now = self.facts[market_id].tick_records if market_id in self.facts else 0
        return promised is not None and now < promised.tick_records

    def not_ours(self, layout: Layout) -> dict[str, str]:
        """Return the reason for each file that cannot go into the index."""
        unvouched = {market_id: unvouched_reason(layout, market_id) for market_id in self.unvouched}
        return self.damaged | unvouched | self.unreadable


def unvouched_reason(layout: Layout, market_id: str) -> str:
    """Return the message about a file that can be read but is not as we wrote it."""
    return (
        f"{layout.file_path(market_id)}: its checksum matches no file that the pipeline wrote, so somebody or"
        " something has changed it"
    )


def list_files(layout: Layout) -> Stats:
    """Return the stat of each market file. Raises UsageError if the directory holds another format."""
    stats = Packed(FileStat)
    with contextlib.suppress(FileNotFoundError), os.scandir(layout.markets_dir) as entries:
        for entry in entries:
            name = market_file_name(entry.name)
            if name is None or name.format not in formats.NAMES:
                continue
            if name.format != layout.format:
                raise UsageError(
                    f"{layout.output_dir} holds {name.format} market files ({entry.name}), asked for {layout.format}:"
                    f" an export has one format. Use --format {name.format} or another --output-dir."
                )
            with contextlib.suppress(FileNotFoundError):  # another worker has just moved it
                stats[name.market_id] = FileStat.of(_stat(entry))
    return stats


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    """Return the stat of a file, or of the link itself if it is a dangling link."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def look_at_disk(layout: Layout, stats: Stats) -> OnDisk:
    """Find the facts of every market file: from the ledger or journal if the file is the one that they describe,
    otherwise by reading it. A file that was read is ours if ledger or index have its checksum."""
    seen_us = time.time_ns() // 1000
    try:
        indexed = index_csv.read(layout.index)
    except UnreadableIndex as error:
        _log.warning("The index is unreadable and will be rebuilt: %s", error)
        indexed = Index(layout, {}, Packed(FileFacts))
    try:
        ledger = Ledger.read(layout.ledger)
    except DamagedLedger as error:
        _log.warning("%s. It will be rebuilt; until then only index.csv confirms the market files.", error)
        ledger = Ledger()
    facts = Packed(FileFacts)
    for record in Journal(layout.journal_dir).all_written():
        if record.market_id in stats and record.is_of(stats[record.market_id]):
            facts[record.market_id] = record.facts
    journalled = frozenset(facts)
    until_us = 0 if ledger.exists else _vouched_until_us(layout)

    def index_vouches(market_id: str, stat: FileStat) -> bool:
        if stat.st_ctime_ns > until_us * 1000 or market_id not in indexed:
            return False
        return indexed.facts[market_id].size_bytes == stat.st_size

    damaged: dict[str, str] = {}
    unvouched: dict[str, FileFacts] = {}
    unreadable: dict[str, str] = {}
    unknown = 0
    for market_id, stat in stats.items():
        if market_id in facts or ledger.vouch(market_id, stat, facts):
            continue
        if until_us and index_vouches(market_id, stat):
            facts.take(market_id, indexed.facts)
            continue
        unknown += 1
        try:
            found = market_file.inspect(layout.market_file(market_id), market_id)
        except DamagedFile as error:
            damaged[market_id] = str(error)
        except FileNotFoundError:  # another worker has just moved it
            continue
        except OSError as error:
            unreadable[market_id] = f"{layout.file_path(market_id)}: cannot be read: {error.strerror or error}"
        else:
            promised = indexed.facts.get(market_id)
            if ledger.knows(market_id, found.checksum) or promised is not None and promised.checksum == found.checksum:
                facts[market_id] = found
            else:
                unvouched[market_id] = found
    return OnDisk(seen_us, stats, facts, damaged, unvouched, unreadable, indexed, ledger, unknown, journalled)


def _vouched_until_us(layout: Layout) -> int:
    """Return the time, microseconds since 1970, up to which the index of an export without a ledger (version 0.1)
    confirms files: its modification time.

    0 if the index is not as publish_index wrote it, because an edited index confirms nothing; also 0 if its time is in
    the future, because a clock was wrong.
    """
    try:
        with open(layout.index, "rb") as file:
            is_ours = checksum_of(file) == layout.index_checksum.read_text(encoding="ascii", errors="replace")
            modified_us = os.fstat(file.fileno()).st_mtime_ns // 1000
            return modified_us if is_ours and modified_us <= time.time_ns() // 1000 else 0
    except FileNotFoundError:
        return 0


def is_indexed(layout: Layout, disk: OnDisk, events: dict[str, str]) -> bool:
    """Return whether index.csv and the ledger exist and describe exactly the files in markets/, none of which was
    touched since."""
    return (
        not disk.unknown
        and not disk.not_ours(layout)
        and layout.index.exists()
        and disk.ledger.exists
        and disk.ledger.files.keys() == disk.facts.keys()
        and disk.files.keys() == disk.index.keys()
        and disk.facts == disk.index.facts
        and all(events.get(market_id, event_id) == event_id for market_id, event_id in disk.index.events.items())
    )


def index_rows(layout: Layout, disk: OnDisk, events: dict[str, str]) -> Index:
    """Return the index of the files on disk. events: event ids of the markets in the database.

    A file that could not be read, or is not as we wrote it, keeps its row, because no other checksum of it is
    confirmed.
    """
    facts = disk.facts
    kept = [market_id for market_id in (*disk.unreadable, *disk.unvouched) if market_id in disk.index]
    if kept:
        facts = facts | Packed(FileFacts)
        for market_id in kept:
            facts.take(market_id, disk.index.facts)
    named = {}
    for market_id in facts:
        event_id = events.get(market_id)
        if event_id is None:
            event_id = (
                disk.index.events[market_id]
                if market_id in disk.index
                else sys.intern(str(_described_event(layout, market_id)))
            )
        named[market_id] = event_id
    return Index(layout, named, facts)


def _described_event(layout: Layout, market_id: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        described = metadata_json.parse(layout.metadata_file(market_id).read_bytes())
        return (described or {}).get("eventId") or ""
    return ""


def publish_index(layout: Layout, disk: OnDisk, rows: Index) -> None:
    """Write the ledger, then index.csv.

    Both describe the files at the time of the scan: files that were touched later are read again.
    """
    layout.journal_dir.mkdir(parents=True, exist_ok=True)
    after = disk.ledger.promising(disk.index.facts).after(disk.files, disk.facts, disk.journalled)
    if after != disk.ledger:
        after.write(layout.ledger)
    with replacing(layout.index, modified_us=disk.seen_us) as file:
        for lines in index_csv.render(rows):
            file.write(lines)
        with replacing(layout.index_checksum) as checksum:
            checksum.write(file.checksum.encode())
    Journal(layout.journal_dir).clear("written")
