"""Ctrl-C and kill: they interrupt a process once, wherever it is, and a worker process prints nothing about it."""

import multiprocessing
import signal
import sys
from types import TracebackType
from typing import Any

from tasks.workflow.exit_codes import EXIT_INTERRUPTED


def make_sure_of_interrupts() -> None:
    """Treat kill like Ctrl-C, in worker processes too. An interrupt that comes where Python cannot raise it, as in the
    hooks around a fork, is raised again.
    """

    def interrupt(*_: Any) -> None:
        # Luigi also sends it to workers that are already clearing up after Ctrl-C
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    def raise_again(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        elif not _is_too_late(unraisable.exc_value):
            sys.__unraisablehook__(unraisable)

    def raise_printed_again(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):  # it came in a callback from a library's C code, which prints it
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        else:
            sys.__excepthook__(kind, error, trace)

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    # a shell has background processes ignore it
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook, sys.excepthook = raise_again, raise_printed_again


def _is_too_late(error: BaseException | None) -> bool:
    """Return whether Python reports that a signal came while another one was handled, which had set it to ignored."""
    return isinstance(error, OSError) and "ignored due to race condition" in str(error)


class QuietWorker:
    """What Luigi wraps around a task's process (task_process_context in luigi.cfg): an interrupt ends the process
    without a traceback, because the main process prints one line.
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
        # The task is over. A signal during the process's end, in multiprocessing's own code, just ends it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if error is None else signal.SIG_IGN)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
