"""Where the pieces of large objects lie, in places that join them from objects of their own."""

from collections.abc import Collection

#: Hidden, so that no listing has it.
FOLDER = ".pieces"


def piece_name(name: str, number: int) -> str:
    """Return the name of a piece of an object. number: its place in the object, from 1."""
    return f"{FOLDER}/{name}.{number:04}"


def is_of(file_name: str, names: Collection[str]) -> bool:
    """Return whether a file in the folder belongs to one of these objects: a piece, or some pieces joined."""
    return any(file_name.startswith(f"{name}.") for name in names)
