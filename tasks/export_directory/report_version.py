"""The format version of reports in text, a line in each; one without it is of version 1, as 0.1.0 wrote them."""

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import NewerVersion

#: Raised when a program that reads a report would have to know.
VERSION = 1
_NAME = "Format version: "
LINE = f"{_NAME}{VERSION}"


def require_known(path: Path, lines: Iterable[str]) -> None:
    """Raise NewerVersion where a report says that it is of a version to come."""
    for line in lines:
        version = line.removeprefix(_NAME)
        if version != line and version.isdecimal() and int(version) > VERSION:
            raise NewerVersion(path, f"format version {version} of reports", f"versions up to {VERSION}")
