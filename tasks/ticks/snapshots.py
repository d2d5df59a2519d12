"""The messages of one market as full images: its ladder and its traded rows in arrays, one row per message.

A stored message is a full image (docs/loading.md), so the state of a market at a time needs no replay: it is looked up.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.ticks.schema import MAX_LEVEL
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

Floats = npt.NDArray[np.float64]

LEVELS = MAX_LEVEL + 1
#: How many numbers are held at once while ticks are laid out: limits memory, whatever the market.
_MOST_NUMBERS = 3_000_000
#: Betfair's highest price, 1000, in hundredths.
_MOST_HUNDREDTHS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshots:
    """m messages of a market with n runners and k traded prices, in order of publish_time.

    publish_time: shape (m,), microseconds since 1970. price, size: shape (m, n, 2, 8), of each runner, side (BACK, LAY)
    and level; price 0 if there is no level. traded: shape (m, k), the stored size_traded of each traded price, 0
    if there is none. left_out: rows that no book can show (NaN, infinite, or a size that is not above 0).
    """

    publish_time: Ints
    price: Floats
    size: Floats
    traded: Floats
    left_out: int

    def __len__(self) -> int:
        return len(self.publish_time)


class Slots:
    """The positions of runners and of traded prices in Snapshots, in order of appearance.

    selection_id: shape (n,). traded_runner, traded_price: shape (k,), the position of the runner, and the price.
    """

    def __init__(self) -> None:
        self.selection_id = np.zeros(0, np.int64)
        self.traded_runner = np.zeros(0, np.int64)
        self.traded_price = np.zeros(0)
        self._prices = _PriceNumbers()
        self._traded = np.full((0, 0), -1, np.int32)

    def layout(self, ticks: Iterable[Ticks]) -> Iterator[Snapshots]:
        """Yield ticks of one market, in file order, as snapshots of bounded size. A message is never cut."""
        for part in whole_messages(ticks):
            yield from self._laid_out(part)

    def _laid_out(self, ticks: Ticks) -> Iterator[Snapshots]:
        good = np.isfinite(ticks.price) & np.isfinite(ticks.size) & (ticks.size > 0) & (ticks.price > 0)
        is_new = np.empty(len(ticks), bool)
        is_new[:1] = True
        np.not_equal(ticks.publish_time[1:], ticks.publish_time[:-1], out=is_new[1:])
        starts = np.flatnonzero(is_new)
        times = ticks.publish_time[starts]
        message = np.cumsum(is_new) - 1
        left_out = int(len(ticks) - np.count_nonzero(good))
        traded = np.flatnonzero((ticks.side == TRADED) & good)
        ladder = np.flatnonzero((ticks.side != TRADED) & good)
        ladder_runner, traded_runner = (self._runners(ticks.selection_id[rows]) for rows in (ladder, traded))
        traded_slot = self._traded_slots(traded_runner, ticks.price[traded])
        count = len(self.selection_id)
        ladder_slot = (ladder_runner * 2 + ticks.side[ladder]) * LEVELS + ticks.level[ladder]
        ladder_message, traded_message = message[ladder], message[traded]
        ladder_price, ladder_size, traded_size = ticks.price[ladder], ticks.size[ladder], ticks.size[traded]
        width, columns = count * 2 * LEVELS, len(self.traded_price)
        step = max(1, _MOST_NUMBERS // max(1, 2 * width + columns))
        for first in range(0, len(times), step):
            last = min(first + step, len(times))
            these = slice(*np.searchsorted(ladder_message, [first, last]))
            those = slice(*np.searchsorted(traded_message, [first, last]))
            price, size = np.zeros((last - first) * width), np.zeros((last - first) * width)
            place = (ladder_message[these] - first) * width + ladder_slot[these]
            price[place], size[place] = ladder_price[these], ladder_size[these]
            volume = np.zeros((last - first) * columns)
            volume[(traded_message[those] - first) * columns + traded_slot[those]] = traded_size[those]
            shape = (last - first, count, 2, LEVELS)
            yield Snapshots(
                times[first:last],
                price.reshape(shape),
                size.reshape(shape),
                volume.reshape(last - first, columns),
                left_out if first == 0 else 0,
            )

    def _runners(self, selection_id: Ints) -> Ints:
        """Return the position of each row's runner."""
        is_first = np.ones(len(selection_id), bool)
        np.not_equal(selection_id[1:], selection_id[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        heads = selection_id[starts]
        order = np.argsort(self.selection_id)
        place = np.searchsorted(self.selection_id, heads, sorter=order)
        if not len(order) or bool((self.selection_id[order.take(place, mode="clip")] != heads).any()):
            self.selection_id = np.concatenate([self.selection_id, np.setdiff1d(heads, self.selection_id)])
            order = np.argsort(self.selection_id)
            place = np.searchsorted(self.selection_id, heads, sorter=order)
        numbers = order[place]
        return np.asarray(np.repeat(numbers, np.diff(starts, append=len(selection_id))), np.int64)

    def _traded_slots(self, runner: Ints, price: Floats) -> Ints:
        """Return, for each row, the position of its runner's traded price."""
        number = self._prices.of(price)
        runners, prices = len(self.selection_id), len(self._prices)
        if self._traded.shape != (runners, prices):
            grown = np.full((runners, prices), -1, np.int32)
            grown[: self._traded.shape[0], : self._traded.shape[1]] = self._traded
            self._traded = grown
        pair = runner * prices + number
        slot = self._traded.ravel()[pair]
        if len(unknown := np.unique(pair[slot < 0])):
            known = len(self.traded_price)
            self._traded.ravel()[unknown] = np.arange(known, known + len(unknown))
            self.traded_runner = np.concatenate([self.traded_runner, unknown // prices])
            self.traded_price = np.concatenate([self.traded_price, self._prices.values[unknown % prices]])
            slot = self._traded.ravel()[pair]
        return np.asarray(slot, np.int64)


class _PriceNumbers:
    """Numbers prices as they appear: hundredths, as Betfair's are, by a table; others by a search."""

    def __init__(self) -> None:
        self.values = np.zeros(0)
        self._of_hundredths = np.full(_MOST_HUNDREDTHS + 1, -1, np.int32)

    def __len__(self) -> int:
        return len(self.values)

    def of(self, prices: Floats) -> Ints:
        """Return the number of each price."""
        with np.errstate(over="ignore", invalid="ignore"):
            hundredths = np.rint(prices * 100)
            usual = (hundredths / 100 == prices) & (hundredths <= _MOST_HUNDREDTHS)
        if bool(usual.all()):
            index = hundredths.astype(np.int32)
            number = self._of_hundredths[index]
            if bool((number < 0).any()):
                unknown = np.unique(index[number < 0])
                self._of_hundredths[unknown] = np.arange(len(self), len(self) + len(unknown))
                self.values = np.concatenate([self.values, unknown / 100])
                number = self._of_hundredths[index]
            return number.astype(np.int64)
        if len(unknown_prices := np.setdiff1d(prices, self.values)):
            whole = np.rint(unknown_prices * 100)
            is_usual = (whole / 100 == unknown_prices) & (whole <= _MOST_HUNDREDTHS)
            numbers = np.arange(len(self), len(self) + len(unknown_prices))
            self._of_hundredths[whole[is_usual].astype(np.int64)] = numbers[is_usual]
            self.values = np.concatenate([self.values, unknown_prices])
        order = np.argsort(self.values)
        return np.asarray(order[np.searchsorted(self.values, prices, sorter=order)], np.int64)


def whole_messages(ticks: Iterable[Ticks]) -> Iterator[Ticks]:
    """Yield ticks in parts of about the same size that end where a message does."""
    held: list[Ticks] = []
    for part in ticks:
        if not len(part):
            continue
        begins = int(np.searchsorted(part.publish_time, part.publish_time[-1]))
        if held and begins == 0 and part.publish_time[0] == held[-1].publish_time[-1]:
            held.append(part)
            continue
        if begins == 0 and held:
            yield Ticks.concatenate(held)
            held = []
        if begins:
            yield Ticks.concatenate([*held, part[:begins]])
            held = []
        held.append(part[begins:])
    if held:
        yield Ticks.concatenate(held)


def padded(row: npt.NDArray[Any], like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a message's part of Snapshots with as many runners or traded prices as another chunk has."""
    if row.shape == like.shape[1:]:
        return row
    grown: npt.NDArray[Any] = np.zeros(like.shape[1:], row.dtype)
    grown[: len(row)] = row
    return grown
