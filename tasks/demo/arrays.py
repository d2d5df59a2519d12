"""Arrays of unequal groups, and random numbers that depend only on their seed, topic and keys."""

import zlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def first_of(counts: Ints) -> Ints:
    """Return where each group starts if groups of these sizes follow one another."""
    firsts: Ints = np.cumsum(counts) - counts
    return firsts


def members(counts: Ints) -> tuple[Ints, Ints]:
    """Return, for every element of groups of so many elements, its group and its number (0, 1, 2 …) within it."""
    group: Ints = np.repeat(np.arange(len(counts)), counts)
    return group, np.arange(len(group)) - first_of(counts)[group]


def running_sum(values: Ints, group: Ints) -> Ints:
    """Return the sum of each value and those before it in its group. Groups stand one after the other."""
    total: Ints = np.cumsum(values)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    before = (total - values)[starts]
    return total - np.repeat(before, np.diff(starts, append=len(group)))


def within(times: Ints, lower: int | None, upper: int | None) -> Bools:
    """Return which times are in [lower, upper); None: no bound."""
    chosen = np.ones(len(times), bool)
    if lower is not None:
        chosen &= times >= lower
    if upper is not None:
        chosen &= times < upper
    return chosen


def noise(seed: int, topic: str, *keys: Ints) -> Floats:
    """Return evenly spread numbers in [0, 1), one for each combination of the arrays' elements.

    The same seed, topic and key always give the same number, so that any piece of a recording can be made without the
    rest. The mixing is that of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
    """
    bits = keys[0].astype(np.uint64) ^ np.uint64((seed * 0x9E3779B97F4A7C15 + zlib.crc32(topic.encode())) % (1 << 64))
    for key in (*keys[1:], None):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
        if key is not None:
            bits = bits ^ key.astype(np.uint64)
    spread: Floats = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return spread


def between(smallest: float, largest: float, spread: Floats) -> Floats:
    """Return amounts from smallest to largest, each order of magnitude as likely as another, for spread in [0, 1)."""
    amounts: Floats = smallest * np.exp(spread * np.log(largest / smallest))
    return amounts
