"""Sums of ticks by day: the same numbers from a file and from SQL, exact on both sides."""

import dataclasses
import decimal
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.ticks.schema import FORMAT_VERSION, TIME, Column, columns_of
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import BACK, TRADED, Ticks

DAY_US = 86_400_000_000
#: The constants of the row checksum: products of two numbers below the prime, and of one with the factor, fit into 64
#: bits.
MIX_PRIME, MIX_FACTOR = 2_147_483_647, 1_000_003
#: Enough digits for any sum of doubles. If they were ever not enough, that would be an error, not a rounding.
_EXACT = decimal.Context(prec=2_000, traps=[decimal.Inexact, decimal.InvalidOperation])


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """The sums of the ladder rows or the traded rows of one market and day.

    publish_us: of publish_time within its day; delay_us: of received_at minus publish_time; price, size: of the
    shortest decimals that read back as the same doubles, without NaN and infinities, which not_finite counts; mixed: of
    a checksum of each row, which detects values that were swapped between rows.
    """

    rows: int
    publish_us: int
    delay_us: int
    selection_id: int
    back_rows: int
    level: int
    price: decimal.Decimal
    size: decimal.Decimal
    not_finite: int
    mixed: int

    def __add__(self, other: "Sums") -> "Sums":
        values: list[Any] = []
        for field in dataclasses.fields(Sums):
            mine, its = getattr(self, field.name), getattr(other, field.name)
            values.append(_EXACT.add(mine, its) if field.type is decimal.Decimal else mine + its)
        return Sums(*values)


NOTHING = Sums(0, 0, 0, 0, 0, 0, decimal.Decimal(0), decimal.Decimal(0), 0, 0)


def mixed_columns(version: int) -> list[Column]:
    """Return the columns that go into the checksum of a row one by one, after both times."""
    return [column for column in columns_of(version) if column.source is not None and column.type != TIME]


def by_day(ticks: Ticks, version: int = FORMAT_VERSION) -> Iterator[tuple[int, bool, Sums]]:
    """Yield day (since 1970), whether traded, and sums of ticks in ascending order of publish_time.

    version: the format version of their file, which determines the columns.
    """
    days = ticks.publish_time // DAY_US
    starts = np.flatnonzero(np.r_[True, days[1:] != days[:-1]]) if len(ticks) else ()
    for start, stop in zip(starts, [*starts[1:], len(ticks)]):
        part = ticks[int(start) : int(stop)]
        for traded in (False, True):
            rows = part[(part.side == TRADED) == traded]
            if len(rows):
                yield int(days[start]), traded, _sums(rows, version)


def _sums(ticks: Ticks, version: int) -> Sums:
    return Sums(
        rows=len(ticks),
        publish_us=_total(ticks.publish_time % DAY_US),
        delay_us=_total(ticks.received_at - ticks.publish_time),
        selection_id=_total(ticks.selection_id),
        back_rows=int(np.count_nonzero(ticks.side == BACK)),
        level=_total(ticks.level.astype(np.int64)),
        price=_decimal_total(ticks.price),
        size=_decimal_total(ticks.size),
        not_finite=int(np.count_nonzero(~np.isfinite(ticks.price)) + np.count_nonzero(~np.isfinite(ticks.size))),
        mixed=_mixed(ticks, version),
    )


def _mixed(ticks: Ticks, version: int) -> int:
    """Return the sum of the rows' checksums: a polynomial of the columns, squared, because the sum of a linear one
    would not detect swapped values.
    """
    mixed = np.zeros(len(ticks), np.int64)
    for values in _numbers(ticks, version):
        mixed = np.fmod(mixed * MIX_FACTOR + np.fmod(values.astype(np.int64), MIX_PRIME), MIX_PRIME)
    return _total(np.fmod(mixed * mixed, MIX_PRIME))


def _numbers(ticks: Ticks, version: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the numbers of the checksum: the time of the day, the delay, and each other column."""
    yield ticks.publish_time % DAY_US
    yield ticks.received_at - ticks.publish_time
    for column in mixed_columns(version):
        values = getattr(ticks, str(column.array))
        if column.array == "side":  # among ladder rows and among traded rows
            yield values == BACK
        else:
            yield _bits(values) if pa.types.is_floating(column.type) else values


def _bits(values: npt.NDArray[np.float64]) -> Ints:
    return np.where(np.isnan(values), 0, values.view(np.int64))


def _total(values: Ints) -> int:
    """Return the sum, by halves that cannot overflow."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())


def _decimal_total(values: npt.NDArray[np.float64]) -> decimal.Decimal:
    encoded = pa.array(values[np.isfinite(values)]).dictionary_encode()
    counts = np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary)).tolist()
    total = decimal.Decimal(0)
    for value, count in zip(encoded.dictionary.to_pylist(), counts):
        total = _EXACT.fma(decimal.Decimal(repr(value)), count, total)
    return total
