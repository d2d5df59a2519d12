"""A folder, such as a mounted NFS share, as a place for exports."""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tasks.errors import StoreError
from tasks.publishing.pieces import FOLDER, PlaceOfPieces, is_of, piece_name
from tasks.publishing.place import Piece, Sink, Source, Stored, copy
from tasks.storage.atomic_files import NewFile, make_directory, remove_leftovers, replacing
from tasks.storage.file_identity import file_checksum


class FolderPlace(PlaceOfPieces):
    """A folder that must exist: it is never created, so that nothing is written below an empty mount point."""

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__(address)
        self._folder = folder
        if not folder.is_dir():
            raise StoreError(f"{address}: there is no such folder. Mount or create it, or correct the address.")

    def list(self, beginning: str = "") -> dict[str, Stored]:
        """Return every visible file below the folder; leftovers of killed runs are removed."""
        found = {}
        for directory, below, names in os.walk(self._folder):
            below[:] = [name for name in below if not name.startswith(".")]
            remove_leftovers(Path(directory))
            for name in names:
                path = Path(directory, name)
                below_it = path.relative_to(self._folder).as_posix()
                if not name.startswith(".") and below_it.startswith(beginning):
                    with contextlib.suppress(FileNotFoundError):
                        found[below_it] = _stored(path)
        return found

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, None if there is none."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with replacing(self._folder / name) as file:
            file.write(content)

    def send(self, name: str, source: Source) -> Stored:
        """Copy a file, read the copy back, and only then rename it to its final name."""
        path = self._folder / name
        make_directory(path.parent)
        with NewFile(path) as file:
            with open(source.path, "rb") as opened:
                copy(opened, file)
            if file.finish_and_read_back() != source.checksum:
                raise StoreError(
                    f"{self.address}: {name} read back is not what was sent. The disk may be faulty, or another process"
                    " writes to the file. Nothing was replaced. Start again."
                )
            file.publish()
        return _stored(path)

    def holds(self, name: str, stored: Stored, source: Source) -> bool:
        """Return whether the file has the content of the source, by reading it."""
        with contextlib.suppress(FileNotFoundError):
            return file_checksum(self._folder / name) == source.checksum
        return False

    def receive(self, name: str, file: Sink) -> None:
        """Append the content of a file."""
        try:
            with open(self._folder / name, "rb") as opened:
                copy(opened, file)
        except FileNotFoundError:
            raise StoreError(f"{self.address}: {name} is missing. Publish again, or fetch again.") from None

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._folder / name).unlink(missing_ok=True)

    def _join(self, name: str, token: str, pieces: Sequence[Piece]) -> None:
        path = self._folder / name
        make_directory(path.parent)
        with replacing(path) as file:
            for number in range(1, len(pieces) + 1):
                self.receive(piece_name(name, number), file)

    def abandon(self, names: Collection[str]) -> None:
        """Remove the pieces of objects."""
        directory = self._folder / FOLDER
        if directory.is_dir():
            for path in directory.iterdir():
                if is_of(path.name.lstrip("."), names):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others' are still there
                directory.rmdir()


def _stored(path: Path) -> Stored:
    stat = path.stat()
    return Stored(stat.st_size, str(stat.st_mtime_ns))
