"""Which metadata files say what the database says: remembered, so that a file that nobody touched need not be read again.

Not a checkpoint: all of it can be lost without losing anything but the time to read the files once more.
"""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather

from tasks.ticks.publish import FileStat, replacing

_SCHEMA = pa.schema([("market_id", pa.string()), ("source", pa.binary(16))] + [(name, pa.int64()) for name in FileStat._fields])


class Described:
    """What each metadata file was made from, and what stat said of it then, in a file of the journal.

    rendering: content that the program makes of something; what another program has remembered does not count.
    """

    def __init__(self, path: Path, rendering: bytes) -> None:
        self._path = path
        self._rendering = hashlib.sha256(rendering).digest()
        self._known: dict[str, tuple[bytes, FileStat]] = {}
        self._learned = False
        try:
            table = feather.read_table(path, memory_map=False)
            columns = [table[name].to_pylist() for name in _SCHEMA.names] if table.schema.equals(_SCHEMA) else [[] for _ in _SCHEMA]
            self._known = {market_id: (source, FileStat(*stat)) for market_id, source, *stat in zip(*columns, strict=True)}
        except (OSError, ValueError, pa.ArrowException):
            pass  # none yet, or a damaged one: it is made anew

    def is_current(self, row: tuple[Any, ...], stat: FileStat) -> bool:
        """Tell whether the file is the one that says what a row of Database.metadata says. stat: of the file as it lies there now."""
        return self._known.get(row[0]) == (self._source(row), stat)

    def learn(self, row: tuple[Any, ...], stat: FileStat) -> None:
        """Remember that the file says what the row says."""
        self._known[row[0]] = (self._source(row), stat)
        self._learned = True

    def save(self) -> None:
        """Write down what was learned, if anything was."""
        if self._learned:
            columns = [list(self._known), [source for source, _ in self._known.values()],
                       *zip(*(stat for _, stat in self._known.values()), strict=True)]
            table = pa.table([pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                feather.write_feather(table, file)
            self._learned = False

    def _source(self, row: tuple[Any, ...]) -> bytes:
        return hashlib.blake2b(repr(row).encode(), digest_size=16, key=self._rendering).digest()
