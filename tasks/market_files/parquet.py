"""Ticks as Parquet: row groups of a fixed number of rows, whole columns as pages, zstd."""

import base64
import contextlib
import datetime
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.market_files.file_facts import FileFacts
from tasks.market_files.format_versions import KEY, as_today, schema, version_of
from tasks.market_files.market_format import MarketFormat
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile
from tasks.ticks.schema import FIRST_TIME_US, FORMAT_VERSION, LAST_TIME_US, READ_COLUMNS, ROW_GROUP_ROWS, SCHEMA, TEXT
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

_READ_ROWS = 131_072
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


#: The schema for writing: text as dictionaries, which takes a third of the time of plain strings and gives the same
#: pages.
_WRITTEN = pa.schema([field.with_type(TEXT) if field.type == pa.string() else field for field in SCHEMA])
_TEXTS = [field.name for field in _WRITTEN if field.type == TEXT]
#: In the footer: which types readers that use Arrow give the columns, under the key that Arrow has for it.
_FOOTER = {KEY: str(FORMAT_VERSION).encode(), b"ARROW:schema": base64.b64encode(SCHEMA.serialize().to_pybytes())}


class Parquet(MarketFormat):
    """Apache Parquet."""

    name = "parquet"
    is_compressed = True
    duckdb = "read_parquet({files}, hive_partitioning = false)"

    def open(self, file: NewFile, market_id: str) -> "_ParquetSink":
        """Return what writes the ticks of a market into a file.

        Row groups are cut at fixed row counts, so the bytes depend only on the ticks, not on how they arrive.
        """
        return _ParquetSink(file, market_id)

    def batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file in order, in batches of bounded size. Raises as in MarketFormat."""
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=_TEXTS) as file:
            version = _version(file, path)
            names = schema(version).names
            for batch in file.iter_batches(_READ_ROWS, columns=names, use_threads=False):
                yield as_today(batch)

    def span_batches(
        self, path: Path, span: Span, batch_rows: int, columns: Collection[str] = READ_COLUMNS
    ) -> Iterator[pa.RecordBatch]:
        """Yield the row groups of a file that can hold ticks of a span, with those columns alone."""
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=_TEXTS) as file:
            have = schema(_version(file, path)).names
            if groups := _overlapping(file, span):
                names = [name for name in columns if name in have]
                yield from file.iter_batches(batch_rows, row_groups=groups, columns=names, use_threads=False)

    def parts(self, path: Path, span: Span, count: int) -> list[Span]:
        """Return the span, cut where a row group begins: a row group is read by one thread, or by two if a message
        begins in the one before it.
        """
        with pq.ParquetFile(path) as file:
            inside = [first for first, _ in _times(file) if span.holds(first)]
        cuts = sorted({inside[len(inside) * number // count] for number in range(1, count)} if inside else ())
        edges = [span.lower_us, *(cut for cut in cuts if cut > span.lower_us), span.upper_us]
        return [Span(lower, upper) for lower, upper in itertools.pairwise(edges)]

    def rows_between(self, path: Path, facts: FileFacts, span: Span) -> float:
        """Return how many ticks are in the row groups that overlap a span: an upper bound."""
        with pq.ParquetFile(path) as file:
            return float(sum(file.metadata.row_group(number).num_rows for number in _overlapping(file, span)))

    def version(self, path: Path) -> int:
        """Return the version of a file, by its footer."""
        with pq.ParquetFile(path) as file:
            return _version(file, path)

    def flaws(self, path: Path) -> Iterator[tuple[str, object, object]]:
        """Yield where row groups are not cut as they should be."""
        with contextlib.suppress(pa.ArrowException, OSError), pq.ParquetFile(path) as file:
            counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            rows = file.metadata.num_rows
            expected = [min(ROW_GROUP_ROWS, rows - start) for start in range(0, rows, ROW_GROUP_ROWS)]
            if counts != expected:
                yield "rows of the row groups", counts[:9], expected[:9]


def abandon(writer: pq.ParquetWriter) -> None:
    """Close a writer whose file will not be used, unless it is closed."""
    if writer.is_open:
        with contextlib.suppress(OSError, pa.ArrowException):
            writer.close()
        writer.is_open = False


class _ParquetSink:
    """Writes one market's ticks, one row group whenever it is full."""

    def __init__(self, file: NewFile, market_id: str) -> None:
        self._market_id = market_id
        self._writer = _open_parquet(file)
        self._group = _RowGroup()

    def write(self, ticks: Ticks, sequence: Ints) -> None:
        """Append ticks."""
        written = 0
        while written < len(ticks):
            written += self._group.take(ticks[written:], sequence[written:])
            if self._group.rows == ROW_GROUP_ROWS:
                self._write_row_group()

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._group.rows:
            self._write_row_group()
        self._writer.add_key_value_metadata(_FOOTER)
        self._writer.close()

    def abandon(self) -> None:
        """Discard buffered rows: they must not be written."""
        abandon(self._writer)

    def _write_row_group(self) -> None:
        self._writer.write_table(self._group.drain(self._market_id), ROW_GROUP_ROWS)


class _RowGroup:
    """The rows of a row group while it fills. Its arrays are reused for the next one, so memory does not depend on how
    rows arrive.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._columns = _columns(Ticks.empty(), np.zeros(0, np.int64))

    def take(self, ticks: Ticks, sequence: Ints) -> int:
        """Copy as many of the first rows as there is room for; return how many."""
        count = min(len(ticks), ROW_GROUP_ROWS - self.rows)
        room = len(self._columns["sequence"])
        if self.rows + count > room:  # most markets come in one piece, and need only that much room
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
        """Return the rows as users see them, valid until the next ones are taken, and empty the group."""
        columns = {name: column[: self.rows] for name, column in self._columns.items()}
        sequence = columns.pop("sequence")
        self.rows = 0
        return Ticks(**columns).to_table(market_id, sequence, _WRITTEN)


def _columns(ticks: Ticks, sequence: Ints) -> dict[str, npt.NDArray[Any]]:
    return vars(ticks) | {"sequence": sequence}


def _open_parquet(file: NewFile) -> pq.ParquetWriter:
    # a page is a whole column of a row group: the more zstd sees at once, the better
    return open_writer(file, _WRITTEN, store_schema=False, max_rows_per_page=ROW_GROUP_ROWS)


def open_writer(file: Any, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """Return a writer of ticks, sorted by publish_time, into an open file. options: further ones of ParquetWriter."""
    return pq.ParquetWriter(
        pa.PythonFile(file, "w"),
        schema,
        version="2.6",
        compression="zstd",
        compression_level=1,
        # Times, prices and sizes repeat by whole messages. zstd finds that in plain numbers, not in the indices of a
        # dictionary (docs/decisions/performance.md).
        use_dictionary=[
            field.name
            for field in schema
            if not (pa.types.is_floating(field.type) or pa.types.is_timestamp(field.type))
        ],
        write_page_checksum=True,
        # Where a reader can skip: other columns have the same range in every row group, and cost a third of the
        # writing.
        write_statistics=["market_id", "publish_time", "received_at"],
        sorting_columns=[pq.SortingColumn(schema.get_field_index("publish_time"))],
        **options,
    )


def _version(file: pq.ParquetFile, path: Path) -> int:
    return version_of(file.schema_arrow, file.metadata.metadata or {}, path)


def _overlapping(file: pq.ParquetFile, span: Span) -> list[int]:
    """Return the numbers of the row groups that can hold ticks of the span."""
    times = enumerate(_times(file))
    return [number for number, (first, last) in times if first < span.upper_us and last >= span.lower_us]


def _times(file: pq.ParquetFile) -> list[tuple[int, int]]:
    """Return the first and the last publish_time of each row group; the widest range of one that does not say."""
    column = file.metadata.schema.names.index("publish_time")
    times = []
    for number in range(file.num_row_groups):
        statistics = file.metadata.row_group(number).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            times.append((FIRST_TIME_US, LAST_TIME_US))
        else:
            times.append(((statistics.min - _EPOCH) // _MICROSECOND, (statistics.max - _EPOCH) // _MICROSECOND))
    return times
