"""Market files of earlier format versions, written again as those of today's: the same ticks, by themselves."""

from collections.abc import Collection
from pathlib import Path

from tasks.errors import DamagedFile
from tasks.export_directory.directory_scan import OnDisk
from tasks.export_directory.journal import Journal, Written
from tasks.exporting.refresh import OlderTicks
from tasks.market_files import market_file
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_file import MarketWriter
from tasks.storage.atomic_files import flush_directory
from tasks.storage.disk_space import require_room
from tasks.storage.layout import Layout
from tasks.ticks.schema import FORMAT_VERSION

#: What a file of today's version may take at most, by the size of the older one: both are there for a moment.
_GROWTH, _LEAST_BYTES = 1.2, 1 << 16


def older_files(layout: Layout, market_ids: Collection[str]) -> list[str]:
    """Return those of some markets whose file is of an earlier version, sorted. Raises as market_file.version()."""
    return [
        market_id
        for market_id in sorted(market_ids)
        if market_file.version(layout.market_file(market_id)) < FORMAT_VERSION
    ]


def upgrade(layout: Layout, market_id: str, disk: OnDisk) -> FileFacts:
    """Write the file of a market again, with the same ticks and the same time of modification; return its facts.

    Raises DamagedFile if its ticks are not those that were written, NoRoom where the disk is too full for both
    files. The old one stays then, and until the new one is whole.
    """
    path, before = layout.market_file(market_id), disk.facts[market_id]
    require_room(path, before.size_bytes * _GROWTH + _LEAST_BYTES)
    with MarketWriter(path, market_id) as writer:
        _copy(path, writer)
        facts, stat = writer.finish(disk.files[market_id].st_mtime_ns // 1000)
        if facts[:4] != before[:4]:
            raise DamagedFile(
                f"{path}: holds {facts.tick_records} ticks in {facts.messages} messages, {before.tick_records} in"
                f" {before.messages} were written. It is left as it is: run VerifyExport."
            )
        writer.file.flush_to_disk()
        Journal(layout.journal_dir).written(Written(market_id, "refreshed", stat, facts))
        writer.file.publish()
    flush_directory(layout.markets_dir)
    return facts


def _copy(path: Path, writer: MarketWriter) -> None:
    """Write all ticks of a file, cut between messages."""
    older, more = OlderTicks(path), True
    while more:
        ticks, bound = older.take(None)
        writer.write(ticks)
        more = bound is not None


def checksum_as_today(path: Path, market_id: str) -> str:
    """Return the SHA-256 that a file's ticks have in a file of today's version: the same ticks make the same file.

    Raises as market_file.read().
    """
    with MarketWriter(path, market_id) as writer:  # which goes nowhere
        _copy(path, writer)
        facts, _ = writer.finish(0)
        return facts.checksum
