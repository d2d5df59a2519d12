"""Check that a disk has room before much is written."""

import shutil
from pathlib import Path

from tasks.errors import NoRoom
from tasks.ticks.value_text import size_text


def require_room(path: Path, size_bytes: float) -> None:
    """Raise NoRoom if the disk of a file to be written has less free than it will take about."""
    free = shutil.disk_usage(path.parent).free
    if size_bytes > free:
        raise NoRoom(
            f"{path} will take about {size_text(size_bytes)}, {path.parent} has {size_text(free)} free. Make room"
            " there, or choose another --output-dir."
        )
