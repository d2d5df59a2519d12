"""Find late rows: older than the newest tick of a complete market file, so that nothing else would notice them."""

import collections
import concurrent.futures
import os
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from tasks.errors import DamagedFile
from tasks.market_files import market_file
from tasks.market_files.time_span import DAY_US, Span
from tasks.postgres.database import Database, Table
from tasks.postgres.parallel_questions import ask_each
from tasks.postgres.source_tables import LADDER, TRADED
from tasks.storage.layout import Layout
from tasks.ticks.tick_arrays import TRADED as TRADED_SIDE

_PART_MARKETS = 500
_READ_ROWS = 131_072

#: Ticks by day since 1970 and whether traded.
Counts = collections.Counter[tuple[int, bool]]


def markets_with_late_rows(database: Database, layout: Layout, market_ids: Collection[str], span: Span) -> list[str]:
    """Return, sorted, the markets with more rows in the database than in their file on a day of the span.

    Rows are counted in the database's index, separately for ladder and traded. A file with more rows than the database
    is not late: the database has dropped them. A file that cannot be read counts as late: its refresh says what is
    wrong.
    """
    stored = _stored(database, set(market_ids), span)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)), "count") as pool:
        held = pool.map(lambda market_id: _held(layout, market_id, span), stored)
        return sorted(
            market_id
            for market_id, counts in zip(stored, held)
            if counts is None or any(counts[key] < number for key, number in stored[market_id].items())
        )


def _stored(database: Database, market_ids: set[str], span: Span) -> dict[str, Counts]:
    stored: dict[str, Counts] = {}
    for name in (LADDER, TRADED):
        parts = list(_parts(database, name, market_ids, span))  # before others use the connection
        for found in ask_each(
            database, lambda connection, part: connection.day_counts(*part, span.lower_us, span.upper_us), parts
        ):
            for market_id, day, number in found:
                stored.setdefault(market_id, Counts())[day, name == TRADED] += number
    return stored


def _parts(database: Database, name: str, market_ids: set[str], span: Span) -> Iterator[tuple[Table, Sequence[str]]]:
    """Yield a table and the markets to ask about in one query."""
    for table in database.tables_between(name, span.lower_us, span.upper_us):
        wanted = sorted(market_ids.intersection(database.market_ids(table)))
        for start in range(0, len(wanted), _PART_MARKETS):
            yield table, wanted[start : start + _PART_MARKETS]


def _held(layout: Layout, market_id: str, span: Span) -> Counts | None:
    """Return the number of ticks of a market file in a span; None if it cannot be read."""
    counts = Counts()
    try:
        for ticks in market_file.read_span(layout.market_file(market_id), 0, span, _READ_ROWS):
            keys, numbers = np.unique(
                ticks.publish_time // DAY_US * 2 + (ticks.side == TRADED_SIDE), return_counts=True
            )
            for key, number in zip(keys.tolist(), numbers.tolist()):
                counts[key // 2, bool(key % 2)] += number
    except (DamagedFile, OSError):
        return None
    return counts
