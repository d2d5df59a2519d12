"""How log lines look: what a user can mend is told in one line, a traceback only where something is wrong with the code."""

import logging
import os

from tasks.ticks.errors import ExportError

#: Set by --debug: every error with its traceback.
DEBUG_VARIABLE = "TICK_EXPORT_DEBUG"


class OneLineFormatter(logging.Formatter):
    """Formats expected errors without their traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; for an expected error its message takes the traceback's place."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, (ExportError, OSError)) or os.environ.get(DEBUG_VARIABLE):
            return super().format(record)
        plain = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
        return f"{super().format(plain)}: {error}"
