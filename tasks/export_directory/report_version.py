"""The format version of text reports: a line in each. A report without it has version 1, as 0.1.0 wrote them."""

from collections.abc import Iterable
from pathlib import Path

from tasks.errors import NewerVersion

#: Raised by any change that could break a program that reads a report.
VERSION = 1
_NAME = "Format version: "
LINE = f"{_NAME}{VERSION}"


def require_known(path: Path, lines: Iterable[str]) -> None:
    """Raise NewerVersion if a report has a later version."""
    for line in lines:
        version = line.removeprefix(_NAME)
        if version != line and version.isdecimal() and int(version) > VERSION:
            raise NewerVersion(path, f"format version {version} of reports", f"versions up to {VERSION}")
