"""What can go wrong, as one small tree. Each message says what, where, found and expected, and the next step."""


class ExportError(Exception):
    """Base of every error that is told to the operator in one line."""


class UsageError(ExportError):
    """The request cannot be carried out as it stands: a wrong option, or one that would mix data (exit code 2)."""


class DatabaseError(ExportError):
    """The database cannot be reached, refuses us, or lacks what is needed (exit code 35 or 30)."""


class UnreadableRow(ExportError):
    """A row in the database that no tick can be made of."""


class DamagedFile(ExportError):
    """A market file that is not what we wrote: unreadable, cut short, of another market, or with ticks missing."""
