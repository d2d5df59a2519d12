"""What a market's ticks say about its recording, counted in file order."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.statistics import message_pace, small_picture
from tasks.statistics.betfair_ladder import is_on_ladder
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

#: Raised when the statistics change: those of another version are gathered again.
VERSION = 1
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
#: A message that arrived later than this after its publish_time has a high latency.
HIGH_LATENCY_US = 5_000_000
#: A runner's traded volume fell if it is lower than before by more than half a penny, because sums of doubles are not
#: exact.
_VOLUME_NOISE = 0.005
#: The most intervals stored per reason; the counts include all.
MOST_INTERVALS = 100
#: How many cells of the books are processed at once: limits memory.
_CELLS = 1 << 18
_LEVELS = 8
#: What is counted in the messages of a market, one number per message.
REASONS = (
    "crossed_book",
    "levels_out_of_order",
    "off_ladder_price",
    "repeated_publish_time",
    "negative_latency",
    "high_latency",
    "volume_fell",
)

#: The statistics of a market as they are stored, as JSON.
Statistics = dict[str, Any]
Floats = npt.NDArray[np.float64]


class StatisticsCounter:
    """Gathers the statistics of one market from ticks in file order, given as whole messages."""

    def __init__(self) -> None:
        self._selections: Ints = np.zeros(0, np.int64)
        self._volume: Floats = np.zeros(0)
        self._ticks = self._messages = 0
        self._times: list[Ints] = []
        self._ticks_of: list[Ints] = []
        self._latency: Counter[int] = Counter()
        self._flaws: dict[str, list[tuple[Ints, Ints]]] = {reason: [] for reason in REASONS}
        self._first_has_ladder = True
        self._picture = small_picture.Sampler()

    def add(self, ticks: Ticks) -> None:
        """Count ticks."""
        if not len(ticks):
            return
        runner = self._runner_of(ticks.selection_id)
        starts = _run_starts(ticks.publish_time)
        most = max(1, _CELLS // (len(self._selections) * 2 * _LEVELS))
        for first in range(0, len(starts), most):
            some = starts[first : first + most]
            end = int(starts[first + most]) if first + most < len(starts) else len(ticks)
            rows = slice(int(some[0]), end)
            self._add(ticks[rows], runner[rows], some - some[0])

    def _add(self, ticks: Ticks, runner: Ints, starts: Ints) -> None:
        """Count the rows of whole messages that begin at starts."""
        times = ticks.publish_time[starts]
        rows_of = np.diff(starts, append=len(ticks))
        place = np.repeat(np.arange(len(starts)) * len(self._selections), rows_of) + runner
        traded = ticks.side == TRADED
        if not self._messages:
            self._first_has_ladder = not bool(traded[: rows_of[0]].all())
        off = ~is_on_ladder(ticks.price)
        if off.any():
            self._flawed("off_ladder_price", np.add.reduceat(off.astype(np.int64), starts))
        self._count_latency(ticks.received_at, times, starts)
        best = self._count_books(ticks, place, np.flatnonzero(~traded), len(starts))
        self._count_volume(ticks.size, place, np.flatnonzero(traded), len(starts))
        self._picture.add(times, best, self._selections)
        self._times.append(times)
        self._ticks_of.append(rows_of)
        self._ticks, self._messages = self._ticks + len(ticks), self._messages + len(starts)

    def _runner_of(self, selection_id: Ints) -> Ints:
        """Return the position of each selection among the known ones; new ones are added."""
        known = self._selections
        if len(known):
            runner = known.searchsorted(selection_id)
            if bool((known.take(runner, mode="clip") == selection_id).all()):
                return runner
        self._selections = np.union1d(known, selection_id)
        volume = np.full(len(self._selections), -np.inf)
        volume[self._selections.searchsorted(known)] = self._volume
        self._volume = volume
        return self._selections.searchsorted(selection_id)

    def _flawed(self, reason: str, count: npt.NDArray[Any]) -> None:
        """Record how often a reason occurs in each message."""
        where = np.flatnonzero(count)
        if len(where):
            self._flaws[reason].append((where + self._messages, count[where].astype(np.int64)))

    def _count_latency(self, received: Ints, times: Ints, starts: Ints) -> None:
        last, first = np.maximum.reduceat(received, starts), np.minimum.reduceat(received, starts)
        latency = last - times
        self._flawed("repeated_publish_time", last != first)
        self._flawed("negative_latency", first < times)
        self._flawed("high_latency", latency > HIGH_LATENCY_US)
        self._latency.update((times // HOUR_US * 64 + latency_bin(latency)).tolist())

    def _count_books(self, ticks: Ticks, place: Ints, ladder: Ints, messages: int) -> Floats:
        """Count the faults of the books; return the best back price of each runner in each message.

        place: message * runners + runner, for each row; ladder: which rows are ladder rows.
        """
        shape = 2, _LEVELS, messages, len(self._selections)
        books = np.full(shape, np.nan)
        plane = np.clip(ticks.level[ladder], 0, _LEVELS - 1) + _LEVELS * ticks.side[ladder]
        books.reshape(-1)[plane * np.int64(shape[2] * shape[3]) + place[ladder]] = ticks.price[ladder]
        back, lay = books
        self._flawed("crossed_book", _each_message(back[0] >= lay[0]))
        wrong = back[1:] >= back[:-1], lay[1:] <= lay[:-1]
        if wrong[0].any() or wrong[1].any():
            self._flawed("levels_out_of_order", wrong[0].sum(axis=(0, 2)) + wrong[1].sum(axis=(0, 2)))
        best: Floats = back[0]
        return best

    def _count_volume(self, size: Floats, place: Ints, traded: Ints, messages: int) -> None:
        """Count the runners with less traded volume than in the last message that has traded rows for them."""
        if not len(traded):
            return
        runners = len(self._selections)
        place = place[traded]
        begins = _run_starts(place)
        volume = np.full((messages + 1, runners), np.nan)
        volume[0] = self._volume
        volume[1:].reshape(-1)[place[begins]] = np.add.reduceat(size[traded], begins)
        newest = np.maximum.accumulate(np.where(np.isnan(volume), 0, np.arange(messages + 1)[:, None]), axis=0)
        volume = volume[newest, np.arange(runners)]
        self._volume = volume[-1]
        self._flawed("volume_fell", _each_message(volume[1:] < volume[:-1] - _VOLUME_NOISE))

    def statistics(self) -> Statistics:
        """Return the statistics.

        Times are µs since 1970. hours: [hour since 1970, ticks, messages]; latency: [hour, bin, messages], by
        latency_bin; quiet: intervals between messages that the pace does not explain (message_pace.unexplained);
        silent: [from, to] of every interval of five minutes or more; flaws: counts and intervals of each reason that
        occurred; picture: the price of the favourite over time (small_picture.py).
        """
        times = np.concatenate(self._times) if self._times else np.zeros(0, np.int64)
        return {
            "version": VERSION,
            "ticks": self._ticks,
            "messages": self._messages,
            "first": int(times[0]) if len(times) else None,
            "last": int(times[-1]) if len(times) else None,
            "selections": self._selections.tolist(),
            "first_has_ladder": self._first_has_ladder,
            "hours": self._hours(times),
            "latency": [[*divmod(key, 64), count] for key, count in sorted(self._latency.items())],
            "quiet": message_pace.unexplained(times),
            "silent": message_pace.silent(times),
            "flaws": {reason: _flaw(times, found) for reason, found in self._flaws.items() if found},
            "picture": self._picture.drawn(),
        }

    def _hours(self, times: Ints) -> list[list[int]]:
        """Return [hour since 1970, ticks, messages] of each hour that has any."""
        if not len(times):
            return []
        hours = times // HOUR_US
        begins = _run_starts(hours)
        ticks = np.add.reduceat(np.concatenate(self._ticks_of), begins)
        found: list[list[int]] = np.column_stack([hours[begins], ticks, np.diff(begins, append=len(hours))]).tolist()
        return found


def _run_starts(values: npt.NDArray[Any]) -> Ints:
    """Return where each run of equal values begins."""
    is_start = np.empty(len(values), bool)
    is_start[:1] = True
    np.not_equal(values[1:], values[:-1], out=is_start[1:])
    return np.flatnonzero(is_start)


def _each_message(found: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Return, for each message, for how many runners something was found."""
    return np.count_nonzero(found, axis=1) if found.any() else np.zeros(0, np.int64)


def latency_bin(latency_us: Ints) -> Ints:
    """Return the bin of each latency: 0 if negative, 1 below a millisecond, then two per doubling, at most 62."""
    milliseconds = np.maximum(latency_us, 1000) / 1000
    width = np.where(latency_us < 1000, 1, 2 + np.floor(2 * np.log2(milliseconds))).astype(np.int64)
    return np.where(latency_us < 0, 0, np.minimum(width, 62))


def latency_of_bin(width: int) -> float:
    """Return the upper limit of a bin, in milliseconds."""
    return 0.0 if width == 0 else float(2 ** ((width - 1) / 2))


def _flaw(times: Ints, found: list[tuple[Ints, Ints]]) -> Statistics:
    """Return counts and intervals of a reason. An interval is a run of consecutive messages with the reason; days: [day
    since 1970, how often].
    """
    where, counts = (np.concatenate(part) for part in zip(*found, strict=True))
    begins = np.flatnonzero(np.concatenate([[True], np.diff(where) != 1]))
    ends = np.concatenate([begins[1:], [len(where)]]) - 1
    days = times[where] // DAY_US
    day_begins = np.flatnonzero(np.concatenate([[True], days[1:] != days[:-1]]))
    return {
        "count": int(counts.sum()),
        "messages": len(where),
        "runs": len(begins),
        "intervals": (
            np.column_stack([times[where[begins]], times[where[ends]], np.add.reduceat(counts, begins)])[
                :MOST_INTERVALS
            ].tolist()
        ),
        "days": [
            [day, count]
            for day, count in zip(days[day_begins].tolist(), np.add.reduceat(counts, day_begins).tolist(), strict=True)
        ],
    }
