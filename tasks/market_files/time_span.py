"""A span of time, half open, and the part of a market file that lies in it."""

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import DamagedFile
from tasks.market_files import jsonl
from tasks.market_files.market_file import FileFacts
from tasks.ticks.schema import SCHEMA
from tasks.ticks.tick_arrays import Ticks
from tasks.ticks.value_text import time_text

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_JSONL_ROW_BYTES = 280
#: What Ticks are made of; the other columns follow from these and the file's name.
_COLUMNS = ["received_at", "publish_time", "selection_id", "side", "level", "price", "size"]


@dataclasses.dataclass(frozen=True)
class Span:
    """Times from lower_us up to but not at upper_us, microseconds since 1970."""

    lower_us: int
    upper_us: int

    @staticmethod
    def of_day(date: datetime.date) -> "Span":
        """Return a UTC day."""
        start = datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC)
        return Span((start - _EPOCH) // _MICROSECOND, (start + datetime.timedelta(days=1) - _EPOCH) // _MICROSECOND)

    def holds(self, moment_us: int) -> bool:
        """Tell whether a time lies in the span."""
        return self.lower_us <= moment_us < self.upper_us

    def share(self, facts: FileFacts) -> float:
        """Return about which share of a file's ticks lies in the span, 0 only if none can, 1 only if all do."""
        if facts.first_tick is None or facts.last_tick is None:
            return 0.0
        first, end = max(self.lower_us, facts.first_tick), min(self.upper_us, facts.last_tick + 1)
        return max(end - first, 0) / (facts.last_tick + 1 - facts.first_tick)

    def months(self) -> list[int]:
        """Return the first moment of each month that begins within the span, without its start."""
        start, end = (_EPOCH + moment * _MICROSECOND for moment in (self.lower_us, self.upper_us - 1))
        numbers = range(start.year * 12 + start.month, end.year * 12 + end.month)
        return [
            (datetime.datetime(number // 12, number % 12 + 1, 1, tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
            for number in numbers
        ]


def read(path: Path, market: int, span: Span, batch_rows: int) -> Iterator[Ticks]:
    """Yield the ticks of a market file that lie in a span, in their order, about so many at once.

    Raises DamagedFile where what is read is no market file's, FileNotFoundError where there is none.
    """
    batches = _jsonl if path.suffix == ".jsonl" else _parquet
    for batch in batches(path, span, batch_rows):
        ticks = Ticks.from_batch(batch, market)
        start, end = np.searchsorted(ticks.publish_time, [span.lower_us, span.upper_us])
        if start < end:
            yield ticks[start:end]


def estimate_rows(path: Path, facts: FileFacts, span: Span) -> float:
    """Return about how many ticks of a market file lie in a span, without reading them; of Parquet at most so many
    do.
    """
    if span.share(facts) in (0, 1):
        return facts.tick_records * span.share(facts)
    if path.suffix == ".jsonl":
        with open(path, "rb") as file:
            return (
                facts.tick_records
                * (_line_from(file, span.upper_us) - _line_from(file, span.lower_us))
                / max(facts.size_bytes, 1)
            )
    with _readable(path), pq.ParquetFile(path) as file:
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        return float(sum(group.num_rows for group in groups if _overlaps(group, span)))


def _parquet(path: Path, span: Span, batch_rows: int) -> Iterator[pa.RecordBatch]:
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.schema_arrow.equals(SCHEMA):
            raise DamagedFile(f"{path}: its columns are not those of a tick")
        groups = [number for number in range(file.num_row_groups) if _overlaps(file.metadata.row_group(number), span)]
        if groups:
            yield from file.iter_batches(batch_rows, row_groups=groups, columns=_COLUMNS, use_threads=False)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn Arrow's errors into DamagedFile."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}") from None


def _overlaps(group: pq.RowGroupMetaData, span: Span) -> bool:
    """Tell whether a row group can hold ticks of the span."""
    statistics = group.column(SCHEMA.get_field_index("publish_time")).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    first, last = ((moment - _EPOCH) // _MICROSECOND for moment in (statistics.min, statistics.max))
    return bool(first < span.upper_us and last >= span.lower_us)


def _jsonl(path: Path, span: Span, batch_rows: int) -> Iterator[pa.RecordBatch]:
    with open(path, "rb") as file:
        position, end = _line_from(file, span.lower_us), _line_from(file, span.upper_us)
        file.seek(position)
        while position < end:
            lines = file.read(min(batch_rows * _JSONL_ROW_BYTES, end - position))
            lines += file.readline()
            if not lines.endswith(b"\n"):
                raise DamagedFile(f"{path}: the last line is cut short")
            lines = lines[: end - position]
            position += len(lines)
            yield jsonl.parse(lines, path)


def _line_from(file: BinaryIO, moment_us: int) -> int:
    """Return where the first line at or after a time begins, by bisection; its end if there is none."""
    moment = time_text(moment_us)
    low, high = 0, file.seek(0, 2)
    while low < high:
        middle = (low + high) // 2
        file.seek(_line_start(file, middle))
        line = file.readline()
        try:
            reached = not line or json.loads(line)["publish_time"] >= moment
        except (ValueError, KeyError, TypeError):
            raise DamagedFile(f"{file.name}: not JSON lines of ticks: {line[:60]!r}") from None
        low, high = (low, middle) if reached else (middle + 1, high)
    return _line_start(file, low)


def _line_start(file: BinaryIO, position: int) -> int:
    """Return where the first line begins that begins at or after a position."""
    if not position:
        return 0
    file.seek(position - 1)
    file.readline()
    return file.tell()
