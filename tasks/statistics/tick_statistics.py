"""What a market's ticks say about its recording, counted as they go by in file order."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.statistics import message_pace, small_picture
from tasks.statistics.betfair_ladder import is_on_ladder
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import TRADED, Ticks

#: Raised when what is counted changes: statistics of another version are gathered again.
VERSION = 1
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
#: A message that arrived later than this after its publish_time counts as late.
HIGH_LATENCY_US = 5_000_000
#: A runner's traded volume fell if it is lower than before by more than half a penny: sums of doubles are not exact.
_VOLUME_NOISE = 0.005
#: Intervals kept of a reason; the counts are of all.
MOST_INTERVALS = 100
#: Cells of the price cube that are looked at at once: bounds the memory.
_CELLS = 1 << 20
_LEVELS = 8
#: What is counted of the messages of a market, a number a message.
REASONS = (
    "crossed_book",
    "levels_out_of_order",
    "off_ladder_price",
    "repeated_publish_time",
    "negative_latency",
    "high_latency",
    "volume_fell",
)

#: Statistics of a market as they are kept: JSON.
Statistics = dict[str, Any]


class StatisticsCounter:
    """Gathers the statistics of one market from ticks that come in file order, cut between publish times only."""

    def __init__(self) -> None:
        self._selections: Ints = np.zeros(0, np.int64)
        self._volume: npt.NDArray[np.float64] = np.zeros(0)
        self._ticks = self._messages = 0
        self._times: list[Ints] = []
        self._hours: dict[int, list[int]] = {}
        self._latency: dict[tuple[int, int], int] = {}
        self._flaws: dict[str, list[tuple[Ints, Ints]]] = {reason: [] for reason in REASONS}
        self._first_has_ladder = True
        self._picture = small_picture.Sampler()

    def add(self, ticks: Ticks) -> None:
        """Count ticks."""
        if not len(ticks):
            return
        runner = self._runner_of(ticks.selection_id)
        starts = np.flatnonzero(np.concatenate([[True], ticks.publish_time[1:] != ticks.publish_time[:-1]]))
        most = max(1, _CELLS // (len(self._selections) * 2 * _LEVELS))
        for first in range(0, len(starts), most):
            some = starts[first : first + most]
            end = int(starts[first + most]) if first + most < len(starts) else len(ticks)
            rows = slice(int(some[0]), end)
            self._add(ticks[rows], runner[rows], some - some[0])

    def _runner_of(self, selection_id: Ints) -> Ints:
        """Return the position of each selection among those known, which grow."""
        known = self._selections
        if len(known):
            runner = np.minimum(known.searchsorted(selection_id), len(known) - 1)
            if bool((known[runner] == selection_id).all()):
                return runner
        self._selections = np.union1d(known, selection_id)
        volume = np.full(len(self._selections), -np.inf)
        volume[self._selections.searchsorted(known)] = self._volume
        self._volume = volume
        return self._selections.searchsorted(selection_id)

    def _add(self, ticks: Ticks, runner: Ints, starts: Ints) -> None:
        """Count the rows of whole messages that begin at starts."""
        times = ticks.publish_time[starts]
        rows_of = np.diff(starts, append=len(ticks))
        message = np.repeat(np.arange(len(starts)), rows_of)
        traded = ticks.side == TRADED
        if not self._messages:
            self._first_has_ladder = not bool(traded[: rows_of[0]].all())
        off = np.bincount(message[~is_on_ladder(ticks.price)], minlength=len(starts))
        self._flawed("off_ladder_price", off)
        self._count_latency(ticks.received_at, times, starts)
        best = self._count_books(ticks, runner, message, traded, len(starts))
        self._count_volume(ticks.size, runner, message, traded, len(starts))
        self._picture.add(times, best, self._selections)
        self._count_hours(times, rows_of)
        self._times.append(times)
        self._ticks, self._messages = self._ticks + len(ticks), self._messages + len(starts)

    def _flawed(self, reason: str, count: Ints) -> None:
        """Note how often a reason is met in each message."""
        where = np.flatnonzero(count)
        if len(where):
            self._flaws[reason].append((where + self._messages, count[where]))

    def _count_latency(self, received: Ints, times: Ints, starts: Ints) -> None:
        last, first = np.maximum.reduceat(received, starts), np.minimum.reduceat(received, starts)
        self._flawed("repeated_publish_time", (last != first).astype(np.int64))
        self._flawed("negative_latency", (first < times).astype(np.int64))
        latency = last - times
        self._flawed("high_latency", (latency > HIGH_LATENCY_US).astype(np.int64))
        keys = times // HOUR_US * 64 + latency_bin(latency)
        for key, count in zip(*(found.tolist() for found in np.unique(keys, return_counts=True)), strict=True):
            hour, width = divmod(key, 64)
            self._latency[hour, width] = self._latency.get((hour, width), 0) + count

    def _count_books(
        self, ticks: Ticks, runner: Ints, message: Ints, traded: npt.NDArray[np.bool_], messages: int
    ) -> npt.NDArray[np.float64]:
        """Count what is wrong with the books; return the best back price of each runner at each message."""
        runners = len(self._selections)
        cube = np.full((messages, runners, 2, _LEVELS), np.nan)
        ladder = np.flatnonzero(~traded)
        cell = (message[ladder] * runners + runner[ladder]) * 2 + ticks.side[ladder]
        cube.reshape(-1)[cell * _LEVELS + np.clip(ticks.level[ladder], 0, _LEVELS - 1)] = ticks.price[ladder]
        back, lay = cube[:, :, 0], cube[:, :, 1]
        self._flawed("crossed_book", (back[:, :, 0] >= lay[:, :, 0]).sum(axis=1))
        wrong = (back[:, :, 1:] >= back[:, :, :-1]).sum(axis=(1, 2)) + (lay[:, :, 1:] <= lay[:, :, :-1]).sum(
            axis=(1, 2)
        )
        self._flawed("levels_out_of_order", wrong)
        return back[:, :, 0]

    def _count_volume(
        self, size: npt.NDArray[np.float64], runner: Ints, message: Ints, traded: npt.NDArray[np.bool_], messages: int
    ) -> None:
        """Count the runners of which less has been traded than at the message before that has traded rows of them."""
        rows = np.flatnonzero(traded)
        if not len(rows):
            return
        key = message[rows] * len(self._selections) + runner[rows]
        begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        volume = np.add.reduceat(size[rows], begins)
        key = key[begins]
        of_runner = key % len(self._selections)
        order = np.argsort(of_runner, kind="stable")
        volume, of_runner = volume[order], of_runner[order]
        first = np.concatenate([[True], of_runner[1:] != of_runner[:-1]])
        before = np.concatenate([[0.0], volume[:-1]])
        before[first] = self._volume[of_runner[first]]
        fell = volume < before - _VOLUME_NOISE
        last = np.concatenate([first[1:], [True]])
        self._volume[of_runner[last]] = volume[last]
        self._flawed("volume_fell", np.bincount(key[order][fell] // len(self._selections), minlength=messages))

    def _count_hours(self, times: Ints, rows_of: Ints) -> None:
        hours = times // HOUR_US
        begins = np.flatnonzero(np.concatenate([[True], hours[1:] != hours[:-1]]))
        ticks = np.add.reduceat(rows_of, begins)
        messages = np.diff(begins, append=len(hours))
        for hour, more_ticks, more_messages in zip(
            hours[begins].tolist(), ticks.tolist(), messages.tolist(), strict=True
        ):
            counts = self._hours.setdefault(hour, [0, 0])
            counts[0] += more_ticks
            counts[1] += more_messages

    def statistics(self) -> Statistics:
        """Return what was gathered.

        Times in µs since 1970. hours: [hour since 1970, ticks, messages]; latency: [hour, bin, messages], by
        latency_bin; quiet: intervals between messages that its pace does not explain (message_pace.unexplained);
        silent: [from, to] of every interval of five minutes or more; flaws: of each reason that was met its counts
        and intervals; picture: the price of the favourite over time (small_picture.py).
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
            "hours": [[hour, *counts] for hour, counts in sorted(self._hours.items())],
            "latency": [[hour, width, count] for (hour, width), count in sorted(self._latency.items())],
            "quiet": message_pace.unexplained(times),
            "silent": message_pace.silent(times),
            "flaws": {reason: _flaw(times, found) for reason, found in self._flaws.items() if found},
            "picture": self._picture.drawn(),
        }


def latency_bin(latency_us: Ints) -> Ints:
    """Return the bin of each latency: 0 below nothing, 1 below a millisecond, then two a doubling, 62 at most."""
    milliseconds = np.maximum(latency_us, 1000) / 1000
    width = np.where(latency_us < 1000, 1, 2 + np.floor(2 * np.log2(milliseconds))).astype(np.int64)
    return np.where(latency_us < 0, 0, np.minimum(width, 62))


def latency_of_bin(width: int) -> float:
    """Return the latency in milliseconds below which a bin lies."""
    return 0.0 if width == 0 else float(2 ** ((width - 1) / 2))


def _flaw(times: Ints, found: list[tuple[Ints, Ints]]) -> Statistics:
    """Return counts and intervals of a reason. An interval reaches from the first to the last of messages in a row that
    have it; days: [day since 1970, how often].
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
