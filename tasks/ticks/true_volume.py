"""The real cumulative volume of each traded price, restored from the running sums that the platform stores.

The platform adds each cumulative figure that Betfair sends to its sum (docs/streams.md). So the new figure is the new
sum minus the old one; the first one is the sum itself. After a full image of the market the sums start again: the sums
that had more than one figure all fall in one message.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from tasks.ticks.snapshots import Floats, Slots, Snapshots, padded
from tasks.ticks.sort_keys import Ints

#: The share of the sums that could fall which has to fall for the message to be a full image.
_SHARE_OF_IMAGE = 0.5
_HALF_A_PENNY = 0.005


@dataclasses.dataclass(frozen=True, eq=False)
class VolumeChanges:
    """v changed volumes, by message: arrays of length v.

    message: its position in Snapshots; slot: the position of the traded price in Slots; volume: the new cumulative
    volume, 0 if the price is gone; before: the previous one. images: the messages at which the sums started again.
    """

    message: Ints
    slot: Ints
    volume: Floats
    before: Floats
    images: frozenset[int]


class TrueVolume:
    """Follows the traded rows of a market, chunk by chunk.

    volume: shape (k,), the cumulative volume of each traded price after the last chunk.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._sums = np.zeros(0)
        self.volume = np.zeros(0)

    def changes(self, chunk: Snapshots) -> VolumeChanges:
        """Return what changes with each message of the next chunk."""
        sums = np.concatenate([padded(self._sums, chunk.traded)[None], chunk.traded])
        self.volume = padded(self.volume, chunk.traded).copy()
        new, old = sums[1:], sums[:-1]
        message, slot = np.nonzero(new != old)
        volume = _told(new[message, slot], old[message, slot])
        images: list[int] = []
        while True:
            before = self._before(message, slot, volume)
            after = images[-1] if images else -1
            # of a price that had been told once only the sum need not fall: it grows by next to nothing then
            is_restart = (volume < before / 2) & (old[message, slot] < before + _HALF_A_PENNY)
            is_restart |= new[message, slot] < old[message, slot]
            suspects = np.unique(message[is_restart & (new[message, slot] > 0) & (message > after)]).tolist()
            found = next((n for n in suspects if self._is_image(message, slot, volume, n, old[n], new[n])), None)
            if found is None:
                break
            images.append(found)
            present = np.flatnonzero((new[found] > 0) | (old[found] > 0))
            start, end = np.searchsorted(message, [found, found + 1])
            message = np.concatenate([message[:start], np.full(len(present), found), message[end:]])
            slot = np.concatenate([slot[:start], present, slot[end:]])
            volume = np.concatenate([volume[:start], new[found, present], volume[end:]])
        self._sums = sums[-1]
        last = np.full(len(self.volume), -1)
        last[slot] = np.arange(len(slot))  # the last assignment of a slot stays
        changed = last >= 0
        self.volume[changed] = volume[last[changed]]
        return VolumeChanges(message, slot, volume, before, frozenset(images))

    def _before(self, message: Ints, slot: Ints, volume: Floats) -> Floats:
        """Return the volume that each slot had before each of its changes."""
        order = np.lexsort((message, slot))
        before = np.empty(len(slot))
        before[order[1:]] = volume[order[:-1]]
        first = np.ones(len(slot), bool)
        first[order[1:]] = slot[order[1:]] != slot[order[:-1]]
        before[first] = self.volume[slot[first]]
        return before

    def _is_image(self, message: Ints, slot: Ints, volume: Floats, number: int, old: Floats, new: Floats) -> bool:
        """Return whether the sums start again at a message: most of the sums that had more than one figure
        fall, if any.
        """
        volume_then = self.volume.copy()
        earlier = message < number
        volume_then[slot[earlier]] = volume[earlier]
        added_up = (old > volume_then + _HALF_A_PENNY) & (new > 0)
        fell = added_up & (new < old)
        return bool(np.count_nonzero(fell) >= _SHARE_OF_IMAGE * np.count_nonzero(added_up))


def _told(new: Floats, old: Floats) -> Floats:
    """Return the cumulative figure that turned an old sum into a new one. Both are rounded to pence."""
    return np.where(new > old, np.round(new - old, 2), new)


def falls(changes: VolumeChanges) -> npt.NDArray[np.bool_]:
    """Return which changes lower a volume by more than rounding."""
    return changes.volume < changes.before - _HALF_A_PENNY
