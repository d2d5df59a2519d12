"""What lies in the output directory, and what index.csv says of it."""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
import sys
import time
from collections.abc import Mapping

from tasks.errors import DamagedFile, UnreadableIndex, UsageError
from tasks.export_directory import index_csv, metadata_json
from tasks.export_directory.index_csv import Index
from tasks.export_directory.journal import Journal
from tasks.export_directory.packed_records import Packed
from tasks.market_files import formats, market_file
from tasks.market_files.file_facts import FileFacts
from tasks.storage.atomic_files import FileStat, replacing
from tasks.storage.layout import Layout, market_file_name

_log = logging.getLogger("tick_export.disk")

Stats = Mapping[str, FileStat]


@dataclasses.dataclass(frozen=True, slots=True)
class OnDisk:
    """What lies in the output directory.

    seen_us: when the look began, microseconds since 1970; files: what stat says of each market file; facts: of
    each sound one; damaged: why a file is none of ours; index: the rows of index.csv; unknown: how many files
    neither index nor journal vouched for, so that they had to be read.
    """

    seen_us: int
    files: Stats
    facts: Packed[FileFacts]
    damaged: dict[str, str]
    index: Index
    unknown: int


def list_files(layout: Layout) -> Stats:
    """Return what stat says of each market file. Raises UsageError where the directory holds the other format."""
    stats = Packed(FileStat)
    with contextlib.suppress(FileNotFoundError), os.scandir(layout.markets_dir) as entries:
        for entry in entries:
            name = market_file_name(entry.name)
            if name is None or name.format not in formats.NAMES:
                continue
            if name.format != layout.format:
                raise UsageError(
                    f"{layout.output_dir} holds {name.format} market files ({entry.name}), asked for {layout.format}:"
                    f" one directory has one format. Use --format {name.format} or another --output-dir."
                )
            with contextlib.suppress(FileNotFoundError):  # another worker has just moved it
                stats[name.market_id] = FileStat.of(_stat(entry))
    return stats


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    """Return what stat says of a file, and of a link that leads nowhere what it says of the link."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def look_at_disk(layout: Layout, stats: Stats) -> OnDisk:
    """Find the facts of every market file: from the index and the journal where the file is the one they speak of,
    otherwise by reading it."""
    seen_us = time.time_ns() // 1000
    try:
        indexed = index_csv.read(layout.index)
    except UnreadableIndex as error:
        _log.warning("The index is unreadable and will be made anew: %s", error)
        indexed = Index(layout, {}, Packed(FileFacts))
    vouched_us = vouched_until_us(layout)
    facts = Packed(FileFacts)
    for record in Journal(layout.journal_dir).all_written():
        if record.market_id in stats and record.is_of(stats[record.market_id]):
            facts[record.market_id] = record.facts

    def is_vouched(market_id: str, stat: FileStat) -> bool:
        promised = indexed.facts.get(market_id)
        return promised is not None and promised.size_bytes == stat.st_size and stat.st_ctime_ns <= vouched_us * 1000

    if not facts and len(stats) == len(indexed) and all(itertools.starmap(is_vouched, stats.items())):
        return OnDisk(seen_us, stats, indexed.facts, {}, indexed, 0)  # nothing has changed: nothing need be held twice
    damaged: dict[str, str] = {}
    unknown = 0
    for market_id, stat in stats.items():
        if market_id in facts:
            continue
        if is_vouched(market_id, stat):
            facts.take(market_id, indexed.facts)
        else:
            unknown += 1
            try:
                facts[market_id] = _inspect(layout, market_id, indexed.facts.get(market_id))
            except DamagedFile as error:
                damaged[market_id] = str(error)
    return OnDisk(seen_us, stats, facts, damaged, indexed, unknown)


def vouched_until_us(layout: Layout) -> int:
    """Return the time, microseconds since 1970, up to which index.csv vouches for files: when publish_index had
    looked at them.

    0 where it is not as publish_index left it: what somebody else has written into it vouches for nothing.
    """
    try:
        with open(layout.index, "rb") as file:
            is_ours = hashlib.file_digest(file, "sha256").hexdigest() == layout.index_checksum.read_text(
                encoding="ascii", errors="replace"
            )
            return os.fstat(file.fileno()).st_mtime_ns // 1000 if is_ours else 0
    except FileNotFoundError:
        return 0


def _inspect(layout: Layout, market_id: str, promised: FileFacts | None) -> FileFacts:
    try:
        facts = market_file.inspect(layout.market_file(market_id), market_id)
    except OSError as error:
        raise DamagedFile(f"{layout.file_path(market_id)}: cannot be read: {error.strerror}") from None
    if promised is not None and facts.tick_records < promised.tick_records:
        raise DamagedFile(
            f"{layout.file_path(market_id)}: has {facts.tick_records} ticks, the index says {promised.tick_records}"
        )
    return facts


def is_indexed(layout: Layout, disk: OnDisk, events: dict[str, str]) -> bool:
    """Tell whether index.csv is there and says exactly what lies in markets/, of files that nobody touched since."""
    return (
        not disk.unknown
        and layout.index.exists()
        and disk.files.keys() == disk.index.keys()
        and disk.facts == disk.index.facts
        and all(events.get(market_id, event_id) == event_id for market_id, event_id in disk.index.events.items())
    )


def index_rows(layout: Layout, disk: OnDisk, events: dict[str, str]) -> Index:
    """Return the index of what lies on disk. events: event ids of markets that the database knows."""
    named = {}
    for market_id in disk.facts:
        event_id = events.get(market_id)
        if event_id is None:
            event_id = (
                disk.index.events[market_id]
                if market_id in disk.index
                else sys.intern(str(_described_event(layout, market_id)))
            )
        named[market_id] = event_id
    return Index(layout, named, disk.facts)


def _described_event(layout: Layout, market_id: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        described = metadata_json.parse(layout.metadata_file(market_id).read_bytes())
        return (described or {}).get("eventId") or ""
    return ""


def publish_index(layout: Layout, disk: OnDisk, rows: Index) -> None:
    """Write index.csv.

    Its modification time becomes that of the look at the disk: it vouches for files that were not touched after it.
    """
    layout.journal_dir.mkdir(parents=True, exist_ok=True)
    with replacing(layout.index, modified_us=disk.seen_us) as file:
        for lines in index_csv.render(rows):
            file.write(lines)
        with replacing(layout.index_checksum) as checksum:
            checksum.write(file.checksum.encode())
    Journal(layout.journal_dir).clear("written")
