"""Write, read and inspect market files of every format. Ticks are written and read in file order."""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.errors import DamagedFile
from tasks.market_files import formats
from tasks.market_files.decoding import decoding, require_regular
from tasks.market_files.file_facts import FileFacts, TickCounter
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile
from tasks.storage.file_identity import FileStat, checksum_of
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

#: How many threads read one market at most: more do not help, because they wait for memory.
_MOST_THREADS = 4


class MarketWriter:
    """Writes one market file from ticks in file order, given as whole messages.

    finish() closes the file; then file can be flushed to disk and published. Its suffix determines the format.
    bystander: also receives all ticks.
    """

    def __init__(self, path: Path, market_id: str, bystander: Callable[[Ticks], None] = lambda ticks: None) -> None:
        self._bystander = bystander
        market_format = formats.of(path)
        self.file = NewFile(path)
        self._counter = TickCounter()
        self._sink = market_format.open(self.file, market_id)

    def write(self, ticks: Ticks) -> None:
        """Append ticks."""
        self._counter.add(ticks)
        self._sink.write(ticks, ticks.sequence())
        self._bystander(ticks)

    def finish(self, modified_us: int) -> tuple[FileFacts, FileStat]:
        """Close the file, with the modification time modified_us; return its facts and its stat."""
        self._sink.close()
        stat = self.file.finish(modified_us)
        return self._counter.facts(self.file.size_bytes, self.file.checksum), stat

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.abandon()  # after an error; after finish() it is empty
        self.file.__exit__(kind, error, trace)


def read(path: Path, market: int = 0) -> Iterator[Ticks]:
    """Yield the ticks of a market file in their order, in batches of bounded size.

    Raises DamagedFile if its content is not what MarketWriter writes, and OSError if it cannot be read.
    """
    for batch in batches(path):
        yield Ticks.from_batch(batch, market)


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a market file in their order, in batches of bounded size. Raises as read() does."""
    market_format = formats.of(path)
    require_regular(path)
    with decoding(path):
        yield from market_format.batches(path)


def read_span(path: Path, market: int, span: Span, batch_rows: int) -> Iterator[Ticks]:
    """Yield the ticks of a market file that are in a span, in order, about so many at once.

    Raises DamagedFile if the part that is read is not that of a market file, and OSError if it cannot be read.
    """
    require_regular(path)
    with decoding(path):
        for batch in formats.of(path).span_batches(path, span, batch_rows):
            ticks = Ticks.from_batch(batch, market)
            start, end = np.searchsorted(ticks.publish_time, [span.lower_us, span.upper_us])
            if start < end:
                yield ticks[start:end]


def read_rows(
    path: Path, span: Span, batch_rows: int, columns: Collection[str], choose: Callable[[Ints], Ints]
) -> Ticks:
    """Return those ticks of a market file, in order, that choose selects, read by several threads. Raises as
    read_span() does.

    columns: the ones that are needed, publish_time among them; others are 0. choose: gets the publish_time of a batch
    of rows in order, in any thread; returns the rows to keep, ascending. Only those are converted.
    """
    require_regular(path)
    market_format = formats.of(path)

    def chosen(part: Span) -> Ticks:
        batches = []
        for batch in market_format.span_batches(path, part, batch_rows, columns):
            publish_time = batch.column("publish_time").cast(pa.int64()).to_numpy()
            start, end = np.searchsorted(publish_time, [part.lower_us, part.upper_us])
            if start < end:
                batches.append(batch.take(pa.array(choose(publish_time[start:end]) + start)))
        if not batches:
            return Ticks.empty()
        (batch,) = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()
        return Ticks.from_batch(batch)

    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    with decoding(path), concurrent.futures.ThreadPoolExecutor(threads, "read") as pool:
        return Ticks.concatenate(list(pool.map(chosen, market_format.parts(path, span, threads))))


def estimate_rows(path: Path, facts: FileFacts, span: Span) -> float:
    """Estimate how many ticks of a market file are in a span, without reading them; for Parquet, an upper bound."""
    if span.share(facts) in (0, 1):
        return facts.tick_records * span.share(facts)
    require_regular(path)
    with decoding(path):
        return formats.of(path).rows_between(path, facts, span)


def inspect(path: Path, market_id: str) -> FileFacts:
    """Read a whole market file and return its facts.

    Raises DamagedFile if it cannot be decoded, is out of order, or holds another market's ticks; OSError if it cannot
    be read.
    """
    counter = TickCounter()
    for batch in batches(path):
        with decoding(path):
            ids = batch.column("market_id").cast(pa.string()).unique().to_pylist()
            if ids not in ([], [market_id]):
                raise DamagedFile(f"{path}: holds market {ids[0]}, expected {market_id}")
            counter.add(Ticks.from_batch(batch))
    with open(path, "rb") as file:
        return counter.facts(os.fstat(file.fileno()).st_size, checksum_of(file))


def version(path: Path) -> int:
    """Return the format version of a market file. Raises DamagedFile, NewerVersion and OSError."""
    require_regular(path)
    with decoding(path):
        return formats.of(path).version(path)


def readable_ticks(path: Path) -> int:
    """Return how many ticks of a damaged market file can still be read, from its beginning. Raises OSError."""
    count = 0
    with contextlib.suppress(DamagedFile):
        for batch in batches(path):
            count += len(batch)
    return count
