"""index.csv: what lies in markets/, one row a market file."""

import dataclasses
import io
from pathlib import Path

import pandas as pd

from tasks.ticks import text
from tasks.ticks.files import FileFacts

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
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        return {}
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
    table = pd.DataFrame([
        (row.market_id, row.event_id, *(("" if tick is None else text.time_text(tick)) for tick in (row.facts.first_tick, row.facts.last_tick)),
         row.facts.tick_records, row.facts.messages, row.file_path, row.facts.size_bytes, row.facts.checksum)
        for _, row in sorted(rows.items())
    ], columns=list(COLUMNS))
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()
