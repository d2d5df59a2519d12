"""The interface of all places that exports are published to, and which place belongs to an address."""

import abc
import dataclasses
import hashlib
import urllib.parse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from tasks.errors import StoreError, UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """An object in a place's listing. tag: changes with the content."""

    size_bytes: int
    tag: str


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A file to be sent, and the SHA-256 that it must have."""

    path: Path
    size_bytes: int
    checksum: str


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an object as it was sent. tag: what the place calls it."""

    size_bytes: int
    checksum: str
    tag: str


class Sink(Protocol):
    """What the content of an object is written to: a new file, for example."""

    @property
    def size_bytes(self) -> int:
        """How many bytes have been written."""

    def write(self, data: Any) -> int:
        """Append bytes; return how many."""


class Place(abc.ABC):
    """A place of objects by names such as markets/marketId=1.2.parquet. An object appears whole or not at all.

    Its methods can be called from many threads. They raise StoreError, or OSError for the files of this machine.

    A large object can be sent in pieces by several machines: begin() it, add() each piece, from any machine and as
    often as it takes, then join() them; abandon() at last removes what was never joined.
    """

    #: The least size of a piece that is not the last one of its object.
    least_piece_bytes = 0

    def __init__(self, address: str) -> None:
        self.address = address

    @abc.abstractmethod
    def list(self, beginning: str = "") -> dict[str, Stored]:
        """Return every object below the address whose name begins so. Raises StoreError also if there is no such
        address.
        """

    @abc.abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the content of a small object, None if there is none."""

    @abc.abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Store a small object."""

    @abc.abstractmethod
    def send(self, name: str, source: Source) -> Stored:
        """Store a file; return the stored object once it is known to equal the file, byte for byte."""

    @abc.abstractmethod
    def holds(self, name: str, stored: Stored, source: Source) -> bool:
        """Return whether the object, of the size of the file, has the content of the file."""

    @abc.abstractmethod
    def receive(self, name: str, file: Sink) -> None:
        """Append the content of an object to a new file. Raises StoreError also if there is none."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Remove an object if there is one."""

    @abc.abstractmethod
    def begin(self, name: str) -> str:
        """Begin an object that is sent in pieces; return the token for it."""

    @abc.abstractmethod
    def add(self, name: str, token: str, number: int, source: Source) -> Piece:
        """Send a piece. number: its place in the object, from 1. Sent again it replaces the piece sent before."""

    @abc.abstractmethod
    def abandon(self, names: Collection[str]) -> None:
        """Remove all pieces of objects with these names that have not been joined, of whatever run."""

    def join(self, name: str, token: str, pieces: Sequence[Piece]) -> tuple[Stored, str]:
        """Make an object of its pieces, numbered from 1 without a gap, and read it back; return it and its SHA-256.

        It can be called again after it has been interrupted. Raises StoreError also if what was read back is not what
        was sent.
        """
        self._join(name, token, pieces)
        comparison = _Comparison(pieces)
        self.receive(name, comparison)
        found = self.list(name).get(name)
        if not comparison.is_equal or found is None:
            self.remove(name)
            raise StoreError(f"{self.address}: {name} read back is not what was sent. Start again.")
        return found, comparison.checksum

    @abc.abstractmethod
    def _join(self, name: str, token: str, pieces: Sequence[Piece]) -> None:
        """Make an object of its pieces, unless that was done before."""


class _Comparison:
    """Compares an object, as it is read back, with its pieces, each by its SHA-256."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.size_bytes = 0
        self._pieces, self._equal, self._into = pieces, 0, 0
        self._whole, self._piece = hashlib.sha256(), hashlib.sha256()

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        self._whole.update(data)
        view = memoryview(data)
        self.size_bytes += len(view)
        while view and self._equal < len(self._pieces):
            piece = self._pieces[self._equal]
            some = view[: piece.size_bytes - self._into]
            self._piece.update(some)
            self._into += len(some)
            view = view[len(some) :]
            if self._into == piece.size_bytes:
                if self._piece.hexdigest() != piece.checksum:
                    break
                self._equal, self._into, self._piece = self._equal + 1, 0, hashlib.sha256()
        return len(data)

    @property
    def is_equal(self) -> bool:
        """Whether all pieces have come, and nothing else."""
        return self._equal == len(self._pieces) and self.size_bytes == sum(one.size_bytes for one in self._pieces)

    @property
    def checksum(self) -> str:
        """The SHA-256 of the whole object, in hex."""
        return self._whole.hexdigest()


def copy(source: IO[bytes], target: Sink) -> None:
    """Append the rest of a file, from its current position."""
    while piece := source.read(1 << 20):
        target.write(piece)


def open_place(option: str, address: str, threads: int) -> Place:
    """Return the place of an address: s3://bucket/prefix, gs://bucket/prefix or file:///folder.

    threads: how many will use it at once. Raises UsageError if the address is not valid.
    """
    parts = urllib.parse.urlsplit(address)
    if "@" in parts.netloc:
        raise UsageError(
            f"{option} has a user or a key in its address. Pass credentials in the environment or in ~/.aws, so that no"
            " log shows them."
        )
    if parts.scheme == "s3" and parts.netloc and not parts.query and not parts.fragment:
        from tasks.publishing.s3_place import S3Place  # boto3 takes 0.3 s to load

        return S3Place(address, parts.netloc, parts.path.strip("/"), threads)
    if parts.scheme == "gs" and parts.netloc and not parts.query and not parts.fragment:
        from tasks.publishing.gcs_place import GcsPlace  # google-cloud-storage takes 0.6 s to load

        return GcsPlace(address, parts.netloc, parts.path.strip("/"))
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and parts.path != "/":
        from tasks.publishing.folder_place import FolderPlace

        return FolderPlace(address, Path(urllib.parse.unquote(address.removeprefix("file://"))))
    raise UsageError(f"{option} is {address!r}, expected s3://bucket/prefix, gs://bucket/prefix or file:///folder.")
