"""The replay of a market for its plot: book and trades at moments selected from its messages."""

import base64
import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.ticks.snapshots import LEVELS, Slots, Snapshots
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

Floats = npt.NDArray[np.float64]

#: The most moments, and the most numbers in all books together: they limit the size of the page.
MOST_MOMENTS = 20_000
_MOST_NUMBERS = 4_000_000
#: The largest size of a page's arrays, as text; if they are larger, every other moment is dropped.
_MOST_BYTES = 4_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """n moments of a market with r runners.

    times: shape (n,), µs since 1970, each the publish_time of a message; selection_id: shape (r,), ascending; price,
    size: shape (n, r, 2, 8), price 0 if there is no level; traded: shape (n, r), the price at which most was traded
    last, 0 if unknown; volume: shape (n, r), traded up to then; messages: how many the market has.
    """

    times: Ints
    selection_id: Ints
    price: Floats
    size: Floats
    traded: Floats
    volume: Floats
    messages: int


def replay(ticks: Iterable[Ticks], messages: int) -> Replay:
    """Return the replay of one market's ticks, given in file order. messages: the number of distinct publish times."""
    slots = Slots()
    following = _Traded(slots)
    stride, seen, parts = 0, 0, []
    for part in slots.layout(ticks):
        if not stride:
            most = max(2, min(MOST_MOMENTS, _MOST_NUMBERS // (len(slots.selection_id) * 2 * LEVELS) - 1))
            stride = -(-messages // most)
        volume, traded = following.at(part)
        here = np.arange(len(part))
        kept = here[((seen + here) % stride == 0) | (seen + here == messages - 1)]
        seen += len(part)
        parts.append((part.publish_time[kept], part.price[kept], part.size[kept], traded[kept], volume[kept]))
    runners = len(slots.selection_id)
    order = np.argsort(slots.selection_id)
    columns = [
        np.concatenate([_widened(column, runners) if column.ndim > 1 else column for column in columns])
        for columns in zip(*parts)
    ] or [np.zeros(0, np.int64), *(np.zeros(shape) for shape in ((0, 0, 2, LEVELS),) * 2 + ((0, 0),) * 2)]
    times, price, size, last, volume = columns
    return Replay(
        times, slots.selection_id[order], price[:, order], size[:, order], last[:, order], volume[:, order], messages
    )


def _thinner(replay: Replay) -> Replay:
    """Return every other moment of a replay, and the last."""
    kept = np.unique(np.append(np.arange(0, len(replay.times), 2), len(replay.times) - 1))
    names = ("times", "price", "size", "traded", "volume")
    return dataclasses.replace(replay, **{name: getattr(replay, name)[kept] for name in names})


def _widened(column: Floats, runners: int) -> Floats:
    """Return an array with room for runners that appear later."""
    missing = runners - column.shape[1]
    return np.pad(column, [(0, 0), (0, missing), *[(0, 0)] * (column.ndim - 2)]) if missing else column


class _Traded:
    """Follows the trades. The platform stores a running sum of the cumulative volume at each price; the last increase
    of a sum is the cumulative volume at that time (docs/loading.md).
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._sum, self._volume, self._price = np.zeros(0), np.zeros(0), np.zeros(0)
        self._is_first = True

    def at(self, part: Snapshots) -> tuple[Floats, Floats]:
        """Return volume and last traded price of each runner, shape (m, r) each."""
        slots, sums = self._slots, part.traded
        runners = len(slots.selection_id)
        columns = sums.shape[1]
        runner = slots.traded_runner[:columns]
        before = np.vstack([_longer(self._sum, columns), sums[:-1]])
        step = sums - before
        changed = (step != 0) & (sums > 0)
        fell = changed & (step < 0)
        reached = np.where(fell, sums, step)  # after a restart of the recorder a sum starts again
        volume = _carried(reached, changed, _longer(self._volume, columns))
        price = np.zeros((len(part), runners))
        of_runner = np.zeros((len(part), runners))
        known = _longer(self._price, runners)
        for number in range(runners):
            mine = np.flatnonzero(runner == number)
            if not len(mine):
                price[:, number] = known[number]
                continue
            of_runner[:, number] = volume[:, mine].sum(axis=1)
            grew = changed[:, mine]
            if self._is_first:
                grew[0] = False  # the first message says what was traded, but not at which price last
            best = np.where(grew, reached[:, mine], -1.0).argmax(axis=1)
            at = slots.traded_price[mine[best]]
            price[:, number] = _carried(at[:, None], grew.any(axis=1)[:, None], known[number : number + 1])[:, 0]
        self._sum, self._volume, self._price, self._is_first = sums[-1], volume[-1], price[-1], False
        return of_runner, price


def _longer(row: Floats, length: int) -> Floats:
    return np.pad(row, (0, length - len(row)))


def _carried(values: Floats, changed: npt.NDArray[np.bool_], before: Floats) -> Floats:
    """Return, for each row, each column's value at its last change; before the first change, the value before."""
    last = np.maximum.accumulate(np.where(changed, np.arange(len(values))[:, None], -1), axis=0)
    return np.where(last < 0, before, np.take_along_axis(values, np.maximum(last, 0), axis=0))


def packed(replay: Replay) -> dict[str, Any]:
    """Return a replay for a page: a description of the arrays, and the arrays themselves, compressed.

    They are little-endian and follow each other: times in ms (float64, n); then, for each series, n differences from
    the number before, in byte planes: prices (position in the list of prices, uint16, r × 2 × 8), sizes (hundredths,
    uint32, r × 2 × 8), traded prices (uint16, r), volumes (whole units, uint32, r). Moments are dropped until the page
    is small enough.
    """
    prices = np.unique(np.concatenate([[0.0], replay.price.ravel(), replay.traded.ravel()]))
    count = len(replay.times)
    series = [
        (np.searchsorted(prices, replay.price).reshape(count, -1 if count else 0), np.uint16),
        (_whole(replay.size * 100).reshape(count, -1 if count else 0), np.uint32),
        (np.searchsorted(prices, replay.traded), np.uint16),
        (_whole(replay.volume), np.uint32),
    ]
    blob = [(replay.times / 1000).astype("<f8").tobytes()]
    for values, kind in series:
        column = np.ascontiguousarray(values.T).astype(kind)
        column[:, 1:] -= column[:, :-1].copy()
        width = column.itemsize
        blob.append(column.astype(column.dtype.newbyteorder("<")).view(np.uint8).reshape(-1, width).T.tobytes())
    arrays = base64.b64encode(zlib.compress(b"".join(blob), 6)).decode()
    if len(arrays) > _MOST_BYTES and count > 2:
        return packed(_thinner(replay))
    return {"moments": count, "messages": replay.messages, "prices": prices.tolist(), "arrays": arrays}


def _whole(values: Floats) -> Ints:
    return np.rint(np.clip(values, 0, 4_294_967_295)).astype(np.int64)


def favourites(replay: Replay) -> Sequence[int]:
    """Return the positions of the runners, the one with the lowest price first, those without any price last."""
    best = replay.price[:, :, 0, 0]
    usual = [float(np.median(column[column > 0])) if bool((column > 0).any()) else np.inf for column in best.T]
    return sorted(range(len(usual)), key=usual.__getitem__)
