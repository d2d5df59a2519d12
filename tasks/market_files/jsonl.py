"""Ticks as JSONL: one object per line, with the columns of schema.COLUMNS in order."""

import functools
import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from tasks.errors import DamagedFile
from tasks.market_files.format_versions import as_today, version_of_names
from tasks.market_files.text_lines import TextFormat
from tasks.ticks import row_text, value_text
from tasks.ticks.schema import COLUMNS, FORMAT_VERSION, SCHEMA, TIME, Column, columns_of
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

#: Rows rendered at once.
_RENDER_ROWS = 131_072
_NUMBERS = {column.name for column in COLUMNS if column.type == pa.float64()}
_TIMES = {column.name for column in COLUMNS if column.type == TIME}


@functools.cache
def _object(version: int) -> list[tuple[Column, str, str]]:
    """Return the columns of a line, each with the text before and after its value."""
    columns = columns_of(version)
    return [
        (column, ("," if number else "{") + f'"{column.name}":', "" if number < len(columns) - 1 else "}\n")
        for number, column in enumerate(columns)
    ]


@functools.cache
def _plain_schema(version: int) -> pa.Schema:
    """Return the schema of lines without dictionaries, because a JSON reader does not create them."""
    return pa.schema([(column.name, pa.string() if column.is_text else column.type) for column in columns_of(version)])


class Jsonl(TextFormat):
    """JSON lines."""

    name = "jsonl"
    duckdb = "read_json({files}, format = 'newline_delimited', hive_partitioning = false, columns = {columns})"
    row_bytes = 280

    def text(self, ticks: Ticks, market_id: str, sequence: Ints, version: int = FORMAT_VERSION) -> Iterator[pa.Buffer]:
        """Yield the lines of one market's ticks in a version, in buffers of many whole lines."""
        for start in range(0, len(ticks), _RENDER_ROWS):
            rows = slice(start, start + _RENDER_ROWS)
            some = ticks[rows]
            arrays = vars(some) | {"sequence": sequence[rows]}
            yield from row_text.lines(
                row_text.column_pieces(_object(version), row_text.JSON, arrays, some.side == TRADED, market_id)
            )

    def parse(self, lines: bytes, path: Path) -> pa.RecordBatch:
        """Return the rows of whole lines. Raises DamagedFile if one is not an object with exactly these fields."""
        version = version_of_names(_names(lines, path), path)
        plain = _plain_schema(version)
        try:
            if b'"NaN"' in lines or b'Infinity"' in lines:
                table = pa.Table.from_pylist(
                    [_with_numbers(json.loads(line), plain.names) for line in lines.splitlines()], plain
                )
            else:
                table = pyarrow.json.read_json(
                    pa.BufferReader(lines),
                    read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
                    parse_options=pyarrow.json.ParseOptions(explicit_schema=plain, unexpected_field_behavior="error"),
                )
        except MemoryError:
            raise
        except (pa.ArrowException, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise DamagedFile(f"{path}: not JSON lines of ticks: {str(error).splitlines()[0]}") from None
        for column in columns_of(version):
            if not column.nullable and table.column(column.name).null_count:
                raise DamagedFile(f"{path}: a line without {column.name}")
        batch = table.select(plain.names).combine_chunks().to_batches()[0]
        return batch if batch.schema.names == SCHEMA.names else as_today(batch)

    def version(self, path: Path) -> int:
        """Return the version of a file, by the names in its first line."""
        with open(path, "rb") as file:
            line = file.readline()
        return version_of_names(_names(line, path), path) if line else FORMAT_VERSION

    def time_of(self, line: bytes) -> str:
        """Return the publish_time of a line."""
        return str(json.loads(line)["publish_time"])


def _names(lines: bytes, path: Path) -> list[str]:
    """Return the names in the first of some lines. Raises DamagedFile."""
    try:
        return list(json.loads(lines[: lines.find(b"\n") + 1]).keys())
    except (ValueError, AttributeError) as error:
        raise DamagedFile(f"{path}: not JSON lines of ticks: {str(error).splitlines()[0]}") from None


def _with_numbers(line: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    if line.keys() != set(names):
        raise ValueError(f"fields {', '.join(line)}")
    for name in _NUMBERS.intersection(names):
        if isinstance(line[name], str):
            line[name] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[line[name]]
    for name in _TIMES.intersection(names):
        line[name] = value_text.parse_time(line[name])
    return line
