"""Refresh a market file: merge its ticks with those in the database, slice by slice."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tasks.errors import UnreadableFile
from tasks.market_files import market_file
from tasks.ticks.tick_arrays import Ticks

_PIECE_ROWS = 500_000


class OlderTicks:
    """The ticks of an existing market file, taken in order of publish time (none where there is no file)."""

    def __init__(self, path: Path | None) -> None:
        self._batches = market_file.read(path) if path is not None else iter(())
        self._waiting = Ticks.empty()
        self._ended = False

    def take(self, before_us: int | None) -> tuple[Ticks, int | None]:
        """Return the next ticks with publish_time below before_us (all if None), and the bound up to which they reach.

        Returns whole messages, at most about 500,000 rows: if there are more before before_us, the bound is below it.
        """
        parts, rows = [self._waiting], len(self._waiting)
        while not self._ended and rows < _PIECE_ROWS and not self._reaches(parts[-1], before_us):
            batch = self._next()
            if batch is None:
                self._ended = True
            else:
                parts.append(batch)
                rows += len(batch)
        ticks = Ticks.concatenate(parts)
        bound = before_us
        if not self._ended and not self._reaches(ticks, before_us):
            bound = int(ticks.publish_time[-1])  # the last message may continue in the next batch
            if bound == int(ticks.publish_time[0]):  # one message larger than a piece: take all of it
                self._waiting = ticks
                return self._take_message(bound, before_us)
        cut = len(ticks) if bound is None else int(np.searchsorted(ticks.publish_time, bound))
        self._waiting = ticks[cut:]
        return ticks[:cut], bound

    def _take_message(self, moment: int, before_us: int | None) -> tuple[Ticks, int | None]:
        parts = [self._waiting]
        while not self._ended and int(parts[-1].publish_time[-1]) == moment:
            batch = self._next()
            self._ended = batch is None
            if batch is not None and len(batch):
                parts.append(batch)
        ticks = Ticks.concatenate(parts)
        cut = int(np.searchsorted(ticks.publish_time, moment + 1))
        self._waiting = ticks[cut:]
        return ticks[:cut], moment + 1

    def _next(self) -> Ticks | None:
        try:
            return next(self._batches, None)
        except OSError as error:
            raise UnreadableFile(f"{error.filename}: cannot be read: {error.strerror}. Nothing was changed") from None

    @staticmethod
    def _reaches(ticks: Ticks, before_us: int | None) -> bool:
        return before_us is not None and len(ticks) > 0 and int(ticks.publish_time[-1]) >= before_us


def merged(slice_: Ticks, older: OlderTicks, upper_us: int | None) -> Iterator[Ticks]:
    """Yield a slice of the database's ticks, merged with those of the file up to upper_us, in file order."""
    reached = False
    while not reached:
        old, bound = older.take(upper_us)
        reached = bound == upper_us
        mine = slice_ if bound is None else slice_[slice_.publish_time < bound]
        if bound is not None and len(mine) < len(slice_):
            slice_ = slice_[slice_.publish_time >= bound]
        else:
            slice_ = Ticks.empty()
        yield mine.merged_over(old)
