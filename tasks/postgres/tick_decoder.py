"""Decode what COPY sends in its binary format into arrays of ticks: the inverse of tick_statements.py."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.errors import UnreadableRow
from tasks.postgres.tick_statements import PLAIN
from tasks.ticks.schema import ARRAY_TYPES, FIRST_TIME_US, LAST_TIME_US, MAX_LEVEL, TIME
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import BACK, LAY, TRADED, Ticks

#: 2000-01-01 UTC, from which PostgreSQL counts, in microseconds since 1970.
_YEAR_2000_US = 946_684_800_000_000
#: See "Binary Format" in PostgreSQL's documentation of COPY: the header, a record's number of fields, a field's length.
_HEADER_BYTES = 19
_FIELDS, _LENGTH = struct.Struct(">h"), struct.Struct(">i")


def _records(answer: memoryview, columns: Sequence[str]) -> Iterator[dict[str, memoryview | bytes]]:
    """Yield the records of a binary COPY as the bytes of each column, none for a null."""
    position = _HEADER_BYTES
    while (fields := _FIELDS.unpack_from(answer, position)[0]) != -1:
        position += _FIELDS.size
        values: list[memoryview | bytes] = []
        for _ in range(fields):
            (length,) = _LENGTH.unpack_from(answer, position)
            position += _LENGTH.size
            values.append(answer[position : position + length] if length != -1 else b"")
            position += len(values[-1])
        yield dict(zip(columns, values, strict=True))


class TickRows:
    """n rows of a table as arrays of length n, decoded from the answer to one of tick_statements.tick_queries."""

    def __init__(self, answer: memoryview, columns: Sequence[str], market_ids: Sequence[str]) -> None:
        self.columns = columns
        self._records = list(_records(answer, columns))
        counts = np.array([int.from_bytes(record["rows"]) for record in self._records], np.int64)
        self.count = int(counts.sum())
        positions = {market_id.encode(): position for position, market_id in enumerate(market_ids)}
        position = [positions[bytes(record["market_id"])] if len(market_ids) > 1 else 0 for record in self._records]
        self.market = np.repeat(np.array(position, np.int64), counts)

    def integers(self, name: str, what: str | None = None) -> Ints:
        """Return a column of type bigint. what: its name in errors."""
        values = b"".join(record[name] for record in self._records)
        if len(values) != 8 * self.count:
            raise UnreadableRow(f"{self.count - len(values) // 8} rows have no valid {what or name}")
        return np.frombuffer(values, ">i8").astype(np.int64)

    def times(self, name: str, what: str | None = None) -> Ints:
        """Return a column of type timestamptz, in microseconds since 1970."""
        times = self.integers(name, what)
        if (
            self.count
            and not FIRST_TIME_US
            <= int(times.min()) + _YEAR_2000_US
            <= int(times.max()) + _YEAR_2000_US
            <= LAST_TIME_US
        ):
            raise UnreadableRow(f"a row has a {what or name} before the year 1 or after 9999, or at infinity")
        return times + _YEAR_2000_US

    def plain(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that are sent one by one, by the name of their array in Ticks."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for column in PLAIN:
            assert column.array is not None and column.source is not None
            what = column.source[0]
            if column.type == TIME:
                arrays[column.array] = self.times(column.array, what)
            elif pa.types.is_floating(column.type):
                arrays[column.array] = self.integers(column.array, what).view(np.float64)
            else:
                arrays[column.array] = self.integers(column.array, what).astype(ARRAY_TYPES[column.array], copy=False)
        return arrays


def ladder_ticks(rows: TickRows) -> Ticks:
    """Return ladder rows as ticks. Raises UnreadableRow for a row that is not a tick."""
    runner = rows.integers("runner", "selection_id, level or side")
    if "place" in rows.columns:
        selection_id, place = runner, rows.integers("place", "level or side")
    else:
        selection_id, place = runner >> 24, runner
    letter, level = place & 255, (place >> 8).astype(np.int16)
    is_lay = letter == ord("L")
    if not np.all(is_lay | (letter == ord("B"))):
        raise UnreadableRow("a ladder row has a side other than B and L")
    if len(level) and not 0 <= int(level.min()) <= int(level.max()) <= MAX_LEVEL:
        raise UnreadableRow(
            f"a ladder row has level {level[(level < 0) | (level > MAX_LEVEL)][0]}, expected 0 to {MAX_LEVEL}"
        )
    side = np.where(is_lay, np.int8(LAY), np.int8(BACK))
    return Ticks(market=rows.market, selection_id=selection_id, side=side, level=level, **rows.plain())


def traded_ticks(rows: TickRows) -> Ticks:
    """Return traded rows as ticks. Raises UnreadableRow for a row that is not a tick."""
    return Ticks(
        market=rows.market,
        selection_id=rows.integers("runner", "selection_id"),
        side=np.full(rows.count, TRADED, np.int8),
        level=np.zeros(rows.count, np.int16),
        **rows.plain(),
    )
