"""Ticks as JSONL: one object a line, the columns of schema.COLUMNS in their order."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from tasks.errors import DamagedFile
from tasks.market_files.text_lines import TextFormat
from tasks.ticks import row_text, value_text
from tasks.ticks.schema import COLUMNS, SCHEMA, TEXT, TIME
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

#: Rows rendered at once.
_RENDER_ROWS = 131_072
_NUMBERS = [column.name for column in COLUMNS if column.type == pa.float64()]
_TIMES = [column.name for column in COLUMNS if column.type == TIME]
_PLAIN_SCHEMA = pa.schema([(column.name, pa.string() if column.type == TEXT else column.type) for column in COLUMNS])
#: The columns of a line, each with what stands around its value.
_OBJECT = [
    (column, ("," if number else "{") + f'"{column.name}":', "" if number < len(COLUMNS) - 1 else "}\n")
    for number, column in enumerate(COLUMNS)
]


class Jsonl(TextFormat):
    """JSON lines."""

    name = "jsonl"
    row_bytes = 280

    def text(self, ticks: Ticks, market_id: str, sequence: Ints) -> Iterator[pa.Buffer]:
        """Yield the lines of ticks of one market, in buffers of many whole lines."""
        for start in range(0, len(ticks), _RENDER_ROWS):
            rows = slice(start, start + _RENDER_ROWS)
            some = ticks[rows]
            arrays = vars(some) | {"sequence": sequence[rows]}
            yield from row_text.lines(
                row_text.column_pieces(_OBJECT, row_text.JSON, arrays, some.side == TRADED, market_id)
            )

    def parse(self, lines: bytes, path: Path) -> pa.RecordBatch:
        """Return the rows of whole lines. Raises DamagedFile where one is not an object with exactly these fields."""
        try:
            if b'"NaN"' in lines or b'Infinity"' in lines:
                table = pa.Table.from_pylist(
                    [_with_numbers(json.loads(line)) for line in lines.splitlines()], _PLAIN_SCHEMA
                )
            else:
                table = pyarrow.json.read_json(
                    pa.BufferReader(lines),
                    read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
                    parse_options=pyarrow.json.ParseOptions(
                        explicit_schema=_PLAIN_SCHEMA, unexpected_field_behavior="error"
                    ),
                )
        except MemoryError:
            raise
        except (pa.ArrowException, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise DamagedFile(f"{path}: not JSON lines of ticks: {str(error).splitlines()[0]}") from None
        for column in COLUMNS:
            if not column.nullable and table.column(column.name).null_count:
                raise DamagedFile(f"{path}: a line without {column.name}")
        return table.select(SCHEMA.names).combine_chunks().to_batches()[0]

    def time_of(self, line: bytes) -> str:
        """Return the publish_time of a line."""
        return str(json.loads(line)["publish_time"])


def _with_numbers(line: dict[str, Any]) -> dict[str, Any]:
    if line.keys() != set(SCHEMA.names):
        raise ValueError(f"fields {', '.join(line)}")
    for name in _NUMBERS:
        if isinstance(line[name], str):
            line[name] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[line[name]]
    for name in _TIMES:
        line[name] = value_text.parse_time(line[name])
    return line
