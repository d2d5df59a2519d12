"""The form of log lines: what an operator needs to know, an expected error in one line, a traceback only for a bug."""

import logging
import re

from tasks.errors import ExportError, is_no_thread, told
from tasks.workflow import terminal
from tasks.workflow.exit_codes import is_debug

_CHATTER = ("Informed scheduler that task", "Done scheduling tasks", "Running Worker with")
#: Luigi's summary of all tasks, and its text if none failed.
_SUMMARY, _ALL_WELL = "===== Luigi Execution Summary =====", "This progress looks :)"
_WORKER = re.compile(r"\[pid (\d+)\] Worker Worker\(.*?\) (running|done|failed) +(\w+)\((.*)\)")
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(@)")
_COMMON = re.compile(
    r"(?<![a-z_])(?:output_dir|format|export_metadata|offline|allow_other_database|include_markets_without_\w+"
    r"|refresh)="
    r"[^,]*(?:, )?"
)


class Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, without Luigi's lines about its own workings."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        return bool(super().filter(record)) and (is_debug() or not _is_chatter(str(record.msg), record.getMessage()))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record above the progress line."""
        with terminal.live_line().taken_away():
            super().emit(record)


def _is_chatter(template: str, message: str) -> bool:
    """Return whether it is one of Luigi's lines that are of no use to a user; failures have lines of their own."""
    began_or_ended = _WORKER.match(message)
    return (
        template.startswith(_CHATTER)
        or template.endswith("Shutting down Keep-Alive thread")
        or (began_or_ended is not None and began_or_ended[2] != "failed")
        or (_SUMMARY in message and _ALL_WELL in message)
    )


class OneLineFormatter(logging.Formatter):
    """Formats a record as one line, an expected error without its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record, without the password of an address in it."""
        return _PASSWORD.sub(r"\1***\2", self._text(record))

    def _text(self, record: logging.LogRecord) -> str:
        if is_debug():
            return super().format(record)
        plain = logging.makeLogRecord(record.__dict__)
        plain.levelname = terminal.coloured_level(f"{record.levelname:<7}")
        plain.msg, plain.args = _WORKER.sub(_task, record.getMessage()), ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (isinstance(error, (ExportError, OSError)) or is_no_thread(error)):
            plain.exc_info, plain.exc_text = None, None
            plain.msg = f"{plain.msg}: {told(error)}"
        return super().format(plain)


def _task(match: re.Match[str]) -> str:
    """Return Luigi's line about a task without the parameters that all tasks share."""
    pid, what, family, parameters = match.groups()
    return f"[{pid}] {what:<7} {family} {_COMMON.sub('', parameters)}".rstrip(" ,")
