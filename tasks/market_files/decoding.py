"""Tell wrong content of a market file from errors that only keep us from reading it."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import DamagedFile, NewerVersion


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn a decoder's error about a file's content into DamagedFile.

    Other errors stay an OSError, because the file may be sound: errors of the operating system (no permission, too many
    open files, an I/O error), which have an errno, unlike a decoder's; and a lack of memory.
    """
    try:
        yield
    except (DamagedFile, NewerVersion):
        raise
    except MemoryError:
        raise OSError(errno.ENOMEM, "not enough memory to read it", str(path)) from None
    except OSError as error:
        if error.errno is None:
            raise _damaged(path, error) from None
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from None
    except Exception as error:  # pyarrow lets through what its decoders raise: UnicodeDecodeError, OverflowError …
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DamagedFile:
    what = next(iter(str(error).splitlines()), type(error).__name__)
    return DamagedFile(f"{path}: not readable as {path.suffix.removeprefix('.')}: {what}")


def require_regular(path: Path) -> None:
    """Raise DamagedFile if a directory, a pipe or a dangling link has a market file's name.

    Opening a pipe would wait for a process that writes into it.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP) or not os.path.islink(path):
            raise
        raise DamagedFile(f"{path}: a dangling link") from None
    if not stat.S_ISREG(mode):
        raise DamagedFile(f"{path}: {'a directory' if stat.S_ISDIR(mode) else 'a pipe or a device'}, not a file")
