"""The interface of all places that exports are published to, and which place belongs to an address."""

import abc
import dataclasses
import urllib.parse
from pathlib import Path
from typing import IO

from tasks.errors import UsageError
from tasks.storage.atomic_files import NewFile


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


class Place(abc.ABC):
    """A place of objects by names such as markets/marketId=1.2.parquet. An object appears whole or not at all.

    Its methods can be called from many threads. They raise StoreError, or OSError for the files of this machine.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @abc.abstractmethod
    def list(self) -> dict[str, Stored]:
        """Return every object below the address. Raises StoreError also if the address does not exist."""

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
    def receive(self, name: str, file: NewFile) -> None:
        """Append the content of an object to a new file. Raises StoreError also if there is none."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Remove an object if there is one."""


def copy(source: IO[bytes], target: NewFile) -> None:
    """Append the rest of a file, from its current position."""
    while piece := source.read(1 << 20):
        target.write(piece)


def open_place(option: str, address: str, threads: int) -> Place:
    """Return the place of an address: s3://bucket/prefix, or file:///folder.

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
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and parts.path != "/":
        from tasks.publishing.folder_place import FolderPlace

        return FolderPlace(address, Path(urllib.parse.unquote(address.removeprefix("file://"))))
    if parts.scheme in ("gs", "gcs"):
        raise UsageError(
            f"{option} is {address!r}: Google's own protocol is not supported, but its buckets also speak S3's. Write"
            f" s3://{parts.netloc}{parts.path}, with AWS_ENDPOINT_URL=https://storage.googleapis.com and an HMAC key."
        )
    raise UsageError(f"{option} is {address!r}, expected s3://bucket/prefix or file:///folder.")
