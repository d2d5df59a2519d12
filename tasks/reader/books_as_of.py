"""The book of a market as of many times at once: looked up, not replayed, since a stored message is a full picture."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from tasks.ticks.schema import TIME
from tasks.ticks.snapshots import LEVELS, Floats, Slots, Snapshots
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

NO_TIME = np.iinfo(np.int64).min


@dataclasses.dataclass(frozen=True, eq=False)
class Books:
    """The books of a market with n runners as of t times.

    times: shape (t,), what was asked for; publish_time: shape (t,), of the message that each book is, both as
    datetime64[us] in UTC; NaT before the first message. selection_id: shape (n,), ascending. price: decimal odds, and
    size: money, shape (t, n, 2, 8), of each runner, side (0 BACK, 1 LAY) and level (0 is the best); NaN where there is
    none.
    """

    times: np.ndarray
    publish_time: np.ndarray
    selection_id: Ints
    price: Floats
    size: Floats

    def to_table(self) -> pa.Table:
        """Return the books as rows: time, publish_time, selection_id, side, level, price, size."""
        where = np.nonzero(~np.isnan(self.price))
        moment, runner, side, level = where
        return pa.table(
            {
                "time": pa.array(self.times[moment].view(np.int64)).cast(TIME),
                "publish_time": pa.array(self.publish_time[moment].view(np.int64)).cast(TIME),
                "selection_id": self.selection_id[runner],
                "side": pa.array(["BACK", "LAY"]).take(pa.array(side)),
                "level": pa.array(level.astype(np.int16)),
                "price": self.price[where],
                "size": self.size[where],
            }
        )


def books_as_of(ticks: Iterable[Ticks], times: Ints) -> Books:
    """Return the books of a market as of times, microseconds since 1970, in any order.

    ticks: of the market, in file order, from its first message up to at least the last of the times.
    """
    order = np.argsort(times, kind="stable")
    wanted = times[order]
    slots = Slots()
    price = size = np.zeros((0, 2, LEVELS))
    seen: int = NO_TIME
    parts: list[tuple[Ints, Floats, Floats]] = []
    done = 0

    def take(upto: int) -> None:
        """Answer the times up to a position by the newest message before them."""
        nonlocal done
        if upto > done:
            count = upto - done
            many = [np.broadcast_to(row, (count, *row.shape)) for row in (price, size)]
            parts.append((np.full(count, seen), many[0], many[1]))
            done = upto

    for chunk in slots.layout(_ladder_only(ticks)):
        take(int(np.searchsorted(wanted, chunk.publish_time[0])))
        upto = int(np.searchsorted(wanted, chunk.publish_time[-1], side="right"))
        if upto > done:
            message = np.searchsorted(chunk.publish_time, wanted[done:upto], side="right") - 1
            parts.append((chunk.publish_time[message], chunk.price[message], chunk.size[message]))
            done = upto
        price, size, seen = chunk.price[-1].copy(), chunk.size[-1].copy(), int(chunk.publish_time[-1])
        if done == len(wanted):
            break
    take(len(wanted))
    count = len(slots.selection_id)
    prices, sizes = (np.zeros((len(times), count, 2, LEVELS)) for _ in range(2))
    publish_time = np.zeros(len(times), np.int64)
    start = 0
    for moments, some_prices, some_sizes in parts:
        rows = order[start : start + len(moments)]
        publish_time[rows] = moments
        prices[rows, : some_prices.shape[1]] = some_prices
        sizes[rows, : some_sizes.shape[1]] = some_sizes
        start += len(moments)
    none = prices == 0
    prices[none] = sizes[none] = np.nan
    rank = np.argsort(slots.selection_id)
    return Books(
        times.view("datetime64[us]"),
        publish_time.view("datetime64[us]"),
        slots.selection_id[rank],
        prices[:, rank],
        sizes[:, rank],
    )


def _ladder_only(ticks: Iterable[Ticks]) -> Iterator[Ticks]:
    """Yield ticks without traded rows, but for the first row of a message: its ladder may be empty, and it counts."""
    for part in ticks:
        starts = np.ones(len(part), bool)
        np.not_equal(part.publish_time[1:], part.publish_time[:-1], out=starts[1:])
        yield part[(part.side != 2) | starts]


def best_prices(chunks: Iterable[Snapshots], slots: Slots) -> Iterator[pa.RecordBatch]:
    """Yield publish_time, selection_id, back, back_size, lay, lay_size of each message and runner with a book;
    null where one side is empty.
    """
    for chunk in chunks:
        best, money = chunk.price[..., 0], chunk.size[..., 0]
        rank = np.argsort(slots.selection_id[: best.shape[1]])
        best, money = best[:, rank], money[:, rank]
        message, runner = np.nonzero(best.max(axis=2, initial=0) > 0)
        columns = {
            "publish_time": pa.array(chunk.publish_time[message]).cast(TIME),
            "selection_id": pa.array(slots.selection_id[rank][runner]),
        }
        for side, name in enumerate(("back", "lay")):
            values = best[message, runner, side]
            columns[name] = pa.array(values, mask=values == 0)
            columns[f"{name}_size"] = pa.array(money[message, runner, side], mask=values == 0)
        yield pa.RecordBatch.from_pydict(columns)
