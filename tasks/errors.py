"""All errors, as one tree. Each message says what, where, found and expected, and the next step.

ExportError                 told to the operator in one line; exit code 30 unless it says otherwise
├── UsageError              the request cannot be carried out as it stands (2)
│   ├── NotAnExport         the output directory does not hold what its index promises
│   └── UnknownFormat       an unknown format of market files
├── DatabaseError           the database cannot be reached, refuses us, or lacks what is needed (35)
│   ├── TableGone           a table has been dropped since it was listed
│   └── EndedByStandby      a hot standby has ended a query or a session; the next run is likely to get through (30)
├── NoScheduler             the luigid of a run does not answer, or something else does (35)
├── StoreError              an object store cannot be reached, refuses us, or does not hold what it should (35)
├── UnreadableRow           a row in the database that is not a valid tick
├── UnreadableMarket        a market with such a row
├── UnreadableIndex         index.csv is not one that BuildIndex wrote
├── DamagedLedger           the ledger is not as the pipeline wrote it
├── DamagedFile             a file whose content is wrong
├── UnreadableFile          a file that cannot be read now, whatever its content
│   └── NewerVersion        a file that a newer version of the pipeline has written; left alone
├── NoRoom                  the disk has no room for what would be written
├── MarketFailed            a market could not be exported
├── SomeMarketsFailed       everything is done except some markets
├── SomeDaysFailed          everything is done except some days
├── ClusterError            a Spark cluster cannot be used, or does not answer (35)
├── RowsDoNotAddUp          what was written is not what was read
├── ArchiveFailed           what was written is not what was to be archived
├── NotVerified             the export differs from what it should be
└── ServerFailed            the PostgreSQL of demo and tests cannot be found or does not start (40)

An error of the operating system stays the OSError that it is. Any other exception is a bug in the pipeline and is
shown with its traceback. The numbers are exit codes of a run that ends before its first task; a failed task is 30.
"""

import errno

EXIT_USAGE = 2
EXIT_FAILED = 30
EXIT_UNDETERMINED = 35
EXIT_UNEXPECTED = 40


class ExportError(Exception):
    """Base of every error that is told to the operator in one line.

    exit_code: of a run that ends with it before its first task; a task that fails ends its run with 30.
    """

    exit_code = EXIT_FAILED


class UsageError(ExportError):
    """The request cannot be carried out as it stands: a wrong option, or one that would mix data."""

    exit_code = EXIT_USAGE


class NotAnExport(UsageError):
    """The output directory does not hold what its index promises."""


class UnknownFormat(UsageError):
    """An unknown format of market files."""


class DatabaseError(ExportError):
    """The database cannot be reached, refuses us, or lacks what is needed."""

    exit_code = EXIT_UNDETERMINED


class TableGone(DatabaseError):
    """A table has been dropped since it was listed: the platform drops a partition a day."""


class EndedByStandby(DatabaseError):
    """A hot standby has ended a query or a session, in favour of what its primary has changed.

    Nothing is wrong with connection or settings, so it is a failure like one of the disk, wherever it strikes.
    """

    exit_code = EXIT_FAILED


class NoScheduler(ExportError):
    """The luigid of a run does not answer, or something else does."""

    exit_code = EXIT_UNDETERMINED


class StoreError(ExportError):
    """A place that exports are published to cannot be reached, refuses us, or does not hold what it should."""

    exit_code = EXIT_UNDETERMINED


class UnreadableRow(ExportError):
    """A row in the database that is not a valid tick."""


class UnreadableMarket(ExportError):
    """A market with a row that is not a valid tick."""

    def __init__(self, market_id: str, reason: str) -> None:
        super().__init__(f"Market {market_id}: {reason}")
        self.market_id = market_id


class UnreadableIndex(ExportError):
    """index.csv is not one that BuildIndex wrote."""


class DamagedLedger(ExportError):
    """The ledger is not as the pipeline wrote it."""


class DamagedFile(ExportError):
    """A market file whose content is wrong: it cannot be decoded, is cut short, out of order or another market's."""


class UnreadableFile(ExportError):
    """A market file that the operating system does not let us read: no permission, too many open files, an I/O error.

    It says nothing of the content, so such a file is never touched.
    """


class NewerVersion(UnreadableFile, OSError):
    """A file that a newer version of the pipeline has written. Like one that the system does not let us read, it is
    left alone: it may be sound.
    """

    def __init__(self, path: object, found: str, known: str) -> None:
        super().__init__(f"{path}: {found}; this version of the pipeline knows {known}. {self.NEXT}")
        self.found, self.known = found, known
        self.filename, self.strerror = str(path), f"{found}; this version of the pipeline knows {known}. {self.NEXT}"

    NEXT = "Update the pipeline: the file is left alone"

    def __str__(self) -> str:
        return str(self.args[0])


class NoRoom(ExportError):
    """The disk has no room for what would be written."""


class MarketFailed(ExportError):
    """A market could not be exported."""


class SomeMarketsFailed(ExportError):
    """Everything is done except some markets."""


class SomeDaysFailed(ExportError):
    """Everything is done except some days."""


class ClusterError(ExportError):
    """A Spark cluster cannot be used, or does not answer."""

    exit_code = EXIT_UNDETERMINED


class RowsDoNotAddUp(ExportError):
    """What was written is not what was read."""


class ArchiveFailed(ExportError):
    """What was written is not what was to be archived."""


class NotVerified(ExportError):
    """The export differs from what it should be."""


class ServerFailed(ExportError):
    """The PostgreSQL of demo and tests cannot be found or does not start."""

    exit_code = EXIT_UNEXPECTED


def is_full_disk(error: BaseException) -> bool:
    """Return whether an error is the operating system's for a full disk, or for a used-up quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_no_thread(error: BaseException | None) -> bool:
    """Return whether an error is Python's for a limit of processes or threads."""
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


def told(error: BaseException) -> str:
    """Return the one-line message for an expected error, with the next step."""
    if is_no_thread(error):
        return (
            "The system does not let this user start more threads. Raise the limit (ulimit -u, or pids.max of the"
            " container) or use fewer --workers, and start again. Nothing that is finished is lost."
        )
    if is_full_disk(error):
        return (
            f"{error}. Make room on the disk of the output directory and start again. Nothing that is finished is lost."
        )
    return str(error)
