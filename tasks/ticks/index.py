"""index.csv: what lies in markets/, one row a market file."""

import dataclasses
import functools
import io
from pathlib import Path

import pandas as pd

from tasks.ticks import text
from tasks.ticks.files import FileFacts
from tasks.ticks.publish import FileStat

COLUMNS = ("market_id", "event_id", "first_tick_timestamp", "last_tick_timestamp", "total_tick_records", "total_messages",
           "file_path", "file_size_bytes", "checksum")


@dataclasses.dataclass(frozen=True, slots=True)
class IndexRow:
    """One market file in the index; file_path is relative to the output directory."""

    market_id: str
    event_id: str
    file_path: str
    facts: FileFacts


class UnreadableIndex(ValueError):
    """index.csv is not one that write() has made."""


def read(path: Path) -> dict[str, IndexRow]:
    """Return the rows of an index.csv by market id; none where there is no file.

    Raises UnreadableIndex where its columns or values are not an index's.
    """
    try:
        return dict(_read(path, FileStat.of(path.stat())))
    except FileNotFoundError:
        return {}


@functools.lru_cache(1)
def _read(path: Path, stat: FileStat) -> dict[str, IndexRow]:
    """Read the index as it is by stat; it is read again only when it has changed."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        raise UnreadableIndex(f"{path}: {error}") from None
    if tuple(table.columns) != COLUMNS:
        raise UnreadableIndex(f"{path}: has columns {', '.join(table.columns)}, expected {', '.join(COLUMNS)}")
    columns = [table[name].tolist() for name in COLUMNS]
    if len(set(columns[0])) != len(columns[0]):
        raise UnreadableIndex(f"{path}: two rows of one market")
    try:
        first, last = (text.parse_times(columns[number]) for number in (2, 3))
        return {market_id: IndexRow(market_id, event_id, file_path, FileFacts(begin, end, int(ticks), int(messages), int(size), checksum))
                for market_id, event_id, begin, end, ticks, messages, file_path, size, checksum
                in zip(columns[0], columns[1], first, last, *columns[4:], strict=True)}
    except ValueError as error:
        raise UnreadableIndex(f"{path}: {error}") from None


def render(rows: dict[str, IndexRow]) -> bytes:
    """Return the content of index.csv, sorted by market_id."""
    ordered = [row for _, row in sorted(rows.items())]
    facts = [row.facts for row in ordered]
    table = pd.DataFrame(dict(zip(COLUMNS, (
        [row.market_id for row in ordered], [row.event_id for row in ordered],
        text.time_texts([fact.first_tick for fact in facts]), text.time_texts([fact.last_tick for fact in facts]),
        [fact.tick_records for fact in facts], [fact.messages for fact in facts],
        [row.file_path for row in ordered], [fact.size_bytes for fact in facts], [fact.checksum for fact in facts]), strict=True)))
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()
