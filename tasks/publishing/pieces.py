"""Pieces of large objects in places that keep each piece as an object of its own until all are joined."""

from collections.abc import Collection

from tasks.publishing.place import Piece, Place, Source

#: Hidden, so that no listing has it.
FOLDER = ".pieces"


def piece_name(name: str, number: int) -> str:
    """Return the name of a piece of an object. number: its place in the object, from 1."""
    return f"{FOLDER}/{name}.{number:04}"


def is_of(file_name: str, names: Collection[str]) -> bool:
    """Return whether a file in the folder belongs to one of these objects: a piece, or some pieces joined."""
    return any(file_name.startswith(f"{name}.") for name in names)


class PlaceOfPieces(Place):
    """A place that keeps pieces so: it also defines what joins them, and what removes them."""

    def begin(self, name: str) -> str:
        """Begin an object that is sent in pieces: hidden objects, which every machine must see."""
        self.abandon([name])
        return ""

    def add(self, name: str, token: str, number: int, source: Source) -> Piece:
        """Send a piece."""
        return Piece(source.size_bytes, source.checksum, self.send(piece_name(name, number), source).tag)
