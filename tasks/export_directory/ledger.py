"""The ledger: what was written for each market, so that no loss goes unnoticed.

It confirms the market files if index.csv is missing, edited or out of date, and it remembers what a market once had
until its ticks are back or the operator accepts the loss. It is one binary file:

    b"tick_export ledger 1\n", three sections, the SHA-256 of everything before it
    section: number of records (8 bytes), then per record: lengths of market id and record (1 and 2 bytes), and both

- files: stat and facts of each market file when the index was last written; the modification time is the earliest that
  this content had, so that copying a file without its times makes it no newer;
- promises: the facts of a market whose file has fewer ticks than it once had, or is missing;
- earlier: checksums of earlier versions of a file, so that a file from a backup is recognised as ours.
"""

import dataclasses
import hashlib
import re
import struct
import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from tasks.errors import DamagedLedger, NewerVersion
from tasks.export_directory.packed_records import Packed
from tasks.market_files.file_facts import FileFacts
from tasks.storage.atomic_files import replacing
from tasks.storage.file_identity import FileStat

_MAGIC = b"tick_export ledger 1\n"
_ANY_MAGIC = re.compile(rb"tick_export ledger (\d{1,9})\n")
_COUNT = struct.Struct("<Q")
_STAT_BYTES, _DIGEST_BYTES = 32, 32
#: The fields of a stat that count: size and times, which come first.
_TOUCHED_BYTES = 24
_MODIFIED = slice(8, 16)
#: How many versions of a market file are remembered; a market that is recorded for a month has about thirty.
_EARLIER = 60


class Kept(NamedTuple):
    """A market file as it was: its stat and its facts."""

    stat: FileStat
    facts: FileFacts

    def packed(self) -> bytes:
        """Return it as bytes."""
        return self.stat.packed() + self.facts.packed()

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """Return what was packed."""
        return cls(FileStat.unpacked(data[:_STAT_BYTES]), FileFacts.unpacked(data[_STAT_BYTES:]))


class _Digests(NamedTuple):
    """Checksums of earlier versions of a market file, the newest last."""

    digests: bytes

    def packed(self) -> bytes:
        return self.digests

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        return cls(data)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What was written for each market. exists: False if there is no ledger (an export of version 0.1, or a copy)."""

    files: Packed[Kept] = dataclasses.field(default_factory=lambda: Packed(Kept))
    promises: Packed[FileFacts] = dataclasses.field(default_factory=lambda: Packed(FileFacts))
    earlier: Packed[_Digests] = dataclasses.field(default_factory=lambda: Packed(_Digests))
    exists: bool = False

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the ledger; an empty one if there is no file. Raises DamagedLedger, NewerVersion and OSError."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return cls()
        except OSError as error:  # an error of read() does not name the file
            raise OSError(error.errno, error.strerror, str(path)) from None
        version = _ANY_MAGIC.match(content)
        if version and int(version[1]) > 1:
            raise NewerVersion(path, f"version {int(version[1])} of the ledger", "version 1")
        body, digest = memoryview(content)[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
            raise DamagedLedger(f"{path}: not as the pipeline wrote it")
        ledger = cls(exists=True)
        position = len(_MAGIC)
        for section in (ledger.files, ledger.promises, ledger.earlier):
            position = _read_section(content, position, section)
        return ledger

    def vouch(self, market_id: str, stat: FileStat, facts: Packed[FileFacts]) -> bool:
        """Add the facts of a market file to facts if it was not touched since; return whether they were added.

        The inode does not count: some file systems change it.
        """
        kept = self.files.packed_of(market_id) if market_id in self.files else b""
        if kept and _modified_ns(kept) < stat.st_mtime_ns:  # a copy without times: the time of the change tells
            stat = stat._replace(st_mtime_ns=_modified_ns(kept))
        if kept[:_TOUCHED_BYTES] != stat.packed()[:_TOUCHED_BYTES]:
            return False
        facts.put_packed(market_id, kept[_STAT_BYTES:])
        return True

    def written_ns(self, market_id: str, stat: FileStat, facts: Packed[FileFacts]) -> int:
        """Return when a sound market file was written, nanoseconds since 1970: as its stat says, or earlier, if it is a
        copy that was made without times.
        """
        if market_id in self.files:
            kept = self.files.packed_of(market_id)
            if kept[_STAT_BYTES:] == facts.packed_of(market_id):
                return min(_modified_ns(kept), stat.st_mtime_ns)
        return stat.st_mtime_ns

    def is_met(self, market_id: str, facts: Packed[FileFacts]) -> bool:
        """Return, at little cost, whether the facts of a market's file equal its promise."""
        if market_id in self.promises or market_id not in self.files or market_id not in facts:
            return False
        return self.files.packed_of(market_id)[_STAT_BYTES:] == facts.packed_of(market_id)

    def promise(self, market_id: str) -> FileFacts | None:
        """Return the facts of the fullest file that the market has had; None if it never had one."""
        if market_id in self.promises:
            return self.promises[market_id]
        return self.files[market_id].facts if market_id in self.files else None

    def market_ids(self) -> Iterator[str]:
        """Yield every market for which a file was ever written."""
        yield from self.files
        yield from (market_id for market_id in self.promises if market_id not in self.files)

    def knows(self, market_id: str, checksum: str) -> bool:
        """Return whether we have written a file with this SHA-256 for the market."""
        ours = {facts.checksum for facts in self._written(market_id)}
        digest, known = bytes.fromhex(checksum), self.earlier.get(market_id)
        return checksum in ours or known is not None and digest in _cut(known.digests)

    def _written(self, market_id: str) -> Iterator[FileFacts]:
        if market_id in self.files:
            yield self.files[market_id].facts
        if market_id in self.promises:
            yield self.promises[market_id]

    def after(
        self, stats: Mapping[str, FileStat], facts: Packed[FileFacts], journalled: Container[str] = ()
    ) -> "Ledger":
        """Return the ledger with these sound files: if one has fewer ticks than before, the promise stays.

        journalled: markets whose file was written since the index: its time is its own.
        """
        new = Ledger(exists=True)
        for market_id in facts:
            stat = stats[market_id]
            if market_id not in journalled:
                stat = stat._replace(st_mtime_ns=self.written_ns(market_id, stat, facts))
            new.files[market_id] = Kept(stat, facts[market_id])
        for market_id in {*self.market_ids(), *self.earlier}:
            promised, now = self.promise(market_id), new.files.get(market_id)
            if promised is not None and (now is None or now.facts.tick_records < promised.tick_records):
                new.promises[market_id] = promised
            known = self.earlier[market_id].digests if market_id in self.earlier else b""
            for old in self._written(market_id):
                digest = bytes.fromhex(old.checksum)
                if (now is None or old.checksum != now.facts.checksum) and digest not in _cut(known):
                    known += digest
            if known:
                new.earlier[market_id] = _Digests(known[-_EARLIER * _DIGEST_BYTES :])
        return new

    def promising(self, indexed: Packed[FileFacts]) -> "Ledger":
        """Return the ledger; if there is none (an export of version 0.1), one that promises what the index lists."""
        return self if self.exists else Ledger(promises=indexed | Packed(FileFacts), exists=True)

    def without(self, market_id: str) -> "Ledger":
        """Return the ledger without its promise for a market."""
        new = dataclasses.replace(self, promises=self.promises | Packed(FileFacts), files=self.files | Packed(Kept))
        for section in (new.promises, new.files):
            if market_id in section:
                del section[market_id]
        return new

    def write(self, path: Path) -> None:
        """Write the ledger, replacing the existing one."""
        sha256 = hashlib.sha256()
        with replacing(path) as file:
            for piece in self._pieces():
                sha256.update(piece)
                file.write(piece)
            file.write(sha256.digest())

    def _pieces(self) -> Iterator[bytes]:
        yield _MAGIC
        for section in (self.files, self.promises, self.earlier):
            yield _COUNT.pack(len(section))
            for market_id in sorted(section):
                name, record = market_id.encode(), section.packed_of(market_id)
                yield struct.pack("<BH", len(name), len(record)) + name + record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and (self.files, self.promises, self.earlier, self.exists) == (
            other.files,
            other.promises,
            other.earlier,
            other.exists,
        )


def _read_section(content: bytes, position: int, section: "Packed[Kept] | Packed[FileFacts] | Packed[_Digests]") -> int:
    """Fill a section from its position in the content; return the position of the next one."""
    (count,) = _COUNT.unpack_from(content, position)
    position += _COUNT.size
    for _ in range(count):
        name_bytes, record_bytes = struct.unpack_from("<BH", content, position)
        position += 3
        name = content[position : position + name_bytes].decode()
        position += name_bytes
        section.put_packed(sys.intern(name), content[position : position + record_bytes])
        position += record_bytes
    return position


def _modified_ns(record: bytes) -> int:
    return int.from_bytes(record[_MODIFIED], sys.byteorder, signed=True)


def _cut(digests: bytes) -> set[bytes]:
    return {digests[start : start + _DIGEST_BYTES] for start in range(0, len(digests), _DIGEST_BYTES)}
