"""Remember which files of metadata or states agree with the database, so that unchanged files need not be read again.

It is not a checkpoint: losing it costs only the time to read the files once more.
"""

import contextlib
import hashlib
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.postgres.lifecycle import LifecycleRows
from tasks.postgres.market_metadata import MarketMetadata
from tasks.storage.atomic_files import replacing
from tasks.storage.file_identity import FileStat

_STATE_BYTES = 16


class Described:
    """What each file was made from and its stat at that time, as one hash, in a file of the journal.

    The file: a byte with the width of the market ids, then for each market, sorted by id, the id, zero-padded, and 16
    bytes of hash. If it is damaged, hashes do not match, and the files are read again.

    rendering: sample output of this program; what a program with other output has remembered does not count.
    """

    def __init__(self, path: Path, rendering: bytes) -> None:
        self._path = path
        self._rendering = hashlib.sha256(rendering).digest()
        self._saved = _table([], [])
        with contextlib.suppress(OSError, ValueError, IndexError):  # missing or damaged: it is rebuilt
            content = path.read_bytes()
            self._saved = np.frombuffer(content, _row(content[0]), offset=1)
        self._learned: dict[str, bytes] = {}

    def is_current(self, market: MarketMetadata | LifecycleRows, stat: FileStat) -> bool:
        """Return whether the file is the one that agreed with what the database says about a market. stat: its current
        one.
        """
        return self._known(market.market_id) == self._state(market, stat)

    def learn(self, market: MarketMetadata | LifecycleRows, stat: FileStat) -> None:
        """Remember that the file agrees with what the database says about the market."""
        self._learned[sys.intern(market.market_id)] = self._state(market, stat)

    def save(self) -> None:
        """Save what was learned, if anything was."""
        if self._learned:
            learned = _table(list(self._learned), list(self._learned.values()))
            others = self._saved[np.isin(self._saved["market_id"], learned["market_id"], invert=True)]
            self._saved = np.sort(np.concatenate([others, learned]), order="market_id")
            self._learned.clear()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                file.write(bytes([self._saved["market_id"].itemsize]))
                file.write(self._saved.tobytes())

    def _known(self, market_id: str) -> bytes | None:
        if market_id in self._learned:
            return self._learned[market_id]
        market_ids, name = self._saved["market_id"], market_id.encode()
        place = market_ids.searchsorted(name) if len(name) <= market_ids.itemsize else len(market_ids)
        return bytes(self._saved["state"][place]) if place < len(market_ids) and market_ids[place] == name else None

    def _state(self, market: MarketMetadata | LifecycleRows, stat: FileStat) -> bytes:
        return hashlib.blake2b(
            repr((tuple(market), *stat)).encode(), digest_size=_STATE_BYTES, key=self._rendering
        ).digest()


def _table(market_ids: list[str], states: list[bytes]) -> npt.NDArray[np.void]:
    """Return market ids and their states as an array: as objects they would take four times the memory."""
    names = np.array(market_ids, "S")
    table = np.empty(len(names), _row(names.itemsize))
    table["market_id"], table["state"] = names, np.frombuffer(b"".join(states), f"V{_STATE_BYTES}")
    return table


def _row(id_bytes: int) -> np.dtype[np.void]:
    return np.dtype([("market_id", f"S{id_bytes}"), ("state", f"V{_STATE_BYTES}")])
