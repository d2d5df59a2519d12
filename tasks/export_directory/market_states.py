"""states/marketId=<id>.parquet: status and in-play of a market over time, one row per interval.

How rows become intervals: of lifecycle rows with the same publish_time, the one received last counts, separately for
each of the two values (ties are broken by the values). If a row has no value, the previous one stays valid. Rows that
repeat the current values only move last_seen. A refresh only adds: times that the database no longer has stay as they
are in the file.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.market_files.decoding import decoding, require_regular
from tasks.market_files.format_versions import require_schema
from tasks.storage.layout import Layout
from tasks.ticks.schema import TIME
from tasks.ticks.sort_keys import Ints

SCHEMA = pa.schema(
    [
        pa.field("market_id", pa.string(), nullable=False),
        pa.field("status", pa.string()),
        pa.field("in_play", pa.bool_()),
        pa.field("valid_from", TIME, nullable=False),
        pa.field("valid_until", TIME),
        pa.field("last_seen", TIME, nullable=False),
    ]
)


class State(NamedTuple):
    """The status and in-play of a market in [from_us, until_us); None: unknown, or no end yet.

    last_seen_us: the time of the last row with these values. Times are microseconds since 1970.
    """

    from_us: int
    until_us: int | None
    last_seen_us: int
    status: str | None
    in_play: bool | None


Seen = tuple[int, str | None, bool | None]


def intervals(seen: Iterable[Seen]) -> list[State]:
    """Return the intervals made from rows (time, status, in-play); of rows with the same time the last one counts."""
    states: list[State] = []
    status: str | None = None
    in_play: bool | None = None
    for moment, new_status, new_in_play in seen:
        status = status if new_status is None else new_status
        in_play = in_play if new_in_play is None else new_in_play
        if states and states[-1].from_us == moment:  # more rows of one time
            states.pop()
            if states:
                states[-1] = states[-1]._replace(until_us=None)
        if states and (states[-1].status, states[-1].in_play) == (status, in_play):
            states[-1] = states[-1]._replace(last_seen_us=moment)
            continue
        if states:
            states[-1] = states[-1]._replace(until_us=moment)
        states.append(State(moment, None, moment, status, in_play))
    return states


def merged(seen: Sequence[Seen], before: Sequence[State]) -> list[State]:
    """Return the intervals made from the database's rows, and from times that only the file has."""
    known = {moment for moment, _, _ in seen}
    kept = [
        (moment, state.status, state.in_play)
        for state in before
        for moment in sorted({state.from_us, state.last_seen_us})
        if moment not in known
    ]
    return intervals(sorted([*seen, *kept], key=lambda row: row[0]))  # stable: rows of one time keep their order


def to_table(market_id: str, states: Sequence[State]) -> pa.Table:
    """Return intervals as the table in their file."""
    columns = {
        "market_id": [market_id] * len(states),
        "status": [state.status for state in states],
        "in_play": [state.in_play for state in states],
        "valid_from": [state.from_us for state in states],
        "valid_until": [state.until_us for state in states],
        "last_seen": [state.last_seen_us for state in states],
    }
    arrays = [
        pa.array(columns[field.name], pa.int64() if field.type == TIME else field.type).cast(field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def render(market_id: str, states: Sequence[State]) -> bytes:
    """Return the content of a states file."""
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(market_id, states), sink, version="2.6", compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def read_table(path: Path) -> pa.Table:
    """Return a states file as a table.

    Raises DamagedFile if it is not one, NewerVersion if it has further columns, FileNotFoundError if there is none.
    """
    require_regular(path)
    with decoding(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        require_schema(path, file.schema_arrow, SCHEMA, "states")
        return file.read(use_threads=False)


def read(layout: Layout, market_id: str) -> list[State]:
    """Return the intervals of a market, none if there is no file. Raises DamagedFile."""
    try:
        table = read_table(layout.states_file(market_id))
    except FileNotFoundError:
        return []
    times = [table.column(name).cast(pa.int64()).to_pylist() for name in ("valid_from", "valid_until", "last_seen")]
    return [State(*row) for row in zip(*times, table.column("status").to_pylist(), table.column("in_play").to_pylist())]


def position_at(states: Sequence[State], times: Ints) -> Ints:
    """Return the position of the interval that each time is in, -1 before the first."""
    starts = np.array([state.from_us for state in states], np.int64)
    return np.asarray(np.searchsorted(starts, times, side="right") - 1, np.int64)


def off_us(states: Sequence[State]) -> int | None:
    """Return when a market went in play: the last change to in-play, so that a false start does not count; None if it
    never did, or if that is unknown.
    """
    off, before = None, None
    for state in states:
        if state.in_play and not before:
            off = state.from_us
        before = state.in_play
    return off
