"""One run: what its tasks share is determined once, before the first one starts. Workers inherit it by fork."""

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
        """Return what a function finds out, asked the first time only."""
        key = find, given
        if key not in self._answers:
            self._answers[key] = find(*given)
            gc.freeze()  # a worker's search for garbage would copy every page that it shares with this process
        return cast(Answer, self._answers[key])

    def found(self, kind: type[Answer]) -> list[Answer]:
        """Return what has been found out so far, of a kind."""
        return [answer for answer in self._answers.values() if isinstance(answer, kind)]

    @property
    def wants_report(self) -> bool:
        """Whether a report may follow: nothing that was asked for leaves it out (ExportAll --report false)."""
        return all(getattr(task, "report", True) for task in self.asked_for.values())

    def at_end(self, remember: Callable[[], None]) -> None:
        """Have something done at the end of the run, by the process that it began in: not by who only looks."""
        self._at_end.append(remember)

    def end(self) -> None:
        """Do what is to be done at the end."""
        while self._at_end:
            self._at_end.pop()()


_current = Run()


def current() -> Run:
    """Return the run that this process works for."""
    return _current


def begin() -> Run:
    """Begin another run in this process: the next question is answered from database and disk as they are then."""
    global _current
    _current = Run()
    return _current
