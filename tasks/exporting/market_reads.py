"""Ticks of markets as an export reads them: small markets many at a time, large ones slice by slice."""

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

#: Rows that a read aims at, and the most it takes of either table before it is cut. They bound the memory.
SLICE_ROWS = 50_000
LIMIT_ROWS = 75_000
BATCH_MARKETS = 200


@dataclasses.dataclass(frozen=True)
class Job:
    """All that an export needs to know.

    promise: what the fullest file of a market had, None where nobody knows of any; workers: how many processes export
    at once; tables: where the database has them; gathers_statistics: whether a report is to follow.
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
    """Ticks that have come: of some whole markets, or of one market up to upper_us (None: to its end)."""

    markets: Sequence[Pending]
    snapshot_us: int
    ticks: Ticks
    upper_us: int | None = None
    error: UnreadableRow | None = None


def read_markets(job: Job, reader: TickReader, markets: Sequence[Pending]) -> Iterator[MarketRead]:
    """Yield the ticks of markets as they come, read together where they are small and slice by slice where large."""
    for batch in _batches(job, markets):
        batch = [market for market in batch if not _changed(job, market)]
        if batch:
            yield from _read_batch(job, reader, batch)


def _changed(job: Job, market: Pending) -> bool:
    """Return whether the market's file was written since the survey, by another worker of the same luigid."""
    try:
        now = FileStat.of_path(job.layout.market_file(market.market_id))
    except OSError:  # or a link that leads nowhere
        return False
    return market.stat is None or not now.is_same_file(market.stat)


def _batches(job: Job, markets: Sequence[Pending]) -> Iterator[list[Pending]]:
    """Cut markets into batches that are read together; a market that fills one alone comes alone."""

    def rows(market: Pending) -> float:
        held = job.promise(market.market_id)
        return job.density.rows(market.market_id) + (held.tick_records if held else 0)

    return batches(sorted(markets, key=lambda market: market.market_id), rows, SLICE_ROWS, BATCH_MARKETS)


def _read_batch(job: Job, reader: TickReader, batch: list[Pending]) -> Iterator[MarketRead]:
    # A file dated by a clock that is ahead would count as settled too early: the earlier of the two clocks counts.
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
    """Yield further readers for a market that has more than its share of the ticks: at the end it is exported alone,
    and each connection keeps a processor of the server busy. As many as there are workers, or as the server has
    connections to give.
    """
    if job.density.rows(market_id) * job.workers <= job.density.total_rows():
        return
    with contextlib.suppress(DatabaseError):
        for _ in range(job.workers - 1):
            yield connections.enter_context(reader.of_same_snapshot())
