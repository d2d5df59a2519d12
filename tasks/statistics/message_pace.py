"""The pace of a market's messages, and the intervals that are longer than it explains."""

import numpy as np

from tasks.ticks.sort_keys import Ints

#: How many intervals before and after one show what is usual there. A market is quiet at night and busy before the off.
_NEIGHBOURS = 20
#: With fewer, nothing can be said.
_FEWEST = 8
#: An interval is a gap only if it is longer than so many times the second longest of its neighbours (the longest may
#: itself be a gap), ...
FACTOR, FACTOR_IN_PLAY = 3.0, 2.0
#: ... longer than their mean by more than so many standard deviations (messages at random intervals are sometimes far
#: apart, those stored every 180 seconds never are), ...
DEVIATIONS = 14.0
#: ... and at least so many µs long: a shorter silence of a busy market does no harm to a backtest.
SHORTEST_US, SHORTEST_IN_PLAY_US = 120_000_000, 20_000_000
#: All intervals of this length or more are stored: together they show when nothing at all was recorded.
SILENT_US = 300_000_000


def unexplained(times: Ints) -> list[list[int]]:
    """Return [from, to, limit, limit in play] of each interval between messages that is longer than the limit in play.

    times: of the messages, ascending, µs since 1970; the limits, in µs, come from the intervals around it.
    """
    steps = np.diff(times)
    if len(steps) <= _FEWEST:
        return []
    long = np.flatnonzero(steps >= SHORTEST_IN_PLAY_US)
    if not len(long):
        return []
    padded = np.concatenate([np.full(_NEIGHBOURS, -1), steps, np.full(_NEIGHBOURS, -1)])
    around = np.concatenate([np.arange(-_NEIGHBOURS, 0), np.arange(1, _NEIGHBOURS + 1)])
    found: list[list[int]] = []
    for start in range(0, len(long), 4096):
        some = long[start : start + 4096]
        near = np.sort(padded[some[:, None] + _NEIGHBOURS + around], axis=1)[:, :-1].astype(float)
        second, known = near[:, -1], near >= 0
        count = np.maximum(known.sum(axis=1), 1)
        mean = np.where(known, near, 0.0).sum(axis=1) / count
        spread = np.sqrt(np.where(known, (near - mean[:, None]) ** 2, 0.0).sum(axis=1) / count)
        random = mean + DEVIATIONS * spread
        limit, limit_in_play = (np.maximum(factor * second, random) for factor in (FACTOR, FACTOR_IN_PLAY))
        gaps = (count >= _FEWEST) & (steps[some] > limit_in_play)
        columns = times[some], times[some + 1], limit.astype(np.int64), limit_in_play.astype(np.int64)
        found += np.column_stack(columns)[gaps].tolist()
    return found


def is_gap(quiet: list[int], in_play: bool) -> bool:
    """Return whether an interval from unexplained() is longer than the market's own pace explains."""
    start, end, limit, limit_in_play = quiet
    return end - start >= (max(SHORTEST_IN_PLAY_US, limit_in_play) if in_play else max(SHORTEST_US, limit))


def silent(times: Ints) -> list[list[int]]:
    """Return [from, to] of each interval between messages of five minutes or more."""
    where = np.flatnonzero(np.diff(times) >= SILENT_US)
    found: list[list[int]] = np.column_stack([times[where], times[where + 1]]).tolist()
    return found
