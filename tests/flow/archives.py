"""Read archives as their receivers do, by tools of the system and by Python."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from backports import zstd

from tasks.delivery import containers

KINDS = containers.KINDS


def nothing(size_bytes: int) -> None:
    """Show no progress."""


_ARROW_UNZSTD = (
    "import pyarrow, shutil, sys; shutil.copyfileobj(pyarrow.CompressedInputStream(sys.argv[1], 'zstd'),"
    " sys.stdout.buffer)"
)


def unpacked(kind: str, path: Path, into: Path) -> dict[str, bytes]:
    """Unpack an archive with the ordinary tool, or Python's or Arrow's where there is none; return name and content
    of what came out.
    """
    into.mkdir()
    unzip = "unzip -q" if shutil.which("unzip") else f"'{sys.executable}' -m zipfile -e"
    unzstd = "zstd -dcq" if shutil.which("zstd") else f"'{sys.executable}' -c \"{_ARROW_UNZSTD}\""
    commands = {
        "tar.gz": f"tar -xzf '{path}'",
        "zip": f"{unzip} '{path}' {'' if shutil.which('unzip') else '.'}",
        "tar.zst": f"{unzstd} '{path}' | tar -xf -",
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands[kind]], cwd=into, check=True)
    return {str(file.relative_to(into)): file.read_bytes() for file in into.rglob("*") if file.is_file()}


def by_python(kind: str, path: Path) -> dict[str, bytes]:
    """Return name and content of an archive's members as Python's own modules read them."""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
    with zstd.open(path) if kind == "tar.zst" else open(path, "rb") as file, tarfile.open(fileobj=file) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}
