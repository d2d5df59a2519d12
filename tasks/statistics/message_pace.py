"""The pace of a market's messages, and which intervals between them it does not explain."""

import numpy as np

from tasks.ticks.sort_keys import Ints

#: Intervals before and after one that say what is usual there. A market is quiet at night and hurries before the off.
_NEIGHBOURS = 20
#: With fewer of them nobody can say.
_FEWEST = 8
#: An interval is usual up to so many times the second longest of its neighbours (the longest may be a gap itself), ...
FACTOR, FACTOR_IN_PLAY = 3.0, 2.0
#: ... and up to so many standard deviations above their mean: a market whose messages come at random has long intervals
#: now and then, one that is stored every 180 seconds has not.
DEVIATIONS = 14.0
#: And up to so many µs in any case: what a busy market does not say for so long costs a backtest nothing.
SHORTEST_US, SHORTEST_IN_PLAY_US = 120_000_000, 20_000_000
#: All intervals from this on are kept: together they say when nothing at all was recorded.
SILENT_US = 300_000_000


def unexplained(times: Ints) -> list[list[int]]:
    """Return [from, to, limit, limit in play] of each interval between messages that is longer than the last of these.

    times: of the messages, ascending, µs since 1970; limits: what the intervals around it explain, µs.
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
    """Return whether an interval that unexplained() gives is longer than the market's own pace explains."""
    start, end, limit, limit_in_play = quiet
    return end - start >= (max(SHORTEST_IN_PLAY_US, limit_in_play) if in_play else max(SHORTEST_US, limit))


def silent(times: Ints) -> list[list[int]]:
    """Return [from, to] of each interval between messages of five minutes or more."""
    where = np.flatnonzero(np.diff(times) >= SILENT_US)
    found: list[list[int]] = np.column_stack([times[where], times[where + 1]]).tolist()
    return found
