"""How a process of the pipeline ends: its exit codes, and the one-line error message."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from tasks.errors import (
    EXIT_FAILED,
    EXIT_UNDETERMINED,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    ExportError,
    is_full_disk,
    is_no_thread,
    told,
)
from tasks.workflow import terminal

__all__ = ["EXIT_FAILED", "EXIT_UNDETERMINED", "EXIT_UNEXPECTED", "EXIT_USAGE"]

EXIT_ALREADY_RUNNING = 10
EXIT_MISSING_DATA = 20
EXIT_NOT_RUN = 25
EXIT_INTERRUPTED = 130

#: Set by --debug: every error with its traceback, and all of Luigi's log.
DEBUG_VARIABLE = "TICK_EXPORT_DEBUG"


def is_debug() -> bool:
    """Return whether --debug was given."""
    return DEBUG_VARIABLE in os.environ


def stop(message: str, code: int) -> NoReturn:
    """End the process with one line on standard error; with --debug, after the traceback of the error being handled."""
    with terminal.live_line().taken_away():
        if is_debug() and sys.exc_info()[0] is not None:
            traceback.print_exc()
        print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def determining() -> Iterator[None]:
    """Turn an error before the first task starts into one line and its exit code."""
    try:
        yield
    except ExportError as error:
        stop(told(error), error.exit_code)
    except RuntimeError as error:
        if not is_no_thread(error):
            raise
        stop(told(error), EXIT_UNDETERMINED)
    except OSError as error:
        stop(
            (
                told(error)
                if is_full_disk(error)
                else f"{error.filename or 'The disk'}: {error.strerror or error}. Fix the cause and start again."
            ),
            EXIT_FAILED,
        )
