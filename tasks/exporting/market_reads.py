"""Read the ticks of markets for an export: several small ones at once, large ones in slices."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

from tasks.errors import DatabaseError, UnreadableRow
from tasks.exporting.survey import Pending
from tasks.market_files.file_facts import FileFacts
from tasks.postgres.density import Density, batches
from tasks.postgres.server import Server
from tasks.postgres.source_tables import SourceTables
from tasks.postgres.tick_reader import Rows, TickReader, TooManyRows, read_market
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks.tick_arrays import Ticks

#: The number of rows that a read aims at, and the most it takes from either table before it is cut. They limit memory.
SLICE_ROWS = 50_000
LIMIT_ROWS = 75_000
BATCH_MARKETS = 200


@dataclasses.dataclass(frozen=True)
class Job:
    """All that an export needs to know.

    promise: the facts of the fullest file that a market has had, None if none is known; workers: how many processes
    export at once; tables: where the recorder's tables are; gathers_statistics: whether a report follows.
    """

    server: Server
    layout: Layout
    density: Density
    promise: Callable[[str], FileFacts | None]
    workers: int = 1
    tables: SourceTables | None = None
    progress: Callable[[int, int], None] = lambda markets, ticks: None
    gathers_statistics: bool = True


@dataclasses.dataclass(frozen=True)
class MarketRead:
    """Ticks that were read: of some whole markets, or of one market up to upper_us (None: to its end)."""

    markets: Sequence[Pending]
    snapshot_us: int
    ticks: Ticks
    upper_us: int | None = None
    error: UnreadableRow | None = None


def read_markets(job: Job, reader: TickReader, markets: Sequence[Pending]) -> Iterator[MarketRead]:
    """Yield the ticks of markets as they are read: small markets together, large ones in slices."""
    for batch in _batches(job, markets):
        batch = [market for market in batch if not _changed(job, market)]
        if batch:
            yield from _read_batch(job, reader, batch)


def _changed(job: Job, market: Pending) -> bool:
    """Return whether the market's file was written since the survey, by another worker of the same luigid."""
    try:
        now = FileStat.of_path(job.layout.market_file(market.market_id))
    except OSError:  # or a dangling link
        return False
    return market.stat is None or not now.is_same_file(market.stat)


def _batches(job: Job, markets: Sequence[Pending]) -> Iterator[list[Pending]]:
    """Cut markets into batches that are read together; a market that fills a batch by itself comes alone."""

    def rows(market: Pending) -> float:
        held = job.promise(market.market_id)
        return job.density.rows(market.market_id) + (held.tick_records if held else 0)

    return batches(sorted(markets, key=lambda market: market.market_id), rows, SLICE_ROWS, BATCH_MARKETS)


def _read_batch(job: Job, reader: TickReader, batch: list[Pending]) -> Iterator[MarketRead]:
    # A file dated by a clock that is ahead would count as settled too early, so the earlier clock is used.
    snapshot_us = min(reader.begin_snapshot(), time.time_ns() // 1000)
    wanted = [market for market in batch if not market.empty]
    try:
        if len(batch) > 1:
            rows = Rows(tuple(market.market_id for market in wanted))
            ticks = reader.read(rows, None, LIMIT_ROWS) if wanted else Ticks.empty()
            yield MarketRead(wanted + [market for market in batch if market.empty], snapshot_us, ticks)
        elif not wanted:
            yield MarketRead(batch, snapshot_us, Ticks.empty())
        else:
            market_id = batch[0].market_id
            bounds = job.density.bounds_us(market_id, SLICE_ROWS)
            selections = reader.selection_ids(market_id)
            with contextlib.ExitStack() as connections:
                readers = [reader, *more_readers(job, reader, market_id, connections)]
                for ticks, upper_us in read_market(readers, market_id, selections, bounds, LIMIT_ROWS):
                    yield MarketRead(batch, snapshot_us, ticks, upper_us)
    except TooManyRows:
        for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
            yield from _read_batch(job, reader, half)
    except UnreadableRow as error:
        if len(batch) == 1:
            yield MarketRead(batch, snapshot_us, Ticks.empty(), None, error)
        else:  # one of them is bad: the others shall not suffer
            for market in batch:
                yield from _read_batch(job, reader, [market])


def more_readers(
    job: Job, reader: TickReader, market_id: str, connections: contextlib.ExitStack
) -> Iterator[TickReader]:
    """Yield further readers for a very large market: in the end it is exported alone, and each connection keeps one
    processor of the server busy. There is one reader per worker, or fewer if the server has no connections to spare.
    """
    if job.density.rows(market_id) * job.workers <= job.density.total_rows():
        return
    with contextlib.suppress(DatabaseError):
        for _ in range(job.workers - 1):
            yield connections.enter_context(reader.of_same_snapshot())
