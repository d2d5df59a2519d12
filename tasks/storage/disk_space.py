"""Check that a disk has room before much is written."""

import shutil
from pathlib import Path

from tasks.errors import NoRoom
from tasks.ticks.value_text import size_text


def require_room(path: Path, size_bytes: float) -> None:
    """Raise NoRoom if the disk has less free space than a new file will take, approximately."""
    free = shutil.disk_usage(path.parent).free
    if size_bytes > free:
        raise NoRoom(
            f"{path} will take about {size_text(size_bytes)}, {path.parent} has {size_text(free)} free. Make room"
            " on that disk and start again."
        )
