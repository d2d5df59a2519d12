"""Ticks as JSONL: one object a line, the columns of schema.COLUMNS in their order."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from tasks.errors import DamagedFile
from tasks.market_files.text_lines import TextFormat
from tasks.ticks import value_text
from tasks.ticks.schema import CHANGE_TYPE, COLUMNS, SCHEMA, TEXT, TIME
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

#: Rows rendered at once.
_RENDER_ROWS = 131_072
_NUMBERS = [column.name for column in COLUMNS if column.type == pa.float64()]
_TIMES = [column.name for column in COLUMNS if column.type == TIME]
_PLAIN_SCHEMA = pa.schema([(column.name, pa.string() if column.type == TEXT else column.type) for column in COLUMNS])


class Jsonl(TextFormat):
    """JSON lines."""

    name = "jsonl"
    row_bytes = 280

    def text(self, ticks: Ticks, market_id: str, sequence: Ints) -> Iterator[pa.Buffer]:
        """Yield the lines of ticks of one market, in buffers of many whole lines."""
        for start in range(0, len(ticks), _RENDER_ROWS):
            rows = slice(start, start + _RENDER_ROWS)
            yield _render(ticks[rows], market_id, sequence[rows])

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


def _render(ticks: Ticks, market_id: str, sequence: Ints) -> pa.Buffer:
    traded = ticks.side == TRADED
    # in the order of BACK, LAY, TRADED
    side = pa.DictionaryArray.from_arrays(
        ticks.side.astype(np.int32), [',"side":"BACK","price":', ',"side":"LAY","price":', ',"side":null,"price":']
    )
    size = value_text.floats(ticks.size)
    number = _json_numbers(size)
    count = len(number)
    ladder_size = pa.compute.binary_join_element_wise(
        ',"size":', number, f',"traded_volume":null,"change_type":"{CHANGE_TYPE}","level":', ""
    )
    traded_size = pa.compute.binary_join_element_wise(
        ',"size":', number, ',"traded_volume":', number, f',"change_type":"{CHANGE_TYPE}","level":null', ""
    )
    volume = pa.DictionaryArray.from_arrays(
        pa.array(size.indices.to_numpy() + np.where(traded, count, 0).astype(np.int32)),
        pa.concat_arrays([ladder_size, traded_size]),
    )
    level = pa.DictionaryArray.from_arrays(
        np.where(traded, 0, ticks.level + 1).astype(np.int32),
        ["", *(str(level) for level in range(int(ticks.level.max(initial=0)) + 1))],
    )
    record_type = pa.DictionaryArray.from_arrays(
        traded.astype(np.int32),
        [f',"record_type":"{name}","in_play":null,"sequence":' for name in ("ladder", "traded")],
    )
    price = value_text.floats(ticks.price)
    return value_text.join(
        [
            value_text.wrap('{"received_at":"', value_text.times(ticks.received_at)),
            value_text.wrap(
                '","publish_time":"',
                value_text.times(ticks.publish_time),
                f'","market_id":"{market_id}","selection_id":',
            ),
            value_text.integers(ticks.selection_id),
            side,
            pa.DictionaryArray.from_arrays(price.indices, _json_numbers(price)),
            volume,
            level,
            record_type,
            value_text.wrap("", value_text.integers(sequence), "}\n"),
        ]
    )


def _json_numbers(numbers: pa.DictionaryArray) -> pa.Array:
    """Return the dictionary of text.floats as JSON has it: what JSON has no number for, as a string."""
    words = pa.compute.is_in(numbers.dictionary, value_set=pa.array(["NaN", "Infinity", "-Infinity"]))
    quoted = pa.compute.binary_join_element_wise('"', numbers.dictionary, '"', "")
    return pa.compute.if_else(words, quoted, numbers.dictionary)


def _with_numbers(line: dict[str, Any]) -> dict[str, Any]:
    if line.keys() != set(SCHEMA.names):
        raise ValueError(f"fields {', '.join(line)}")
    for name in _NUMBERS:
        if isinstance(line[name], str):
            line[name] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[line[name]]
    for name in _TIMES:
        line[name] = value_text.parse_time(line[name])
    return line
