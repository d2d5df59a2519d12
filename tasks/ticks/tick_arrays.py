"""Ticks in memory: plain arrays, one element a row, and the operations on them that the promises rest on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.ticks.schema import CHANGE_TYPE, RECORD_TYPES, SCHEMA, SIDES, TIME
from tasks.ticks.sort_keys import Ints, ascending_order, dense_rank, pack, price_rank

BACK, LAY, TRADED = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class Ticks:
    """n ticks of one or several markets, as arrays of length n.

    market: position of the market in a list that the caller keeps; publish_time, received_at: microseconds since
    1970 in UTC; side: 0 BACK, 1 LAY, 2 traded; level: 0 to 7, and 0 for traded.
    """

    market: Ints
    publish_time: Ints
    received_at: Ints
    selection_id: Ints
    side: npt.NDArray[np.int8]
    level: npt.NDArray[np.int16]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.publish_time)

    def __getitem__(self, rows: "slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]") -> "Ticks":
        return Ticks(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    @staticmethod
    def empty() -> "Ticks":
        """Return no ticks."""
        types: tuple[Any, ...] = (np.int64, np.int64, np.int64, np.int64, np.int8, np.int16, np.float64, np.float64)
        return Ticks(*(np.zeros(0, kind) for kind in types))

    @staticmethod
    def concatenate(parts: "Sequence[Ticks]") -> "Ticks":
        """Return the ticks of all parts, in the order of the parts."""
        parts = [part for part in parts if len(part)]
        if len(parts) < 2:
            return parts[0] if parts else Ticks.empty()
        names = [field.name for field in dataclasses.fields(Ticks)]
        return Ticks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def keys(self) -> Ints:
        """Return one integer a row that orders rows as a market file does, up to the rows of equal identity.

        Identity is (market, selection, side, level, publish_time) for ladder rows and (market, selection, price,
        publish_time) for traded ones: rows of equal identity have equal keys, and no others do.
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
        if bool(np.any(key[1:] == key[:-1])):  # rows of one identity: only a table without its primary key has them
            key = self.keys()
            order = np.lexsort((self.size, self.received_at, dense_rank(self.price), key))
        return self if order is None else self[order]

    def merged_over(self, older: "Ticks") -> "Ticks":
        """Return these rows and those of older whose identity is not among these, in file order."""
        if not len(older):
            return self.sorted()
        keys = Ticks.concatenate([self, older]).keys()
        unknown = ~np.isin(keys[len(self) :], keys[: len(self)])
        return Ticks.concatenate([self, older[unknown]]).sorted()

    def sequence(self) -> Ints:
        """Return the sequence of each of these rows, which are in file order and cut between publish times.

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

    def to_table(self, market_id: str, sequence: Ints) -> pa.Table:
        """Return the rows, all of one market, as users see them: the columns of schema.SCHEMA."""
        count = len(self)
        traded = self.side == TRADED
        zeros = np.zeros(count, np.int32)
        arrays = {
            "received_at": pa.array(self.received_at).cast(TIME),
            "publish_time": pa.array(self.publish_time).cast(TIME),
            "market_id": pa.DictionaryArray.from_arrays(zeros, [market_id]),
            "selection_id": pa.array(self.selection_id),
            "side": pa.DictionaryArray.from_arrays(pa.array(self.side.astype(np.int32), mask=traded), list(SIDES)),
            "price": pa.array(self.price),
            "size": pa.array(self.size),
            "traded_volume": pa.array(self.size, mask=~traded),
            "change_type": pa.DictionaryArray.from_arrays(zeros, [CHANGE_TYPE]),
            "level": pa.array(self.level, mask=traded),
            "record_type": pa.DictionaryArray.from_arrays(traded.astype(np.int32), list(RECORD_TYPES)),
            "in_play": pa.nulls(count, pa.bool_()),
            "sequence": pa.array(sequence),
        }
        return pa.Table.from_arrays([arrays[name] for name in SCHEMA.names], schema=SCHEMA)

    @staticmethod
    def from_batch(batch: pa.RecordBatch, market: int = 0) -> "Ticks":
        """Return the ticks of rows as users see them (the inverse of to_table, which checks nothing)."""

        def values(name: str, fill: int | None = None) -> npt.NDArray[Any]:
            column = batch.column(name)
            if isinstance(column.type, pa.TimestampType):
                column = column.cast(pa.int64())
            if fill is not None:
                column = column.fill_null(fill)
            return np.asarray(column.to_numpy(zero_copy_only=False))

        side = batch.column("side")
        if isinstance(side, pa.DictionaryArray):  # look up the few distinct sides, not each row's
            code = pa.compute.index_in(side.dictionary.cast(pa.string()), value_set=pa.array(SIDES)).take(side.indices)
        else:
            code = pa.compute.index_in(side, value_set=pa.array(SIDES))
        code = pa.compute.fill_null(code, TRADED)
        return Ticks(
            market=np.full(batch.num_rows, market, np.int64),
            publish_time=values("publish_time"),
            received_at=values("received_at"),
            selection_id=values("selection_id"),
            side=code.to_numpy(zero_copy_only=False).astype(np.int8),
            level=values("level", fill=0).astype(np.int16),
            price=values("price"),
            size=values("size"),
        )
