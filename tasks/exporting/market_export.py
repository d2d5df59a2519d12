"""Export markets from the database into their files: several small ones at once, large ones in slices."""

import contextlib
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tasks.errors import DamagedFile, ExportError, UnreadableFile
from tasks.export_directory.directory_scan import unvouched_reason
from tasks.export_directory.journal import Failed, Journal, Written
from tasks.exporting.file_upgrade import checksum_as_today
from tasks.exporting.market_reads import Job, MarketRead, read_markets
from tasks.exporting.refresh import OlderTicks, merged
from tasks.exporting.survey import Pending
from tasks.market_files import market_file
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_file import MarketWriter
from tasks.postgres.tick_reader import TickReader
from tasks.statistics.statistics_store import Gatherer
from tasks.storage.atomic_files import flush_all_to_disk, flush_directory, make_directory
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks.prefetch import prefetched
from tasks.ticks.schema import FORMAT_VERSION
from tasks.ticks.tick_arrays import Ticks

_log = logging.getLogger("tick_export.export")


def export(job: Job, markets: Iterable[Pending]) -> list[Failed]:
    """Create or refresh market files; return the markets that failed, which are in the journal too.

    Raises DatabaseError if the connection is lost, and OSError if the disk fails. Markets that are finished stay, and
    the others are unchanged.
    """
    failures: list[Failed] = []
    make_directory(job.layout.markets_dir)
    todo = list(markets)
    with TickReader(job.server, job.tables) as reader:
        while todo:
            again: list[Pending] = []
            with contextlib.closing(
                prefetched(read_markets(job, reader, todo))
            ) as reads:  # so that no read is in progress when the reader closes
                for read in reads:
                    if read.error is not None:
                        failures.append(Failed(read.markets[0].market_id, str(read.error)))
                    elif len(read.markets) > 1:
                        failures += _write_markets(job, read)
                    else:
                        try:
                            failures += _write_market(job, read, reads)
                        except DamagedFile as error:
                            again.append(dataclasses.replace(read.markets[0], damaged=str(error)))
            todo = again
    for failure in failures:
        Journal(job.layout.journal_dir).failed(failure)
        _log.error("Market %s failed: %s", failure.market_id, failure.reason)
    return failures


def _write_markets(job: Job, read: MarketRead) -> list[Failed]:
    """Write the files of a batch, merged with those that exist, and publish them together."""
    failures: list[Failed] = []
    older, markets = [], []
    for position, market in enumerate(read.markets):
        try:
            market, ticks = _older_ticks(job, market)
        except UnreadableFile as error:
            failures.append(Failed(market.market_id, str(error)))
            ticks = Ticks.empty()
        older.append(dataclasses.replace(ticks, market=np.full(len(ticks), position, np.int64)))
        markets.append(market)
    unreadable = {failed.market_id for failed in failures}
    ticks = read.ticks.merged_over(Ticks.concatenate(older))
    edges = np.searchsorted(ticks.market, np.arange(len(markets) + 1))
    with contextlib.ExitStack() as unpublished:
        finished = []
        for position, market in enumerate(markets):
            if market.market_id in unreadable:
                continue
            path = job.layout.market_file(market.market_id)
            gatherer = Gatherer(market.market_id, job.gathers_statistics)
            writer = unpublished.enter_context(MarketWriter(path, market.market_id, gatherer.add))
            writer.write(ticks[edges[position] : edges[position + 1]])
            finished.append((market, writer, *writer.finish(read.snapshot_us)))
            gatherer.keep(job.layout, finished[-1][2].checksum)
        job.progress(0, len(ticks))
        flush_all_to_disk(writer.file for _, writer, _, _ in finished)
        for market, writer, facts, stat in finished:
            failures += _publish(job, market, writer, facts, stat)
    flush_directory(job.layout.markets_dir)
    return failures


def _write_market(job: Job, read: MarketRead, reads: Iterator[MarketRead]) -> list[Failed]:
    """Write one market's file from this read and the following ones, merged with the file that exists.

    Raises DamagedFile, after the market's last read, if that file turns out to be damaged.
    """
    market, damage = read.markets[0], None
    failed: ExportError | None = read.error
    older = OlderTicks(_sound_file(job, market))
    gatherer = Gatherer(market.market_id, job.gathers_statistics)
    with MarketWriter(job.layout.market_file(market.market_id), market.market_id, gatherer.add) as writer:
        while True:
            failed = failed or read.error
            if failed is None and damage is None:
                try:
                    for ticks in merged(read.ticks, older, read.upper_us):
                        writer.write(ticks)
                        job.progress(0, len(ticks))
                except DamagedFile as error:
                    damage = error
                except UnreadableFile as error:
                    failed = error
            if read.upper_us is None:
                break
            read = next(reads)
        if damage is not None:
            raise damage
        if failed is not None:
            return [Failed(market.market_id, str(failed))]
        facts, stat = writer.finish(read.snapshot_us)
        gatherer.keep(job.layout, facts.checksum)
        writer.file.flush_to_disk()
        failures = _publish(job, market, writer, facts, stat)
    flush_directory(job.layout.markets_dir)
    return failures


def _older_ticks(job: Job, market: Pending) -> tuple[Pending, Ticks]:
    """Return the ticks of a small market's file (none if there is no sound file), and the market, with what is wrong
    with its file. Raises UnreadableFile."""
    path = _sound_file(job, market)
    try:
        return market, Ticks.concatenate(list(market_file.read(path))) if path is not None else Ticks.empty()
    except DamagedFile as error:
        return dataclasses.replace(market, damaged=str(error)), Ticks.empty()
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read: {error.strerror}. Nothing was changed") from None


def _sound_file(job: Job, market: Pending) -> Path | None:
    """Return the market's file if a refresh may merge into it: one that is damaged, or not as we wrote it, does not
    count."""
    if market.stat is None or market.damaged is not None or market.unvouched is not None and not market.accepted:
        return None
    return job.layout.market_file(market.market_id)


def _set_aside(path: Path) -> Path:
    """Rename a damaged file to <name>.damaged, or .damaged.2 and so on if that exists; return its new path."""
    asides = (Layout.aside(path, number) for number in itertools.count(1))
    aside = next(aside for aside in asides if not os.path.lexists(aside))
    with contextlib.suppress(FileNotFoundError):  # another worker was faster
        os.rename(path, aside)
    return aside


def _publish(job: Job, market: Pending, writer: MarketWriter, facts: FileFacts, stat: FileStat) -> list[Failed]:
    """Give a finished file its name, unless that would hide that ticks are lost."""
    promised = job.promise(market.market_id)
    if market.unvouched is not None and facts.checksum == market.unvouched.checksum:
        return _vouch(job, market, facts)  # nothing confirmed the file; now the database does, byte for byte
    if market.unvouched is not None and promised is None and _is_of_earlier_version(job, market, facts):
        return _vouch(job, market, market.unvouched)
    if not market.accepted and (problem := _not_replaceable(job, market, promised, facts)):
        return [Failed(market.market_id, problem)]
    lost = promised is not None and facts.tick_records < promised.tick_records and not market.accepted
    path = job.layout.market_file(market.market_id)
    damage = market.damaged
    if market.unvouched is not None and not market.accepted:
        damage = unvouched_reason(job.layout, market.market_id)
    if market.stat is not None and damage is not None:
        aside = _set_aside(path)
        _log.warning(
            "Market %s: its file is damaged. It is kept as %s and exported again. %s",
            market.market_id,
            aside.name,
            damage,
        )
    if not facts.tick_records and (not market.empty or lost or market.accepted):
        if market.accepted:
            return []
        return [
            Failed(market.market_id, "its ticks are gone from the database, and no sound file holds them" + _WAY_OUT)
        ]
    change = "new" if market.stat is None or damage else "refreshed"
    Journal(job.layout.journal_dir).written(Written(market.market_id, change, stat, facts))
    writer.file.publish()
    job.progress(1, 0)
    if promised is not None and lost:
        return [
            Failed(
                market.market_id,
                f"it has had {promised.tick_records} ticks, but file and database together have {facts.tick_records}"
                + _WAY_OUT,
            )
        ]
    return []


#: What to do about ticks that are lost.
_WAY_OUT = (
    ". Restore its file from a backup or an archive, and run again. If there is none, ExportMarket --accept-loss"
    " accepts what is left."
)


def _not_replaceable(job: Job, market: Pending, promised: FileFacts | None, fresh: FileFacts) -> str | None:
    """Return why a damaged or changed file must stay: the database has fewer ticks than the file may hold. None if it
    has them all.

    If nothing says how many ticks a damaged file had, a new file must have at least as many as can still be read, and
    as many bytes: the same ticks give the same bytes.
    """
    name, again = job.layout.file_path(market.market_id), f"the database gives {fresh.tick_records}"
    if market.unvouched is not None:
        needed = max(market.unvouched.tick_records, promised.tick_records if promised else 0)
        if fresh.tick_records < needed:
            reason = unvouched_reason(job.layout, market.market_id)
            return f"{reason}. It is left as it is: it needs {needed} ticks, {again}{_WAY_OUT}"
    elif market.damaged is not None and market.stat is not None and promised is None:
        readable = market_file.readable_ticks(job.layout.market_file(market.market_id))
        if fresh.tick_records < max(readable, 1) or fresh.size_bytes < market.stat.st_size:
            return (
                f"{name} is damaged, and nothing says how many ticks it had. It is left as it is: {readable} of its"
                f" ticks can be read in {market.stat.st_size} bytes, {again} in {fresh.size_bytes} bytes{_WAY_OUT}"
            )
    return None


def _is_of_earlier_version(job: Job, market: Pending, fresh: FileFacts) -> bool:
    """Return whether the existing file has the same ticks as the new one, in an earlier format version."""
    path = job.layout.market_file(market.market_id)
    if market_file.version(path) == FORMAT_VERSION:
        return False
    return checksum_as_today(path, market.market_id) == fresh.checksum


def _vouch(job: Job, market: Pending, facts: FileFacts) -> list[Failed]:
    """Record that the existing file is exactly what the database gives."""
    stat = FileStat.of(os.stat(job.layout.market_file(market.market_id)))
    Journal(job.layout.journal_dir).written(Written(market.market_id, "refreshed", stat, facts))
    job.progress(1, 0)
    return []
