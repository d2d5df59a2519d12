"""Ticks in memory: plain arrays, one element per row, and the operations that the guarantees rest on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ticks.schema import ARRAY_TYPES, COLUMNS, SCHEMA, STORED, Column, Shown, TickArrays
from tasks.ticks.sort_keys import Ints, ascending_order, dense_rank, pack, price_rank

BACK, LAY, TRADED = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class Ticks(TickArrays):
    """n ticks of one or several markets: the arrays of schema.TickArrays."""

    def __len__(self) -> int:
        return len(self.publish_time)

    def __getitem__(self, rows: "slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]") -> "Ticks":
        return Ticks(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    @staticmethod
    def empty() -> "Ticks":
        """Return no ticks."""
        return Ticks(*(np.zeros(0, kind) for kind in ARRAY_TYPES.values()))

    @staticmethod
    def concatenate(parts: "Sequence[Ticks]") -> "Ticks":
        """Return the ticks of all parts, in the order of the parts."""
        parts = [part for part in parts if len(part)]
        if len(parts) < 2:
            return parts[0] if parts else Ticks.empty()
        names = [field.name for field in dataclasses.fields(Ticks)]
        return Ticks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def keys(self) -> Ints:
        """Return one integer per row that sorts rows into file order, except among rows with the same identity.

        The identity is (market, selection, side, level, publish_time) for ladder rows and (market, selection, price,
        publish_time) for traded ones. Rows have equal keys if and only if they have the same identity.
        """
        traded = self.side == TRADED
        price = np.zeros(len(self), np.int64)
        price[traded] = price_rank(self.price[traded])
        return pack(
            [
                dense_rank(self.market),
                dense_rank(self.publish_time),
                traded.astype(np.int64),
                self.level.astype(np.int64),
                dense_rank(self.selection_id),
                np.where(traded, BACK, self.side).astype(np.int64),
                price,
            ]
        )

    def sorted(self) -> "Ticks":
        """Return the rows in file order: market, publish_time, record_type, level, selection_id, side, price,
        received_at, size."""
        key = self.keys()
        order = ascending_order(key)
        if order is not None:
            key = key[order]
        if bool(
            np.any(key[1:] == key[:-1])
        ):  # rows with the same identity exist only in a table without its primary key
            key = self.keys()
            order = np.lexsort((self.size, self.received_at, dense_rank(self.price), key))
        return self if order is None else self[order]

    def merged_over(self, older: "Ticks") -> "Ticks":
        """Return, in file order, these rows and the rows of older whose identity is not among them."""
        if not len(older):
            return self.sorted()
        keys = Ticks.concatenate([self, older]).keys()
        unknown = ~np.isin(keys[len(self) :], keys[: len(self)])
        return Ticks.concatenate([self, older[unknown]]).sorted()

    def sequence(self) -> Ints:
        """Return the sequence of each of these rows, which are whole messages in file order.

        Ladder: the level. Traded: the rank of the price among the distinct traded prices of the same market,
        selection and publish_time.
        """
        traded = self.side == TRADED
        group_starts = np.zeros(len(self), bool)
        group_starts[:1] = True
        for column in (self.market, self.publish_time, self.selection_id, traded):
            group_starts[1:] |= column[1:] != column[:-1]
        price_starts = group_starts.copy()
        nan = np.isnan(self.price)
        price_starts[1:] |= (self.price[1:] != self.price[:-1]) & ~(nan[1:] & nan[:-1])
        counted = np.cumsum(price_starts)
        rank = counted - np.maximum.accumulate(np.where(group_starts, counted, 0))
        return np.where(traded, rank, self.level)

    def to_table(self, market_id: str, sequence: Ints, schema: pa.Schema = SCHEMA) -> pa.Table:
        """Return the rows, all of one market, as users see them: the columns of schema.SCHEMA, or with other types."""
        arrays = vars(self) | {"sequence": sequence}
        traded = self.side == TRADED
        return pa.Table.from_arrays(
            [
                _shown(column, arrays, traded, market_id).cast(field.type)
                for column, field in zip(COLUMNS, schema, strict=True)
            ],
            schema=schema,
        )

    @staticmethod
    def from_batch(batch: pa.RecordBatch, market: int = 0) -> "Ticks":
        """Return the ticks of rows as users see them (the inverse of to_table, which checks nothing).

        A column that files of their version do not have is 0.
        """
        names = batch.schema.names
        arrays = {
            str(column.array): (
                _array(column, batch.column(column.name))
                if column.name in names
                else np.zeros(batch.num_rows, ARRAY_TYPES[str(column.array)])
            )
            for column in STORED
        }
        return Ticks(market=np.full(batch.num_rows, market, np.int64), **arrays)


def _shown(column: Column, arrays: dict[str, Any], traded: npt.NDArray[np.bool_], market_id: str) -> pa.Array:
    """Return a column as users see it, except for its type; words as a dictionary."""
    if column.array is not None:
        values, hidden = arrays[column.array], None
        if column.nullable:
            hidden = traded if column.traded is None else ~traded
        if column.words:
            return pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int32), mask=hidden), list(column.words))
        return pa.array(values, mask=hidden)
    if column.ladder is column.traded is None:
        return pa.nulls(len(traded), column.type)
    ladder_word, traded_word = (
        market_id if word is Shown.MARKET_ID else word for word in (column.ladder, column.traded)
    )
    words = [ladder_word] if ladder_word == traded_word else [ladder_word, traded_word]
    codes = np.zeros(len(traded), np.int32) if len(words) == 1 else traded.astype(np.int32)
    return pa.DictionaryArray.from_arrays(codes, words)


def _array(column: Column, found: pa.Array) -> npt.NDArray[Any]:
    """Return the array of Ticks for a column: 0 for null, and TRADED for a side that is null."""
    assert column.array is not None
    if column.words:
        words = pa.array(column.words)
        if isinstance(found, pa.DictionaryArray):  # look up the few distinct ones, not each row's
            found = pc.index_in(found.dictionary.cast(pa.string()), value_set=words).take(found.indices)
        else:
            found = pc.index_in(found, value_set=words)
        found = pc.fill_null(found, len(column.words))
    elif isinstance(found.type, pa.TimestampType):
        found = found.cast(pa.int64())
    elif column.nullable:
        found = found.fill_null(0)
    return np.asarray(found.to_numpy(zero_copy_only=False)).astype(ARRAY_TYPES[column.array], copy=False)
