"""A consolidated day as Parquet: the rows and columns of the CSV in the same order, typed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from tasks.day_csv import flat_csv
from tasks.market_files import parquet
from tasks.storage.atomic_files import NewFile
from tasks.ticks.schema import CSV_COLUMNS, ROW_GROUP_ROWS, TIME

_TYPES = {column.name: column.type for column in CSV_COLUMNS} | {
    "received_at": TIME,
    "publish_time": TIME,
    "selection_id": pa.int64(),
    "market_start_time": TIME,
}

#: The columns of the CSV with their types. Text is string; what is empty in the CSV is null.
SCHEMA = pa.schema(
    [
        (name, pa.string() if pa.types.is_dictionary(kind) else kind)
        for name, kind in ((name, _TYPES.get(name, pa.string())) for name in flat_csv.COLUMNS)
    ]
)

_PARSED_BYTES = 8 << 20


def is_parquet(path: Path) -> bool:
    """Return whether a day's file is to be Parquet, by its name."""
    return path.suffix == ".parquet"


@contextlib.contextmanager
def typed(file: NewFile) -> Iterator["TypedLines"]:
    """Open what writes lines of the CSV, header first, into a Parquet file."""
    lines = TypedLines(file)
    try:
        yield lines
        lines.close()
    finally:
        lines.abandon()


class TypedLines:
    """Writes lines of the CSV as Parquet. Row groups are cut at fixed row counts, however the lines arrive."""

    def __init__(self, file: NewFile) -> None:
        self._has_header = False
        self._text = bytearray()
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._writer = parquet.open_writer(file, SCHEMA)

    def write(self, data: Any) -> int:
        """Append whole lines; the first of all is the header, which is left out."""
        if not self._has_header:
            self._has_header = True
            return len(flat_csv.HEADER)
        self._text += memoryview(data)
        if len(self._text) >= _PARSED_BYTES:
            self._parse()
        return memoryview(data).nbytes

    def close(self) -> None:
        """Write the last row group and the footer."""
        self._parse()
        self._write_groups(1)
        self._writer.close()

    def abandon(self) -> None:
        """Discard buffered rows if it was not closed."""
        parquet.abandon(self._writer)

    def _parse(self) -> None:
        if not self._text:
            return
        table = pa.csv.read_csv(
            pa.py_buffer(bytes(self._text)),
            pa.csv.ReadOptions(column_names=SCHEMA.names, block_size=2 * _PARSED_BYTES, use_threads=False),
            pa.csv.ParseOptions(newlines_in_values=True),
            pa.csv.ConvertOptions(
                column_types=SCHEMA, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        self._text.clear()
        self._tables.append(table)
        self._rows += table.num_rows
        self._write_groups(ROW_GROUP_ROWS)

    def _write_groups(self, least_rows: int) -> None:
        """Write row groups while there are at least so many rows."""
        if self._rows < least_rows:
            return
        waiting = pa.concat_tables(self._tables)
        while waiting.num_rows >= least_rows:
            self._writer.write_table(waiting.slice(0, ROW_GROUP_ROWS).combine_chunks(), ROW_GROUP_ROWS)
            waiting = waiting.slice(ROW_GROUP_ROWS)
        self._tables, self._rows = [waiting], waiting.num_rows
