"""Which metadata files say what the database says: remembered, so that a file that nobody touched need not be read again.

Not a checkpoint: all of it can be lost without losing anything but the time to read the files once more.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.ticks.publish import FileStat, replacing

_SCHEMA = pa.schema([("market_id", pa.string()), ("state", pa.binary(16))])
_STATE = np.dtype("V16")
_ROWS_AT_ONCE = 2_000


class Described:
    """What each metadata file was made from and what stat said of it then, as one hash, in a file of the journal.

    rendering: content that the program makes of something; what another program has remembered does not count.
    """

    def __init__(self, path: Path, rendering: bytes) -> None:
        self._path = path
        self._rendering = hashlib.sha256(rendering).digest()
        self._market_ids, self._states = _read(path)
        self._learned: dict[str, bytes] = {}

    def is_current(self, row: tuple[Any, ...], stat: FileStat) -> bool:
        """Tell whether the file is the one that says what a row of Database.metadata says. stat: of the file as it lies there now."""
        return self._known(row[0]) == self._state(row, stat)

    def learn(self, row: tuple[Any, ...], stat: FileStat) -> None:
        """Remember that the file says what the row says."""
        self._learned[sys.intern(row[0])] = self._state(row, stat)

    def save(self) -> None:
        """Write down what was learned, if anything was."""
        if self._learned:
            others = np.isin(self._market_ids, np.array(list(self._learned), "S"), invert=True)
            self._market_ids, self._states = _sorted(
                np.concatenate([self._market_ids[others], np.array(list(self._learned), "S")]),
                np.concatenate([self._states[others], np.frombuffer(b"".join(self._learned.values()), _STATE)]))
            self._learned.clear()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file, pa.ipc.new_file(pa.PythonFile(file, "w"), _SCHEMA) as writer:
                for start in range(0, len(self._states), _ROWS_AT_ONCE):
                    some = slice(start, start + _ROWS_AT_ONCE)
                    writer.write_batch(pa.record_batch([pa.array(self._market_ids[some].astype(str).tolist(), pa.string()),
                                                        pa.array(self._states[some].tolist(), pa.binary(16))], schema=_SCHEMA))

    def _known(self, market_id: str) -> bytes | None:
        if market_id in self._learned:
            return self._learned[market_id]
        name = market_id.encode()
        if len(name) > self._market_ids.itemsize:
            return None
        place = self._market_ids.searchsorted(name)
        return bytes(self._states[place]) if place < len(self._states) and self._market_ids[place] == name else None

    def _state(self, row: tuple[Any, ...], stat: FileStat) -> bytes:
        return hashlib.blake2b(repr((row, *stat)).encode(), digest_size=16, key=self._rendering).digest()


def _read(path: Path) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.void]]:
    """Return n market ids, sorted, and the state of each: arrays, since objects take four times the memory. None where none are
    remembered yet, or in a damaged file: it is made anew."""
    market_ids, states = [np.zeros(0, "S1")], [np.zeros(0, _STATE)]
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches if reader.schema.equals(_SCHEMA) else 0):
                names, hashes = (column.to_pylist() for column in reader.get_batch(number).columns)
                market_ids.append(np.array(names, "S"))
                states.append(np.frombuffer(b"".join(hashes), _STATE))
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return market_ids[0], states[0]
    return _sorted(np.concatenate(market_ids), np.concatenate(states))


def _sorted(market_ids: npt.NDArray[np.bytes_], states: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.void]]:
    order = np.argsort(market_ids, kind="stable")
    return market_ids[order], states[order]
