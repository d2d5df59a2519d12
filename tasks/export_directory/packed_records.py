"""Records of very many markets in little memory."""

import sys
from collections.abc import Iterator, KeysView, MutableMapping
from typing import Protocol, Self, TypeVar


class Packable(Protocol):
    """A record that can be packed into bytes: equal records give equal bytes."""

    def packed(self) -> bytes:
        """Return it as bytes."""

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """Return what was packed."""


Record = TypeVar("Record", bound=Packable)


class Packed(MutableMapping[str, Record]):
    """Records by market id, each held as bytes and unpacked on demand.

    As objects they would take three times the memory, and a process that only reads them would copy the pages that it
    shares with its parent. kind: the class of the records.
    """

    def __init__(self, kind: type[Record]) -> None:
        self._kind = kind
        self._bytes: dict[str, bytes] = {}

    def __getitem__(self, market_id: str) -> Record:
        return self._kind.unpacked(self._bytes[market_id])

    def __setitem__(self, market_id: str, record: Record) -> None:
        self._bytes[sys.intern(market_id)] = record.packed()

    def __delitem__(self, market_id: str) -> None:
        del self._bytes[market_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, market_id: object) -> bool:
        return market_id in self._bytes

    def __eq__(self, other: object) -> bool:
        return self._bytes == other._bytes if isinstance(other, Packed) else super().__eq__(other)

    def __or__(self, other: "Packed[Record]") -> "Packed[Record]":
        """Return the records of both; the other's record if both have one for a market."""
        both = Packed(self._kind)
        both._bytes = self._bytes | other._bytes
        return both

    def keys(self) -> KeysView[str]:
        """Return the market ids."""
        return self._bytes.keys()

    def take(self, market_id: str, other: "Packed[Record]") -> None:
        """Take over another's record of a market, so that both share its memory."""
        self._bytes[market_id] = other._bytes[market_id]

    def packed_of(self, market_id: str) -> bytes:
        """Return the record of a market as bytes."""
        return self._bytes[market_id]

    def put_packed(self, market_id: str, data: bytes) -> None:
        """Store the record of a market, given as bytes."""
        self._bytes[market_id] = data
