"""The book of a market as of many times: looked up, not replayed, because a stored message is a full image."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from tasks.ticks.schema import TIME
from tasks.ticks.snapshots import LEVELS, Floats, Slots, Snapshots
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

NO_TIME = np.iinfo(np.int64).min
#: The columns of ticks that books are made of.
COLUMNS = ("publish_time", "selection_id", "side", "level", "price", "size")


@dataclasses.dataclass(frozen=True, eq=False)
class Books:
    """The books of a market with n runners as of t times.

    times: shape (t,), the requested times; publish_time: shape (t,), of the message of each book; both are
    datetime64[us] in UTC, NaT before the first message. selection_id: shape (n,), ascending. price: decimal odds, and
    size: money, shape (t, n, 2, 8), by runner, side (0 BACK, 1 LAY) and level (0 is the best); NaN if there is none.
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


def choosing(times: Ints) -> Callable[[Ints], Ints]:
    """Return a function that returns which rows can be of the books as of times, which ascend: those of the newest
    message at or before each of them.

    It gets the publish_time of some rows in file order. Their first message is always chosen, because it may have begun
    before them, and their last one, because only later rows show whether it is needed.
    """

    def choose(publish_time: Ints) -> Ints:
        starts = _starts(publish_time)
        before = np.searchsorted(times, publish_time[starts])
        is_asked = np.append(before[1:] > before[:-1], True)
        is_asked[0] = True
        rows = np.diff(starts, append=len(publish_time))[is_asked]
        return np.repeat(starts[is_asked] - np.cumsum(rows) + rows, rows) + np.arange(rows.sum())

    return choose


def books_as_of(ticks: Ticks, times: Ints) -> Books:
    """Return the books of a market as of times, microseconds since 1970, in any order.

    ticks: of the market, in file order, at least the messages of the books, whole.
    """
    starts = _starts(ticks.publish_time)
    moments = np.append(NO_TIME, ticks.publish_time[starts])  # the first one is not a message, and before all times
    rows = np.flatnonzero(
        (ticks.side != TRADED)
        & (ticks.price > 0)
        & (ticks.size > 0)
        & np.isfinite(ticks.price)
        & np.isfinite(ticks.size)
    )
    message = np.repeat(np.arange(1, len(moments)), np.diff(starts, append=len(ticks)))[rows]
    selection_id, runner = _numbered(ticks.selection_id[rows])
    place = ((message * len(selection_id) + runner) * 2 + ticks.side[rows]) * LEVELS + ticks.level[rows]
    wanted = np.searchsorted(moments, times, side="right") - 1
    found = []
    for values in (ticks.price, ticks.size):
        books = np.full((len(moments), len(selection_id), 2, LEVELS), np.nan)
        books.ravel()[place] = values[rows]
        found.append(books.take(wanted, axis=0))
    return Books(times.view("datetime64[us]"), moments[wanted].view("datetime64[us]"), selection_id, *found)


def _starts(values: Ints) -> Ints:
    """Return the rows at which another value begins."""
    return np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)[: len(values)]


def _numbered(selection_id: Ints) -> tuple[Ints, Ints]:
    """Return the distinct runners, ascending, and the position of each row's runner among them."""
    starts = _starts(selection_id)
    distinct, position = np.unique(selection_id[starts], return_inverse=True)
    return distinct, np.repeat(position, np.diff(starts, append=len(selection_id)))


def best_prices(chunks: Iterable[Snapshots], slots: Slots) -> Iterator[pa.RecordBatch]:
    """Yield publish_time, selection_id, back, back_size, lay, lay_size for each message and runner with a book; null if
    a side is empty.
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
