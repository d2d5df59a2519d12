"""Progress of the whole run: counters that all worker processes share, and the progress line."""

import contextlib
import logging
import multiprocessing
import time
from collections.abc import Iterator

from tqdm import tqdm

from tasks.ticks.value_text import counted
from tasks.workflow import terminal

_log = logging.getLogger("tick_export.progress")

_TERMINAL_S = 0.3
_PLAIN_S = 10.0
#: A process that is killed while it counts never releases the lock; the others then do without it.
_PATIENCE_S = 5.0


class Progress:
    """Counts markets and ticks in all processes that are forked from the one that created it.

    On a terminal it keeps one line up to date; elsewhere it logs a plain line every ten seconds. There is no thread:
    the process that counts draws the line.
    """

    #: Whether the line stays on the terminal at the end.
    stays = True

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._numbers = context.RawArray("d", 5)  # markets, ticks, both expected, last drawn
        self._lock, self._is_lock_lost = context.RLock(), context.RawValue("b", 0)
        self._started = time.monotonic()
        self._terminal = terminal.is_live()
        terminal.live_line()  # before the workers are forked

    def expect(self, markets: int, ticks: float) -> None:
        """Add to how much there is to do."""
        self._numbers[2] += markets
        self._numbers[3] += ticks

    def count(self, markets: int, ticks: int) -> None:
        """Count finished markets and ticks, and show it from time to time."""
        with self._alone():
            self._numbers[0] += markets
            self._numbers[1] += ticks
            now = time.monotonic()
            if not self.is_done and now - max(self._numbers[4], self._started) < self._pause_s:
                return
            self._numbers[4] = now
            self._show()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from counting. Readers do without it: nobody must wait for a dead process."""
        taken = not self._is_lock_lost.value and self._lock.acquire(timeout=_PATIENCE_S)
        self._is_lock_lost.value = not taken
        try:
            yield
        finally:
            if taken:
                self._lock.release()

    @property
    def markets(self) -> int:
        """The markets (parts) counted so far."""
        return int(self._numbers[0])

    @property
    def ticks(self) -> int:
        """The ticks (rows, bytes) counted so far."""
        return int(self._numbers[1])

    @property
    def is_done(self) -> bool:
        """Whether everything that was expected has been counted."""
        return bool(self._numbers[0] >= self._numbers[2])

    @property
    def _pause_s(self) -> float:
        return _TERMINAL_S if self._terminal else _PLAIN_S

    @property
    def text(self) -> str:
        """The state in words: 12 of 196 markets done, 1,200,000 ticks read, 500,000 ticks/s."""
        return ", ".join(self._parts())

    def _parts(self) -> list[str]:
        markets, ticks, all_markets, all_ticks, _ = self._numbers[:]
        return [
            f"{markets:,.0f} of {counted(int(all_markets), 'market')} done",
            f"{counted(int(ticks), 'tick')} read",
            *self._pace(ticks, all_ticks, "ticks/s", 1),
        ]

    def _pace(self, done: float, expected: float, unit: str, per: float) -> list[str]:
        """Return the speed and, until the end, the remaining time."""
        rate = done / max(time.monotonic() - self._started, 1e-3)
        pace = [f"{rate / per:,.0f} {unit}"]
        if rate and not self.is_done:
            pace.append(f"about {tqdm.format_interval(max(expected - done, 0) / rate)} left")
        return pace

    @property
    def percent(self) -> int:
        """Share of the work that is done, 0 to 100, by ticks where their number is known; 100 only at the end."""
        markets, ticks, all_markets, all_ticks, _ = self._numbers[:]
        if self.is_done:
            return 100
        share = ticks / all_ticks if all_ticks else markets / max(all_markets, 1.0)
        return int(min(100 * share, 99))

    def _show(self) -> None:
        if self._terminal and self.is_done and not self.stays:
            with terminal.live_line().taken_away():
                pass
        elif self._terminal:
            terminal.live_line().draw(self.percent, self._parts(), last=self.is_done)
        elif not self.is_done:  # the end has a line of its own
            _log.info("%s", self.text)


class PartProgress(Progress):
    """Counts the parts of one step of a run, and the ticks read for them, if any. Its line disappears at the end.

    thing: the name of a part, in the singular; done: what is done to it, such as "written".
    """

    stays = False

    def __init__(self, thing: str, done: str, parts: int, ticks: float) -> None:
        super().__init__()
        self._thing, self._done = thing, done
        self.expect(parts, ticks)

    def _parts(self) -> list[str]:
        parts, ticks, expected, expected_ticks, _ = self._numbers[:]
        text = f"{parts:,.0f} of {counted(int(expected), self._thing)} {self._done}"
        if not ticks:
            return [text]
        return [text, f"{counted(int(ticks), 'tick')} read", *self._pace(ticks, expected_ticks, "ticks/s", 1)]

    @property
    def percent(self) -> int:
        """Share of the parts or of the ticks, whichever is more; 100 only at the end."""
        parts, _, expected, _, _ = self._numbers[:]
        return 100 if self.is_done else max(super().percent, int(min(100 * parts / max(expected, 1.0), 99)))


class RowProgress(Progress):
    """Counts the rows and slices of one consolidation."""

    def __init__(self, expected_rows: float) -> None:
        super().__init__()
        self.expect(1, expected_rows)
        self._slices = 0

    def count_slice(self, rows: int) -> None:
        """Count a finished slice of so many rows."""
        self._slices += 1
        self.count(0, rows)

    def _parts(self) -> list[str]:
        rows, expected = self._numbers[1], self._numbers[3]
        if self.is_done:
            text = counted(int(rows), "row")
        else:
            text = f"{rows:,.0f} of about {counted(int(max(expected, rows)), 'row')}"
        return [text, counted(self._slices, "slice"), *self._pace(rows, expected, "rows/s", 1)]


class DayProgress(Progress):
    """Counts days and the rows of each."""

    def __init__(self, days: int, expected_rows: float) -> None:
        super().__init__()
        self.expect(days, expected_rows)

    def _parts(self) -> list[str]:
        days, rows, all_days, expected, _ = self._numbers[:]
        text = f"{days:,.0f} of {counted(int(all_days), 'day')} done"
        return [text, counted(int(rows), "row"), *self._pace(rows, expected, "rows/s", 1)]


class ByteProgress(Progress):
    """Counts the bytes of an archive: each is written once and read back once."""

    def __init__(self, expected_bytes: int) -> None:
        super().__init__()
        self.expect(1, 2 * expected_bytes)

    def _parts(self) -> list[str]:
        done, expected = self._numbers[1], max(self._numbers[3], 1)
        what, part = ("written", done) if done * 2 <= expected else ("read back", done - expected / 2)
        return [f"{part / 1e6:,.0f} of {expected / 2e6:,.0f} MB {what}", *self._pace(done, expected, "MB/s", 1e6)]


class TransferProgress(Progress):
    """Counts the bytes that have arrived at the other end."""

    def __init__(self, expected_bytes: int) -> None:
        super().__init__()
        self.expect(1, expected_bytes)

    def count_bytes(self, size_bytes: int) -> None:
        """Count bytes that have arrived."""
        self.count(0, size_bytes)

    def _parts(self) -> list[str]:
        done, expected = self._numbers[1], max(self._numbers[3], 1)
        return [f"{done / 1e6:,.0f} of {expected / 1e6:,.0f} MB in place", *self._pace(done, expected, "MB/s", 1e6)]
