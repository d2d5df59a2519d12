"""Market files: written from ticks in order, read back in order, inspected."""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import DamagedFile
from tasks.market_files import jsonl
from tasks.storage.atomic_files import FileStat, NewFile
from tasks.ticks.schema import ROW_GROUP_ROWS, SCHEMA
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

_READ_ROWS = 131_072
_FACTS, _NO_TIME = struct.Struct("5q32s"), -1 << 63


class FileFacts(NamedTuple):
    """What the index says of a market file. Times in microseconds since 1970, None where there are no ticks."""

    first_tick: int | None
    last_tick: int | None
    tick_records: int
    messages: int
    size_bytes: int
    checksum: str

    def packed(self) -> bytes:
        """Return them as bytes. Raises ValueError where they are none of a file."""
        first, last, *numbers, checksum = self
        if len(digest := bytes.fromhex(checksum)) != hashlib.sha256().digest_size:
            raise ValueError(f"{checksum!r} is no SHA-256")
        try:
            return _FACTS.pack(
                _NO_TIME if first is None else first, _NO_TIME if last is None else last, *numbers, digest
            )
        except struct.error:
            raise ValueError(f"{self} has a number of more than 64 bits") from None

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """Return what was packed."""
        first, last, tick_records, messages, size_bytes, digest = _FACTS.unpack(data)
        return cls(
            None if first == _NO_TIME else first,
            None if last == _NO_TIME else last,
            tick_records,
            messages,
            size_bytes,
            digest.hex(),
        )


class TickCounter:
    """Counts ticks that come in order of publish time."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.tick_records = 0
        self.messages = 0

    def add(self, ticks: Ticks) -> None:
        """Count ticks; raise ValueError where their publish_time is before the last one's."""
        if not len(ticks):
            return
        times = ticks.publish_time
        steps = np.diff(times)
        if bool((steps < 0).any()) or (self.last is not None and int(times[0]) < self.last):
            raise ValueError("publish_time goes back")
        self.messages += int(np.count_nonzero(steps)) + (self.last is None or int(times[0]) != self.last)
        self.first = int(times[0]) if self.first is None else self.first
        self.last = int(times[-1])
        self.tick_records += len(ticks)

    def facts(self, size_bytes: int, checksum: str) -> FileFacts:
        """Return the counts as facts of a file of that size and checksum."""
        return FileFacts(self.first, self.last, self.tick_records, self.messages, size_bytes, checksum)


class _RowGroup:
    """The rows of a row group while it fills. Its arrays are used again for the next one, so memory does not depend
    on how rows come.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._columns = _columns(Ticks.empty(), np.zeros(0, np.int64))

    def take(self, ticks: Ticks, sequence: Ints) -> int:
        """Copy as many of the first rows as there is room for; return how many."""
        count = min(len(ticks), ROW_GROUP_ROWS - self.rows)
        room = len(self._columns["sequence"])
        if self.rows + count > room:  # most markets come in one piece, and need no more room than that
            room = ROW_GROUP_ROWS if room else count
            self._columns = {
                name: np.concatenate([column[: self.rows], np.empty(room - self.rows, column.dtype)])
                for name, column in self._columns.items()
            }
        for name, column in _columns(ticks, sequence).items():
            self._columns[name][self.rows : self.rows + count] = column[:count]
        self.rows += count
        return count

    def drain(self, market_id: str) -> pa.Table:
        """Return the rows as users see them, good until the next are taken, and forget them."""
        columns = {name: column[: self.rows] for name, column in self._columns.items()}
        sequence = columns.pop("sequence")
        self.rows = 0
        return Ticks(**columns).to_table(market_id, sequence)


def _columns(ticks: Ticks, sequence: Ints) -> dict[str, npt.NDArray[Any]]:
    return vars(ticks) | {"sequence": sequence}


class MarketWriter:
    """Writes one market file from ticks that come in file order, cut between publish times only.

    finish() ends the file; file is what is then flushed to disk and published. Parquet row groups are cut at fixed
    row counts, so the bytes depend on the ticks alone, not on how they were handed over.
    """

    def __init__(self, path: Path, market_id: str) -> None:
        self._market_id = market_id
        self.file = NewFile(path)
        self._counter = TickCounter()
        self._parquet = _open_parquet(self.file) if path.suffix == ".parquet" else None
        self._group = _RowGroup()

    def write(self, ticks: Ticks) -> None:
        """Append ticks."""
        self._counter.add(ticks)
        sequence = ticks.sequence()
        if self._parquet is None:
            for lines in jsonl.render(ticks, self._market_id, sequence):
                self.file.write(lines)
            return
        written = 0
        while written < len(ticks):
            written += self._group.take(ticks[written:], sequence[written:])
            if self._group.rows == ROW_GROUP_ROWS:
                self._write_row_group()

    def _write_row_group(self) -> None:
        assert self._parquet is not None
        self._parquet.write_table(self._group.drain(self._market_id), ROW_GROUP_ROWS)

    def finish(self, modified_us: int) -> tuple[FileFacts, FileStat]:
        """End the file, dated modified_us; return its facts and what stat says of it."""
        if self._parquet is not None:
            if self._group.rows:
                self._write_row_group()
            self._parquet.close()
        stat = self.file.finish(modified_us)
        return self._counter.facts(self.file.size_bytes, self.file.checksum), stat

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parquet is not None and self._parquet.is_open:  # an error: what it still holds must go nowhere
            with contextlib.suppress(OSError, pa.ArrowException):
                self._parquet.close()
            self._parquet.is_open = False
        self.file.__exit__(kind, error, trace)


def _open_parquet(file: NewFile) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        pa.PythonFile(file, "w"),
        SCHEMA,
        version="2.6",
        compression="zstd",
        compression_level=1,
        # Times, prices and sizes repeat by whole messages. zstd finds that in plain numbers, not in the indices of a
        # dictionary, and the better the more of them it sees at once: a page is a whole column of a row group
        # (docs/performance.md).
        use_dictionary=[
            field.name
            for field in SCHEMA
            if not (pa.types.is_floating(field.type) or pa.types.is_timestamp(field.type))
        ],
        max_rows_per_page=ROW_GROUP_ROWS,
        write_page_checksum=True,
        # Where a reader can skip: other columns have the same range in every row group, and cost a third of the
        # writing.
        write_statistics=["market_id", "publish_time", "received_at"],
        sorting_columns=[pq.SortingColumn(SCHEMA.get_field_index("publish_time"))],
    )


def read(path: Path, market: int = 0) -> Iterator[Ticks]:
    """Yield the ticks of a market file in their order, in batches of bounded size.

    Raises DamagedFile where the file is not one that MarketWriter writes, FileNotFoundError where there is none.
    """
    for batch in batches(path):
        yield Ticks.from_batch(batch, market)


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a market file in their order, in batches of bounded size. Raises as read() does."""
    if path.suffix == ".jsonl":
        yield from jsonl.read(path)
        return
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise DamagedFile(f"{path}: its columns are not those of a tick")
            yield from file.iter_batches(_READ_ROWS, use_threads=False)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}") from None


def inspect(path: Path, market_id: str) -> FileFacts:
    """Read a whole market file and return its facts.

    Raises DamagedFile where it is unreadable, out of order, or holds another market's ticks.
    """
    counter = TickCounter()
    for batch in batches(path):
        ids = batch.column("market_id").cast(pa.string()).unique().to_pylist()
        if ids not in ([], [market_id]):
            raise DamagedFile(f"{path}: holds market {ids[0]}, not {market_id}")
        try:
            counter.add(Ticks.from_batch(batch))
        except ValueError as error:
            raise DamagedFile(f"{path}: {error}") from None
    with open(path, "rb") as file:
        return counter.facts(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
