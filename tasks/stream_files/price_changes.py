"""Find what changed between full images, keyed by price as in Betfair's stream, with whole arrays at once."""

import dataclasses

import numpy as np
import numpy.typing as npt

from tasks.ticks.snapshots import LEVELS, Floats, Snapshots, padded
from tasks.ticks.sort_keys import Ints

_EARLIER = np.tri(LEVELS, k=-1, dtype=bool)


@dataclasses.dataclass(frozen=True, eq=False)
class PriceChanges:
    """c changed prices of ladders, by message, then runner, then side: arrays of length c.

    message: its position in Snapshots; runner: its position; side: 0 BACK, 1 LAY; size: the new size, 0 if the price
    was removed.
    """

    message: Ints
    runner: Ints
    side: Ints
    price: Floats
    size: Floats


def ladder_changes(chunk: Snapshots, price_before: Floats, size_before: Floats) -> PriceChanges:
    """Return what changes with each message of a chunk. price_before, size_before: shape (runners, 2, 8), of the
    message before the chunk.

    A price that is on two levels (a mixed snapshot) counts once, with the size of the better level.
    """
    price = np.concatenate([padded(price_before, chunk.price)[None], chunk.price])
    size = np.concatenate([padded(size_before, chunk.size)[None], chunk.size])
    differs = ((price[1:] != price[:-1]) | (size[1:] != size[:-1])).any(axis=3)
    message, runner, side = np.nonzero(differs)
    new_price, new_size = price[message + 1, runner, side], size[message + 1, runner, side]
    old_price, old_size = price[message, runner, side], size[message, runner, side]
    new, old = _counts(new_price), _counts(old_price)
    same_price = new_price[:, :, None] == old_price[:, None, :]
    stays = (same_price & (new_size[:, :, None] == old_size[:, None, :]) & old[:, None, :]).any(axis=2)
    gone = old & ~(same_price & new[:, :, None]).any(axis=1)
    comes = new & ~stays
    group, place = np.nonzero(np.concatenate([gone, comes], axis=1))
    all_price = np.concatenate([old_price, new_price], axis=1)
    all_size = np.concatenate([np.zeros_like(old_size), new_size], axis=1)
    return PriceChanges(message[group], runner[group], side[group], all_price[group, place], all_size[group, place])


def _counts(price: Floats) -> npt.NDArray[np.bool_]:
    """Return which levels have a price that is not already on a better level."""
    twice = ((price[:, :, None] == price[:, None, :]) & _EARLIER).any(axis=2)
    return np.asarray((price > 0) & ~twice, np.bool_)
