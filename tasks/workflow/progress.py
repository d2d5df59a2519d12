"""How far the whole run is: counters that all worker processes share, and the line that shows them."""

import logging
import multiprocessing
import sys
import time

from tqdm import tqdm

_log = logging.getLogger("tick_export.progress")

_TERMINAL_S = 0.3
_PLAIN_S = 10.0


class Progress:
    """Counts markets and ticks over all processes that are forked from the one that made it.

    On a terminal it draws a bar, elsewhere a plain log line every ten seconds. Whoever counts, draws: no thread.
    """

    def __init__(self) -> None:
        self._numbers = multiprocessing.get_context("fork").Array("d", 5)  # markets, ticks, both expected, last drawn
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def expect(self, markets: int, ticks: float) -> None:
        """Say how much there is to do."""
        self._numbers[2] += markets
        self._numbers[3] += ticks

    def count(self, markets: int, ticks: int) -> None:
        """Count finished markets and ticks, and show it from time to time."""
        with self._numbers.get_lock():
            self._numbers[0] += markets
            self._numbers[1] += ticks
            now = time.monotonic()
            done = self._numbers[0] >= self._numbers[2]
            if now - self._numbers[4] < (_TERMINAL_S if self._terminal else _PLAIN_S) and not done:
                return
            self._numbers[4] = now
            self._show(done)

    @property
    def text(self) -> str:
        """The state in words: 12 of 196 markets, 1,200,000 ticks, 500,000 ticks/s."""
        markets, ticks, all_markets, all_ticks, _ = self._numbers[:]
        elapsed = max(time.monotonic() - self._started, 1e-3)
        rate = ticks / elapsed
        left = ""
        if markets < all_markets and rate:
            left = f", about {tqdm.format_interval(max(all_ticks - ticks, 0) / rate)} left"
        return f"{markets:,.0f} of {all_markets:,.0f} markets, {ticks:,.0f} ticks, {rate:,.0f} ticks/s{left}"

    @property
    def percent(self) -> int:
        """Share of the work that is done, 0 to 100, by ticks where their number is known."""
        markets, ticks, all_markets, all_ticks, _ = self._numbers[:]
        share = min(ticks / all_ticks, 1.0) if all_ticks else markets / max(all_markets, 1.0)
        return int(100 * min(share, 1.0))

    def _show(self, done: bool) -> None:
        if self._terminal:
            bar = tqdm.format_meter(
                self.percent, 100, time.monotonic() - self._started, ncols=40, bar_format="{percentage:3.0f}%|{bar}|"
            )
            sys.stderr.write(f"\r\x1b[K{bar} {self.text}" + ("\n" if done else ""))
            sys.stderr.flush()
        else:
            _log.info("%s", self.text)


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

    @property
    def text(self) -> str:
        """The state in words: 1,200,000 of about 2,400,000 rows, 8 slices, 900,000 rows/s, about 00:01 left."""
        rows, expected = self._numbers[1], self._numbers[3]
        rate = rows / max(time.monotonic() - self._started, 1e-3)
        left = f", about {tqdm.format_interval(max(expected - rows, 0) / rate)} left" if rate else ""
        return (
            f"{rows:,.0f} of about {max(expected, rows):,.0f} rows, {self._slices:,} slices, {rate:,.0f} rows/s{left}"
        )


class ByteProgress(Progress):
    """Counts the bytes of an archive: each is written once and read back once."""

    def __init__(self, expected_bytes: int) -> None:
        super().__init__()
        self.expect(1, 2 * expected_bytes)

    @property
    def text(self) -> str:
        """The state in words: 1,200 of 2,400 MB written, 300 MB/s, about 00:04 left."""
        done, expected = self._numbers[1], max(self._numbers[3], 1)
        rate = done / max(time.monotonic() - self._started, 1e-3)
        left = f", about {tqdm.format_interval(max(expected - done, 0) / rate)} left" if rate else ""
        what, part = ("written", done) if done * 2 <= expected else ("read back", done - expected / 2)
        return f"{part / 1e6:,.0f} of {expected / 2e6:,.0f} MB {what}, {rate / 1e6:,.0f} MB/s{left}"
