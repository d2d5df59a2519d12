"""Market files that are text, a head and one line per tick: read by whole lines, searched by bisection."""

import abc
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from tasks.errors import DamagedFile
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_format import MarketFormat
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile
from tasks.ticks.schema import FORMAT_VERSION, READ_COLUMNS
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks
from tasks.ticks.value_text import time_text

_BLOCK_BYTES = 16 << 20


class TextFormat(MarketFormat):
    """A format with one line per tick, after a head that most formats do not have.

    row_bytes: the approximate size of a line. A format with a head also defines head(): whole lines, for example the
    names of the columns; version() then tells by them which version a file has.
    """

    is_compressed = False
    is_text = True
    row_bytes: int

    @abc.abstractmethod
    def text(self, ticks: Ticks, market_id: str, sequence: Ints, version: int = FORMAT_VERSION) -> Iterator[pa.Buffer]:
        """Yield the lines of one market's ticks in a version, in buffers of many whole lines."""

    @abc.abstractmethod
    def parse(self, lines: bytes, path: Path) -> pa.RecordBatch:
        """Return the rows of whole lines. path: for the error message. Raises DamagedFile as batches() does."""

    @abc.abstractmethod
    def time_of(self, line: bytes) -> str:
        """Return the publish_time of a line as text. Raises ValueError, KeyError or TypeError if it has none."""

    def open(self, file: NewFile, market_id: str) -> "_Lines":
        """Return what writes the lines of a market into a file."""
        return _Lines(self, file, market_id)

    def batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file in their order, in batches of bounded size (text not dictionary encoded).

        Raises DamagedFile if a line is not a tick's, FileNotFoundError if there is no file.
        """
        with open(path, "rb") as file:
            self._skip_head(file)
            rest = b""
            while block := file.read(_BLOCK_BYTES):
                cut = block.rfind(b"\n") + 1
                if not cut:
                    rest += block
                    continue
                yield self.parse(rest + block[:cut], path)
                rest = block[cut:]
            if rest:
                raise DamagedFile(f"{path}: the last line is cut short")

    def span_batches(
        self, path: Path, span: Span, batch_rows: int, columns: Collection[str] = READ_COLUMNS
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file that are in a span, about so many at once, with all columns. Raises as batches()
        does.
        """
        with open(path, "rb") as file:
            position, end = self._line_from(file, span.lower_us), self._line_from(file, span.upper_us)
            file.seek(position)
            while position < end:
                lines = file.read(min(batch_rows * self.row_bytes, end - position))
                lines += file.readline()
                if not lines.endswith(b"\n"):
                    raise DamagedFile(f"{path}: the last line is cut short")
                lines = lines[: end - position]
                position += len(lines)
                yield self.parse(lines, path)

    def rows_between(self, path: Path, facts: FileFacts, span: Span) -> float:
        """Estimate how many ticks of a file are in a span, from their size in bytes."""
        with open(path, "rb") as file:
            size_bytes = self._line_from(file, span.upper_us) - self._line_from(file, span.lower_us)
        return facts.tick_records * size_bytes / max(facts.size_bytes, 1)

    def _skip_head(self, file: BinaryIO) -> int:
        """Move to the first line of a tick, and return where that is. Raises DamagedFile if the head is another one."""
        if not self.head():
            return 0
        head = self.head(self.version(Path(file.name)))
        file.seek(0)
        if (found := file.read(len(head))) != head:
            raise DamagedFile(f"{file.name}: begins with {found[:60]!r}, expected {head[:60]!r}")
        return len(head)

    def _line_from(self, file: BinaryIO, moment_us: int) -> int:
        """Return where the first line at or after a time begins, by bisection; the file's end if there is none."""
        moment = time_text(moment_us)
        low, high = self._skip_head(file), file.seek(0, 2)
        while low < high:
            middle = (low + high) // 2
            file.seek(_line_start(file, middle))
            line = file.readline()
            try:
                reached = not line or self.time_of(line) >= moment
            except (ValueError, KeyError, TypeError):
                raise DamagedFile(f"{file.name}: not a line of a tick: {line[:60]!r}") from None
            low, high = (low, middle) if reached else (middle + 1, high)
        return _line_start(file, low)


class _Lines:
    """Writes the lines of one market."""

    def __init__(self, lines: TextFormat, file: NewFile, market_id: str) -> None:
        self._format, self._file, self._market_id = lines, file, market_id
        if head := lines.head():
            file.write(head)

    def write(self, ticks: Ticks, sequence: Ints) -> None:
        """Append the lines of ticks."""
        for lines in self._format.text(ticks, self._market_id, sequence):
            self._file.write(lines)

    def close(self) -> None:
        """Do nothing: lines are written as they come."""

    def abandon(self) -> None:
        """Do nothing: no line is held back."""


def _line_start(file: BinaryIO, position: int) -> int:
    """Return the position of the first line that begins at or after a position."""
    if not position:
        return 0
    file.seek(position - 1)
    file.readline()
    return file.tell()
