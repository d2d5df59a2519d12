"""The facts about a market file that the index has, and how they are counted while it is written."""

import hashlib
import struct
from typing import NamedTuple, Self

import numpy as np

from tasks.ticks.tick_arrays import Ticks

_FACTS, _NO_TIME = struct.Struct("5q32s"), -1 << 63


class FileFacts(NamedTuple):
    """The facts about a market file. Times in microseconds since 1970, None if there are no ticks."""

    first_tick: int | None
    last_tick: int | None
    tick_records: int
    messages: int
    size_bytes: int
    checksum: str

    def packed(self) -> bytes:
        """Return them as bytes. Raises ValueError if they cannot be those of a file."""
        first, last, *numbers, checksum = self
        if len(digest := bytes.fromhex(checksum)) != hashlib.sha256().digest_size:
            raise ValueError(f"{checksum!r} is not a SHA-256")
        try:
            return _FACTS.pack(
                _NO_TIME if first is None else first, _NO_TIME if last is None else last, *numbers, digest
            )
        except struct.error:
            raise ValueError(f"{self} has a number of more than 64 bits") from None

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """Return what was packed."""
        first, last, tick_records, messages, size_bytes, digest = _FACTS.unpack(data)
        return cls(
            None if first == _NO_TIME else first,
            None if last == _NO_TIME else last,
            tick_records,
            messages,
            size_bytes,
            digest.hex(),
        )


class TickCounter:
    """Counts ticks that come in order of publish time."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.tick_records = 0
        self.messages = 0

    def add(self, ticks: Ticks) -> None:
        """Count ticks; raise ValueError if their publish_time is before the last one's."""
        if not len(ticks):
            return
        times = ticks.publish_time
        steps = np.diff(times)
        if bool((steps < 0).any()) or (self.last is not None and int(times[0]) < self.last):
            raise ValueError("publish_time goes back")
        self.messages += int(np.count_nonzero(steps)) + (self.last is None or int(times[0]) != self.last)
        self.first = int(times[0]) if self.first is None else self.first
        self.last = int(times[-1])
        self.tick_records += len(ticks)

    def facts(self, size_bytes: int, checksum: str) -> FileFacts:
        """Return the counts as facts of a file of that size and checksum."""
        return FileFacts(self.first, self.last, self.tick_records, self.messages, size_bytes, checksum)
