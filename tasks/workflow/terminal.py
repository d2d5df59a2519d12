"""The progress line at the bottom of a terminal; every other line goes above it.

All processes of a run share the line: the worker that counts draws it, and a process that logs removes it first. A
library that draws from a thread of its own (rich, tqdm) has one thread and one lock per process, and a fork loses the
thread and may leave the lock held.
"""

import contextlib
import functools
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence

from tqdm import tqdm

_WIDEST_BAR = 30
_NARROWEST_BAR = 8
#: A process that is killed while it draws never releases the lock; the others then continue without it.
_PATIENCE_S = 0.5
_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLOURS = {"WARNING": _YELLOW, "ERROR": _RED, "CRITICAL": _RED}


def is_live() -> bool:
    """Return whether standard error is a terminal that can erase a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def coloured(text: str, colour: str | None) -> str:
    """Return a text in a colour, where standard error shows colours and NO_COLOR (no-color.org) does not forbid it."""
    if colour is None or not is_live() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def coloured_level(name: str) -> str:
    """Return the name of a log level, coloured if it asks for attention."""
    return coloured(name, _COLOURS.get(name.strip()))


def fitted(percent: int, parts: Sequence[str], width: int) -> tuple[str, str, str]:
    """Return percentage, bar and words for a width in columns; what does not fit is left out, from the end."""
    share = f"{percent:3d}%"
    words = ", ".join(parts)
    left = list(parts)
    while left and len(share) + 1 + len(words) > width:
        left.pop()
        words = ", ".join(left)
    room = min(width - len(share) - len(words) - 4, _WIDEST_BAR)
    if room < _NARROWEST_BAR:
        return share, "", words
    bar = tqdm.format_meter(percent, 100, 0, ncols=room, ascii=not _speaks_unicode(), bar_format="{bar}")
    return share, bar, words


class LiveLine:
    """The line of a run. Created before the workers are forked, so that they share it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._lock = context.RLock()
        self._stands = context.Value("b", 0, lock=False)

    def draw(self, percent: int, parts: Sequence[str], last: bool = False) -> None:
        """Redraw the line for the current width of the terminal. last: leave it there."""
        width = shutil.get_terminal_size().columns
        if sys.stderr.isatty():
            with contextlib.suppress(OSError):
                width = os.get_terminal_size(sys.stderr.fileno()).columns or width
        # the last column stays free: some terminals wrap the line when it is filled
        share, bar, words = fitted(percent, parts, width - 1)
        text = f"{share} {coloured(bar, _GREEN)} {words}" if bar else f"{share} {words}"
        with self._alone():
            self._stands.value = not last
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
            sys.stderr.flush()

    @contextlib.contextmanager
    def taken_away(self) -> Iterator[None]:
        """Remove the line while another one is written; the next count draws it again."""
        with self._alone():
            if self._stands.value:
                self._stands.value = 0
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
            yield

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        taken = self._lock.acquire(timeout=_PATIENCE_S)
        try:
            yield
        finally:
            if taken:
                self._lock.release()


@functools.cache
def live_line() -> LiveLine:
    """Return the line of this process and of those forked from it since."""
    return LiveLine()


def _speaks_unicode() -> bool:
    return "utf" in (getattr(sys.stderr, "encoding", "") or "").lower()
