"""One run: what its tasks share is determined once, before the first one starts. Worker processes inherit it by
fork.
"""

import gc
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

Answer = TypeVar("Answer")


class Run:
    """A run, from its start to its end. started_s: seconds since 1970; asked_for: the tasks that it is for, by id."""

    def __init__(self) -> None:
        self.started_s = time.time()
        self.asked_for: dict[str, Any] = {}
        self._answers: dict[Any, Any] = {}
        self._at_end: list[Callable[[], None]] = []

    def once(self, find: Callable[..., Answer], *given: Any) -> Answer:
        """Return the result of a function, which is called the first time only."""
        key = find, given
        if key not in self._answers:
            self._answers[key] = find(*given)
            gc.freeze()  # garbage collection in a worker would copy every page that it shares with this process
        return cast(Answer, self._answers[key])

    def found(self, kind: type[Answer]) -> list[Answer]:
        """Return the results of a type so far."""
        return [answer for answer in self._answers.values() if isinstance(answer, kind)]

    @property
    def wants_report(self) -> bool:
        """Whether a report may follow: no requested task leaves it out (ExportAll --report false)."""
        return all(getattr(task, "report", True) for task in self.asked_for.values())

    @property
    def makes_report(self) -> bool:
        """Whether a task that was asked for has report.html made, too."""
        return any(getattr(task, "report", False) for task in self.asked_for.values())

    def at_end(self, remember: Callable[[], None]) -> None:
        """Register a function to be called at the end of the run, in the process that the run began in."""
        self._at_end.append(remember)

    def end(self) -> None:
        """Call the registered functions."""
        while self._at_end:
            self._at_end.pop()()


_current = Run()


def current() -> Run:
    """Return the run of this process."""
    return _current


def begin() -> Run:
    """Begin another run in this process: from now on, database and disk are looked at again."""
    global _current
    _current = Run()
    return _current
