"""Ctrl-C and kill: they strike a process once, wherever it is, and a worker process says nothing of it."""

import multiprocessing
import signal
import sys
from types import TracebackType
from typing import Any

from tasks.workflow.exit_codes import EXIT_INTERRUPTED


def make_sure_of_interrupts() -> None:
    """Take kill as Ctrl-C, in worker processes too; one that struck where Python cannot raise it, as in the hooks
    around a fork, is raised again.
    """

    def interrupt(*_: Any) -> None:
        # Luigi sends it to workers that are clearing up after Ctrl-C already
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    def raise_again(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        elif not _is_too_late(unraisable.exc_value):
            sys.__unraisablehook__(unraisable)

    def raise_printed_again(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):  # it struck in what a library's C code calls, and that prints it
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        else:
            sys.__excepthook__(kind, error, trace)

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    # a shell has it ignored in what runs in its background
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook, sys.excepthook = raise_again, raise_printed_again


def _is_too_late(error: BaseException | None) -> bool:
    """Return whether Python says that a signal came while another was handled, which had it ignored from then on."""
    return isinstance(error, OSError) and "ignored due to race condition" in str(error)


class QuietWorker:
    """What Luigi wraps around a task's process (task_process_context in luigi.cfg): an interrupt ends it without a
    traceback, which the main process has a line for.
    """

    def __init__(self, task_process: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if multiprocessing.parent_process() is None:
            return
        # The task is over. A signal that strikes while the process ends, in multiprocessing's own code, just ends it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if error is None else signal.SIG_IGN)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
