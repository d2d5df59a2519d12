"""index.csv: what is in markets/, one row per market file."""

import csv
import dataclasses
import functools
import itertools
import sys
import types
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from pathlib import Path

from tasks.errors import NewerVersion, UnreadableIndex
from tasks.export_directory.packed_records import Packed
from tasks.market_files import formats
from tasks.market_files.file_facts import FileFacts
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks import value_text

COLUMNS = (
    "market_id",
    "event_id",
    "first_tick_timestamp",
    "last_tick_timestamp",
    "total_tick_records",
    "total_messages",
    "file_path",
    "file_size_bytes",
    "checksum",
)

_ROWS_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class IndexRow:
    """One market file in the index; file_path is relative to the output directory."""

    market_id: str
    event_id: str
    file_path: str
    facts: FileFacts


class Index(Mapping[str, IndexRow]):
    """The rows of an index by market id. Rows are created on demand, so that facts and names are held only once.

    layout: where the market files are; events: the event id of each market; facts: of each file.
    """

    def __init__(self, layout: Layout, events: dict[str, str], facts: Packed[FileFacts]) -> None:
        self._layout, self.events, self.facts = layout, events, facts

    def __getitem__(self, market_id: str) -> IndexRow:
        return IndexRow(market_id, self.events[market_id], self._layout.file_path(market_id), self.facts[market_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __contains__(self, market_id: object) -> bool:
        return market_id in self.events

    def __or__(self, other: "Index") -> "Index":
        """Return the rows of both; the other's row if both have one for a market."""
        return Index(other._layout, self.events | other.events, self.facts | other.facts)

    def keys(self) -> KeysView[str]:
        """Return the market ids."""
        return self.events.keys()


def read(path: Path) -> Index:
    """Return the rows of an index.csv; none if there is no file.

    Raises UnreadableIndex if its columns or values are not those of an index, NewerVersion if it has further columns.
    """
    try:
        return _read(path, FileStat.of(path.stat()))
    except FileNotFoundError:
        return Index(Layout(path.parent), {}, Packed(FileFacts))
    except NewerVersion:
        raise
    except OSError as error:  # an error of read() does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from None


@functools.lru_cache(1)
def _read(path: Path, stat: FileStat) -> Index:
    """Read the index; it is cached by its stat, and read again only if it has changed."""
    layout = Layout(path.parent)
    events: dict[str, str] = {}
    facts = Packed(FileFacts)
    try:
        for row in _rows(path):
            if not events:
                layout = dataclasses.replace(layout, format=_format(row.file_path, layout.format))
            if row.market_id in events:
                raise ValueError(f"two rows for market {row.market_id}")
            if row.file_path != layout.file_path(row.market_id):
                raise ValueError(
                    f"file_path {row.file_path!r} of market {row.market_id}, expected"
                    f" {layout.file_path(row.market_id)!r}"
                )
            facts[row.market_id] = row.facts
            events[sys.intern(row.market_id)] = sys.intern(row.event_id)
    except (ValueError, csv.Error) as error:
        raise UnreadableIndex(f"{path}: {error}") from None
    return Index(layout, events, facts)


def _format(file_path: str, otherwise: str) -> str:
    suffix = file_path.rpartition(".")[2]
    return suffix if suffix in formats.NAMES else otherwise


def _rows(path: Path) -> Iterator[IndexRow]:
    with open(path, encoding="utf-8-sig", newline="") as file:  # a spreadsheet program may have saved it
        lines = filter(None, csv.reader(file, strict=True))
        header = tuple(next(lines, ()))
        if further := sorted(set(header) - set(COLUMNS)) if header[: len(COLUMNS)] == COLUMNS else []:
            raise NewerVersion(path, f"further columns ({', '.join(further)[:200]})", ", ".join(COLUMNS))
        if header != COLUMNS:
            raise ValueError(f"has columns {', '.join(header)}, expected {', '.join(COLUMNS)}")
        while some := list(itertools.islice(lines, _ROWS_AT_ONCE)):
            if set(map(len, some)) != {len(COLUMNS)}:
                raise ValueError(f"a row does not have {len(COLUMNS)} values")
            columns = list(zip(*some, strict=True))
            first, last = (value_text.parse_times(columns[number]) for number in (2, 3))
            for market_id, event_id, begin, end, ticks, messages, file_path, size, checksum in zip(
                columns[0], columns[1], first, last, *columns[4:], strict=True
            ):
                yield IndexRow(
                    market_id,
                    event_id,
                    file_path,
                    FileFacts(begin, end, int(ticks), int(messages), int(size), checksum),
                )


def render(rows: Mapping[str, IndexRow]) -> Iterator[bytes]:
    """Yield the content of index.csv, sorted by market_id."""
    yield _csv([COLUMNS])
    market_ids = sorted(rows)
    for start in range(0, len(market_ids), _ROWS_AT_ONCE):
        some = [rows[market_id] for market_id in market_ids[start : start + _ROWS_AT_ONCE]]
        first, last = (
            value_text.time_texts(moments)
            for moments in zip(*((row.facts.first_tick, row.facts.last_tick) for row in some), strict=True)
        )
        yield _csv(
            (
                row.market_id,
                row.event_id,
                begin,
                end,
                row.facts.tick_records,
                row.facts.messages,
                row.file_path,
                row.facts.size_bytes,
                row.facts.checksum,
            )
            for row, begin, end in zip(some, first, last, strict=True)
        )


def _csv(lines: Iterable[Sequence[object]]) -> bytes:
    written: list[str] = []
    # It writes a line at a time. With this end of one it quotes a carriage return that stands alone, which it would
    # read as an end.
    csv.writer(types.SimpleNamespace(write=written.append), lineterminator="\r\n").writerows(lines)
    return "".join(line.removesuffix("\r\n") + "\n" for line in written).encode()
