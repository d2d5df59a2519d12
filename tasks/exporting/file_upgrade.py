"""Rewrite market files of earlier format versions in the current one: the same ticks, without a database."""

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

#: The largest size of a file in the current version, relative to the older one: for a moment both exist.
_GROWTH, _LEAST_BYTES = 1.2, 1 << 16


def older_files(layout: Layout, market_ids: Collection[str]) -> list[str]:
    """Return, sorted, the markets whose file has an earlier version. Raises the errors of market_file.version()."""
    return [
        market_id
        for market_id in sorted(market_ids)
        if market_file.version(layout.market_file(market_id)) < FORMAT_VERSION
    ]


def upgrade(layout: Layout, market_id: str, disk: OnDisk) -> FileFacts:
    """Rewrite the file of a market with the same ticks and the same modification time; return its facts.

    Raises DamagedFile if its ticks are not those that were written, NoRoom if the disk is too full for both files. The
    old file stays until the new one is complete.
    """
    path, before = layout.market_file(market_id), disk.facts[market_id]
    require_room(path, before.size_bytes * _GROWTH + _LEAST_BYTES)
    with MarketWriter(path, market_id) as writer:
        _copy(path, writer)
        facts, stat = writer.finish(disk.files[market_id].st_mtime_ns // 1000)
        if facts[:4] != before[:4]:
            raise DamagedFile(
                f"{path}: has {facts.tick_records} ticks in {facts.messages} messages, expected {before.tick_records}"
                f" in {before.messages}. It is left as it is: run VerifyExport."
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
    """Return the SHA-256 that a file would have in the current version: the same ticks give the same bytes.

    Raises the errors of market_file.read().
    """
    with MarketWriter(path, market_id) as writer:  # never published
        _copy(path, writer)
        facts, _ = writer.finish(0)
        return facts.checksum
