"""How a process of the pipeline ends: its exit codes, and the one line before a wrong end."""

import os
import sys
import traceback
from typing import NoReturn

from tasks.errors import EXIT_FAILED, EXIT_UNDETERMINED, EXIT_UNEXPECTED, EXIT_USAGE

__all__ = ["EXIT_FAILED", "EXIT_UNDETERMINED", "EXIT_UNEXPECTED", "EXIT_USAGE"]

EXIT_ALREADY_RUNNING = 10
EXIT_MISSING_DATA = 20
EXIT_NOT_RUN = 25
EXIT_INTERRUPTED = 130

#: Set by --debug: every error with its traceback, and all that Luigi says.
DEBUG_VARIABLE = "TICK_EXPORT_DEBUG"


def is_debug() -> bool:
    """Tell whether --debug was given."""
    return DEBUG_VARIABLE in os.environ


def stop(message: str, code: int) -> NoReturn:
    """End the process with one line on standard error; with --debug, after the traceback of the error being handled."""
    if is_debug() and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)
