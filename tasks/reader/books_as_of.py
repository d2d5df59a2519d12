"""The book of a market as of many times: looked up, not replayed, because a stored message is a full image."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from tasks.ticks.schema import TIME
from tasks.ticks.snapshots import LEVELS, Floats, Slots, Snapshots
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

NO_TIME = np.iinfo(np.int64).min


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


def books_as_of(ticks: Iterable[Ticks], times: Ints) -> Books:
    """Return the books of a market as of times, microseconds since 1970, in any order.

    ticks: of the market, in file order, from its first message up to at least the last of the times; batches may end
    within a message. Only the messages that are needed are laid out.
    """
    asked = _Asked(np.sort(times))
    for part in ticks:
        if len(part):
            asked.add(part)
    selection_id, moments, price, size = asked.found()
    row = np.searchsorted(moments, times, side="right") - 1  # the first one is not a message, and is before all times
    return Books(
        times.view("datetime64[us]"),
        moments[row].view("datetime64[us]"),
        selection_id,
        price.take(row, axis=0),
        size.take(row, axis=0),
    )


class _Asked:
    """Gathers the messages for ascending times: for each the newest one at or before it."""

    def __init__(self, times: Ints) -> None:
        self._times = times
        self._selection_id = np.zeros(0, np.int64)
        self._moments = [np.array([NO_TIME])]
        self._books = [(_no_prices(1, 0), _no_prices(1, 0))]

    def add(self, ticks: Ticks) -> None:
        """Lay out the needed messages of the next rows, and their last one: only later rows show whether it is
        needed.
        """
        starts = np.flatnonzero(np.diff(ticks.publish_time, prepend=ticks.publish_time[0] - 1))
        moments = ticks.publish_time[starts]
        before = np.searchsorted(self._times, moments)
        is_asked = np.append(before[1:] > before[:-1], True)
        goes_on = bool(moments[0] == self._moments[-1][-1])
        is_asked[0] |= goes_on
        rows = np.flatnonzero(
            np.repeat(is_asked, np.diff(starts, append=len(ticks))) & (ticks.side != TRADED) & (ticks.price > 0)
        )
        price, size, selection_id = ticks.price[rows], ticks.size[rows], ticks.selection_id[rows]
        good = np.isfinite(price) & np.isfinite(size) & (size > 0)
        if not bool(good.all()):
            rows, price, size, selection_id = rows[good], price[good], size[good], selection_id[good]
        runner = self._runner(selection_id)
        runners = len(self._selection_id)
        count = int(np.count_nonzero(is_asked))
        if goes_on:
            first = [_wider(book[-1:], runners) for book in self._books[-1]]
            self._moments[-1] = self._moments[-1][:-1]
            self._books[-1] = (self._books[-1][0][:-1], self._books[-1][1][:-1])
        book = (_no_prices(count, runners), _no_prices(count, runners))
        if goes_on:
            book[0][:1], book[1][:1] = first
        number = np.repeat(np.cumsum(is_asked) - 1, np.diff(starts, append=len(ticks)))[rows]
        place = ((number * runners + runner) * 2 + ticks.side[rows]) * LEVELS + ticks.level[rows]
        book[0].ravel()[place], book[1].ravel()[place] = price, size
        self._moments.append(moments[is_asked])
        self._books.append(book)

    def _runner(self, selection_id: Ints) -> Ints:
        """Return the position of each row's runner."""
        order = np.argsort(self._selection_id)
        known = self._selection_id[order]
        place = np.searchsorted(known, selection_id)
        if not len(known) or bool((known.take(place, mode="clip") != selection_id).any()):
            self._selection_id = np.append(self._selection_id, np.setdiff1d(selection_id, self._selection_id))
            order = np.argsort(self._selection_id)
            place = np.searchsorted(self._selection_id[order], selection_id)
        return np.asarray(order[place], np.int64)

    def found(self) -> tuple[Ints, Ints, Floats, Floats]:
        """Return the runners, ascending, and each message's publish_time, price and size. The first is not a
        message.
        """
        runners = len(self._selection_id)
        rank = np.argsort(self._selection_id)
        price, size = (np.concatenate([_wider(book[number], runners) for book in self._books]) for number in range(2))
        if bool((np.diff(rank) < 0).any()):
            price, size = price[:, rank], size[:, rank]
        return self._selection_id[rank], np.concatenate(self._moments), price, size


def _no_prices(messages: int, runners: int) -> Floats:
    return np.full((messages, runners, 2, LEVELS), np.nan)


def _wider(book: Floats, runners: int) -> Floats:
    """Return books with as many runners."""
    missing = runners - book.shape[1]
    return np.concatenate([book, _no_prices(len(book), missing)], axis=1) if missing else book


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
