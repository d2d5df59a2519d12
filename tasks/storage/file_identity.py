"""What identifies a file: its stat, and the SHA-256 of its content."""

import hashlib
import os
import struct
from pathlib import Path
from typing import IO, NamedTuple, Self

_STAT = struct.Struct("3qQ")


class FileStat(NamedTuple):
    """What identifies a file, by the names of os.stat_result."""

    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_ino: int

    def packed(self) -> bytes:
        """Return it as bytes."""
        return _STAT.pack(*self)

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """Return what was packed."""
        return cls(*_STAT.unpack(data))

    @staticmethod
    def of(stat: os.stat_result) -> "FileStat":
        """Return the part of a stat that identifies a file."""
        return FileStat(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    @classmethod
    def of_path(cls, path: Path | str) -> "FileStat":
        """Return the part of a file's stat that identifies it. Raises OSError."""
        return cls.of(os.stat(path))

    def is_same_file(self, other: "FileStat") -> bool:
        """Return whether both are of the same, unmodified file; a rename does not count."""
        return self._replace(st_ctime_ns=other.st_ctime_ns) == other


def checksum_of(file: IO[bytes]) -> str:
    """Return the SHA-256, in hex, of a file from its position to its end."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed wants a BufferedReader


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises OSError."""
    with open(path, "rb") as file:
        return checksum_of(file)
