"""states/results.parquet: who won, for installations that store it. One row per settled market and runner."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.market_files.decoding import decoding, require_regular
from tasks.market_files.format_versions import require_schema
from tasks.postgres.settlement import Settled
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks.schema import TIME

SCHEMA = pa.schema(
    [
        pa.field("market_id", pa.string(), nullable=False),
        pa.field("settled_at", TIME),
        pa.field("source", pa.string()),
        pa.field("selection_id", pa.int64()),
        pa.field("result", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Results:
    """The settlement of a market; of: WINNER, LOSER or REMOVED by runner. settled_us: None if it is unknown."""

    settled_us: int | None = None
    of: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def checksum(self) -> str:
        """What identifies it in the files made from it: "-" if there is none."""
        if self == Results():
            return "-"
        return hashlib.sha256(repr((self.settled_us, sorted(self.of.items()))).encode()).hexdigest()


NOTHING = Results()


def merged(now: Iterable[Settled], before: Iterable[Settled]) -> list[Settled]:
    """Return what the database says now, and the markets that only the file has."""
    by_market: dict[str, list[Settled]] = {}
    for rows in (before, now):
        newer: dict[str, list[Settled]] = {}
        for row in rows:
            newer.setdefault(row.market_id, []).append(row)
        by_market |= newer
    return [row for market_id in sorted(by_market) for row in by_market[market_id]]


def render(rows: Iterable[Settled]) -> bytes:
    """Return the content of the file."""
    columns = list(zip(*rows)) or [()] * len(SCHEMA)
    arrays = [
        pa.array(column, pa.int64()).cast(TIME) if field.type == TIME else pa.array(column, field.type)
        for column, field in zip(columns, SCHEMA)
    ]
    sink = pa.BufferOutputStream()
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    pq.write_table(table, sink, version="2.6", compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def read_rows(path: Path) -> list[Settled]:
    """Return the rows of the file, none if there is no file. Raises DamagedFile."""
    try:
        require_regular(path)
        with decoding(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
            require_schema(path, file.schema_arrow, SCHEMA, "results")
            table = file.read(use_threads=False)
    except FileNotFoundError:
        return []
    columns = [
        (column.cast(pa.int64()) if column.type == TIME else column).to_pylist() for column in table.itercolumns()
    ]
    return [Settled(*row) for row in zip(*columns)]


def read(layout: Layout) -> Mapping[str, Results]:
    """Return the results of each settled market. Raises DamagedFile."""
    try:
        return _read(layout.results, FileStat.of_path(layout.results))
    except FileNotFoundError:
        return {}


@functools.lru_cache(1)
def _read(path: Path, stat: FileStat) -> Mapping[str, Results]:
    """Read the file; it is cached by its stat, and read again only if it has changed."""
    found: dict[str, tuple[int | None, dict[int, str]]] = {}
    for row in read_rows(path):
        _, of = found.setdefault(row.market_id, (row.settled_us, {}))
        if row.selection_id is not None and row.result is not None:
            of[row.selection_id] = row.result
    return {market_id: Results(*of) for market_id, of in found.items()}
