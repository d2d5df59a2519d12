"""Disjoint slices of time out of many streams of ticks, in bounded memory whatever the number and size of the
markets.
"""

import contextlib
import heapq
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

#: Rows a stream of its own is worth: a market with fewer is read at once with others.
LARGE_ROWS = 131_072
#: Streams that are read side by side, each of which holds a few MB; further large markets are read like small ones.
MAX_STREAMS = 24
#: Rows that a run is made of; runs that stay in memory, before others wait on disk; rows that all streams read ahead.
RUN_ROWS = 1_000_000
MEMORY_RUNS = 3
_AHEAD_ROWS = 1_000_000
_LEAST_BATCH_ROWS = 4_096
_MOST_BATCH_ROWS = 65_536
_SPILL_SCHEMA = pa.schema(
    [pa.field(name, pa.from_numpy_dtype(column.dtype)) for name, column in vars(Ticks.empty()).items()]
)


class Source(Protocol):
    """Where ticks come from: market files or the database. Markets are numbered in the order of their ids."""

    @property
    def expected_rows(self) -> Sequence[float]:
        """About how many rows each market has."""

    def stream(self, market: int, batch_rows: int) -> Iterator[Ticks]:
        """Yield the ticks of a market in ascending order of publish_time, about so many at once."""

    def together(self, markets: Sequence[int]) -> Iterator[Ticks]:
        """Yield all ticks of several markets, in any order and in parts of bounded size."""


def slices(source: Source, rows: int, edges: Sequence[int], directory: Path) -> Iterator[Ticks]:
    """Yield all ticks of a source in slices of ascending, disjoint publish_time, each of at most so many rows.

    A publish_time with more rows than that is a slice alone. A slice also ends at each of edges (µs since 1970).
    directory: where ticks may wait in a file that has no name.
    """
    with contextlib.ExitStack() as stack:
        streams = _streams(source, directory, stack)
        yield from _cut(streams, rows, np.array(edges, np.int64))


def _streams(source: Source, directory: Path, stack: contextlib.ExitStack) -> list[Iterator[Ticks]]:
    """Return streams of which each ascends in time: the largest markets alone, all others merged into runs."""
    expected = source.expected_rows
    by_size = sorted(range(len(expected)), key=lambda market: -expected[market])
    large = [market for market in by_size[:MAX_STREAMS] if expected[market] >= LARGE_ROWS]
    runs = _runs(source.together(sorted(set(by_size) - set(large))))
    merged = [iter([run]) for run in itertools.islice(runs, MEMORY_RUNS)]
    further = next(runs, None)
    if further is not None:
        spill = stack.enter_context(Spill(directory))
        for run in itertools.chain([further], runs):
            spill.add(run)
        merged += spill.runs()
    batch_rows = min(max(_AHEAD_ROWS // max(len(large), 1), _LEAST_BATCH_ROWS), _MOST_BATCH_ROWS)
    return [source.stream(market, batch_rows) for market in large] + merged


def _runs(parts: Iterable[Ticks]) -> Iterator[Ticks]:
    """Yield the ticks of parts, each time some RUN_ROWS of them have come, in order of publish_time."""
    waiting: list[Ticks] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= RUN_ROWS:
            yield _by_time(waiting)
            count = 0
    if count:
        yield _by_time(waiting)


def _by_time(parts: list[Ticks]) -> Ticks:
    ticks = Ticks.concatenate(parts)
    parts.clear()
    return ticks[np.argsort(ticks.publish_time, kind="stable")]


class Spill:
    """Runs of ticks in a file without a name, which is gone when this process is, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, prefix=".spill.")
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), _SPILL_SCHEMA, options=options)
        self._batches = [0]

    def add(self, run: Ticks) -> None:
        """Write a run."""
        batch = pa.RecordBatch.from_arrays([pa.array(column) for column in vars(run).values()], schema=_SPILL_SCHEMA)
        starts = range(0, len(run), _LEAST_BATCH_ROWS)
        for start in starts:
            self._writer.write_batch(batch.slice(start, _LEAST_BATCH_ROWS))
        self._batches.append(self._batches[-1] + len(starts))

    def runs(self) -> list[Iterator[Ticks]]:
        """Return a stream of each run. No more can be written then."""
        self._writer.close()
        reader = pa.ipc.open_file(pa.PythonFile(self._file, "r"))
        return [self._run(reader, range(*bounds)) for bounds in zip(self._batches, self._batches[1:])]

    @staticmethod
    def _run(reader: pa.ipc.RecordBatchFileReader, numbers: range) -> Iterator[Ticks]:
        for number in numbers:
            yield Ticks(*(column.to_numpy() for column in reader.get_batch(number).columns))

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Head:
    """What has been read of a stream and not yet been cut off."""

    def __init__(self, stream: Iterator[Ticks]) -> None:
        self._stream = stream
        self._parts: list[Ticks] = []
        self.newest_rows = 0
        self.last = 0

    def read(self) -> bool:
        """Read the next batch; return False at the end of the stream."""
        for batch in self._stream:
            if len(batch):
                self._parts.append(batch)
                self.newest_rows, self.last = len(batch), int(batch.publish_time[-1])
                return True
        return False

    def cut(self, before_us: int | None) -> Ticks:
        """Cut off and return what is before a time, all for None."""
        ticks = Ticks.concatenate(self._parts)
        end = len(ticks) if before_us is None else int(np.searchsorted(ticks.publish_time, before_us))
        self._parts = [ticks[end:]] if end < len(ticks) else []
        return ticks[:end]


def _cut(streams: Sequence[Iterator[Ticks]], rows: int, edges: Ints) -> Iterator[Ticks]:
    """Yield the ticks of streams in slices.

    The stream that has come least far is read on, again and again: what is before its last tick is complete.
    """
    heads = [head for head in map(_Head, streams) if head.read()]
    heap = [(head.last, number) for number, head in enumerate(heads)]
    heapq.heapify(heap)
    while heap:
        complete = 0
        while heap and complete < rows:
            head = heads[heap[0][1]]
            complete += head.newest_rows
            if head.read():
                heapq.heapreplace(heap, (head.last, heap[0][1]))
            else:
                heapq.heappop(heap)
        frontier = heap[0][0] if heap else None
        yield from _divided([part for part in (head.cut(frontier) for head in heads) if len(part)], rows, edges)


def _divided(parts: Sequence[Ticks], rows: int, edges: Ints) -> Iterator[Ticks]:
    """Yield the ticks of parts, each in order of publish_time, in slices."""
    if not parts:
        return
    times = np.sort(np.concatenate([part.publish_time for part in parts]), kind="stable")
    starts = np.union1d(_starts(times, rows), np.searchsorted(times, edges))
    bounds = times[starts[(starts > 0) & (starts < len(times))].astype(np.int64)]
    cuts = [[0, *np.searchsorted(part.publish_time, bounds).tolist(), len(part)] for part in parts]
    for number in range(len(bounds) + 1):
        yield Ticks.concatenate([part[cut[number] : cut[number + 1]] for part, cut in zip(parts, cuts)])


def _starts(times: Ints, rows: int) -> list[int]:
    """Return where to cut ascending times so that equal ones stay together and a slice has at most so many, if it
    can.
    """
    starts: list[int] = []
    start = 0
    while len(times) - start > rows:
        cut = int(np.searchsorted(times, times[start + rows]))
        if cut == start:  # one publish_time alone has more
            cut = int(np.searchsorted(times, times[start], side="right"))
            if cut == len(times):
                break
        starts.append(cut)
        start = cut
    return starts
