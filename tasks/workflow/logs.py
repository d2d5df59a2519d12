"""How log lines look: what an operator wants to know, an expected error in one line, a traceback only for a fault of
ours.
"""

import errno
import logging
import os
import re

from tasks.errors import ExportError

#: Set by --debug: every error with its traceback, and all that Luigi says.
DEBUG_VARIABLE = "TICK_EXPORT_DEBUG"

#: What the operator can do about an error of the disk.
_ADVICE = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT),
    ". Make room on the disk of the output directory and start again: nothing that is finished is lost.",
)
_CHATTER = ("Informed scheduler that task", "Done scheduling tasks", "Running Worker with")
_WORKER = re.compile(r"\[pid (\d+)\] Worker Worker\(.*?\) (running|done|failed) +(\w+)\((.*)\)")
_COMMON = re.compile(
    r"(?<![a-z_])(?:output_dir|format|export_metadata|offline|allow_other_database|include_markets_without_ticks|refresh)="
    r"[^,]*(?:, )?"
)


class Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, without Luigi's lines about its own workings."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is to be written."""
        message = str(record.msg)
        chatter = message.startswith(_CHATTER) or message.endswith("Shutting down Keep-Alive thread")
        return bool(super().filter(record)) and (not chatter or DEBUG_VARIABLE in os.environ)


class OneLineFormatter(logging.Formatter):
    """Formats a record as one line, an expected error without its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        if DEBUG_VARIABLE in os.environ:
            return super().format(record)
        plain = logging.makeLogRecord(record.__dict__)
        plain.msg, plain.args = _WORKER.sub(_task, record.getMessage()), ()
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (ExportError, OSError)):
            plain.exc_info, plain.exc_text = None, None
            advice = _ADVICE.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            plain.msg = f"{plain.msg}: {error}{advice}"
        return super().format(plain)


def _task(match: re.Match[str]) -> str:
    """Return Luigi's line about a task without the parameters that all tasks share."""
    pid, what, family, parameters = match.groups()
    return f"[{pid}] {what:<7} {family} {_COMMON.sub('', parameters)}".rstrip(" ,")
