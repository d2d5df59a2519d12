"""Which metadata files say what the database says: remembered, so that a file that nobody touched need not be read again.

Not a checkpoint: all of it can be lost without losing anything but the time to read the files once more.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.ticks.publish import FileStat, replacing

_SCHEMA = pa.schema([("market_id", pa.string()), ("state", pa.binary(16))])
_ROWS_AT_ONCE = 2_000


class Described:
    """What each metadata file was made from and what stat said of it then, as one hash, in a file of the journal.

    rendering: content that the program makes of something; what another program has remembered does not count.
    """

    def __init__(self, path: Path, rendering: bytes) -> None:
        self._path = path
        self._rendering = hashlib.sha256(rendering).digest()
        self._known: dict[str, bytes] = {}
        self._learned = False
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                for number in range(reader.num_record_batches if reader.schema.equals(_SCHEMA) else 0):
                    market_ids, states = (column.to_pylist() for column in reader.get_batch(number).columns)
                    self._known.update(zip(map(sys.intern, market_ids), states, strict=True))
        except (OSError, ValueError, TypeError, pa.ArrowException):
            self._known.clear()  # none yet, or a damaged one: it is made anew

    def is_current(self, row: tuple[Any, ...], stat: FileStat) -> bool:
        """Tell whether the file is the one that says what a row of Database.metadata says. stat: of the file as it lies there now."""
        return self._known.get(row[0]) == self._state(row, stat)

    def learn(self, row: tuple[Any, ...], stat: FileStat) -> None:
        """Remember that the file says what the row says."""
        self._known[sys.intern(row[0])] = self._state(row, stat)
        self._learned = True

    def save(self) -> None:
        """Write down what was learned, if anything was."""
        if self._learned:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            market_ids = list(self._known)
            with replacing(self._path) as file, pa.ipc.new_file(pa.PythonFile(file, "w"), _SCHEMA) as writer:
                for start in range(0, len(market_ids), _ROWS_AT_ONCE):
                    some = market_ids[start:start + _ROWS_AT_ONCE]
                    states = [self._known[market_id] for market_id in some]
                    writer.write_batch(pa.record_batch([pa.array(some, pa.string()), pa.array(states, pa.binary(16))], schema=_SCHEMA))
            self._learned = False

    def _state(self, row: tuple[Any, ...], stat: FileStat) -> bytes:
        return hashlib.blake2b(repr((row, *stat)).encode(), digest_size=16, key=self._rendering).digest()
