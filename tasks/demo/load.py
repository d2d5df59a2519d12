"""Load a recording into PostgreSQL, as the recorder would."""

import contextlib
import dataclasses
import datetime
import importlib.resources
import io
from collections.abc import Iterator
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import numpy as np
import psycopg2
import pyarrow as pa
import pyarrow.csv

from tasks.demo.arrays import Bools, Ints, noise, within
from tasks.demo.books import Books
from tasks.demo.markets import Markets
from tasks.demo.messages import Messages, lifecycle_rows, timestamps
from tasks.demo.names import event_rows, market_rows, runner_rows
from tasks.demo.recording import DAY_MS, Recording

_CHUNK_ROWS = 500_000

#: The statements that drop each key and index of a table, and those that create them again.
_KEYS = """
    SELECT 'ALTER TABLE ' || conrelid::regclass || ' DROP CONSTRAINT ' || conname,
           'ALTER TABLE ' || conrelid::regclass || ' ADD CONSTRAINT ' || conname || ' ' || pg_get_constraintdef(oid)
      FROM pg_constraint WHERE conrelid = %(table)s::regclass AND contype = 'p'
    UNION ALL
    SELECT 'DROP INDEX ' || indexrelid::regclass, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
      FROM pg_index WHERE indrelid = %(table)s::regclass AND NOT indisprimary
"""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was loaded.

    days: the UTC days that have ladder rows; markets: those with ticks and those without.
    """

    ladder_rows: int
    traded_rows: int
    messages: int
    markets: int
    markets_without_ticks: int
    days: tuple[datetime.date, ...]


def create_schema(connection: Any) -> None:
    """Create the recorder's tables, empty and without daily partitions, over a psycopg2 connection."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            importlib.resources.files("tasks.demo").joinpath("source_schema.sql").read_text(encoding="utf-8")
        )


def load(
    recording: Recording,
    conninfo: str,
    *,
    after: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
) -> Summary:
    """Fill the tables with what the recorder saw in [after, until), and create the partitions that this needs.

    Loading a recording in adjacent ranges gives the same rows as loading it at once.

    Args:
        conninfo: libpq's connection string of a database with the tables of create_schema().
        after, until: aware times. None: from the beginning, to the end.
    """
    books = Books(recording)
    lower, upper = (None if moment is None else _first_millisecond(moment) for moment in (after, until))
    messages = books.messages.by_time(lower, upper)
    new = within(books.markets.events.listed, lower, upper)[books.markets.event]  # first seen in this range
    connection = psycopg2.connect(conninfo)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor, adbc_driver_postgresql.dbapi.connect(conninfo, autocommit=True) as adbc:
            _create_partitions(cursor, recording, books.messages, messages)
            _load_metadata(adbc, recording, books.markets, new, lower, upper)
            with _without_keys(cursor) if after is None else contextlib.nullcontext():
                ladder, traded = _load_ticks(adbc, books, messages)
            _copy(cursor, "stream_ingest.market_liquidity_history", books.liquidity_rows(messages))
            _append(
                adbc,
                "stream_ingest",
                "market_lifecycle_events",
                lifecycle_rows(recording.seed, books.markets, books.messages, lower, upper),
            )
            cursor.execute("VACUUM ANALYZE")
    finally:
        connection.close()
    return Summary(
        ladder,
        traded,
        len(messages),
        int(new.sum()),
        int((new & (books.markets.messages == 0)).sum()),
        tuple(_day(number) for number in _day_numbers(books.messages, messages)),
    )


def _append(adbc: Any, schema: str, table: str, rows: pa.Table) -> None:
    try:
        with adbc.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append", db_schema_name=schema)
    except adbc_driver_manager.OperationalError as error:
        if error.status_code == adbc_driver_manager.AdbcStatusCode.CANCELLED:
            raise KeyboardInterrupt from None  # the driver has taken Ctrl-C for itself
        raise


def _copy(cursor: Any, table: str, rows: pa.Table) -> None:
    """Append rows as text: the pinned ADBC driver writes some decimals in a way that the server refuses."""
    text = io.BytesIO()
    pa.csv.write_csv(rows, text)
    text.seek(0)
    cursor.copy_expert(f"COPY {table} ({', '.join(rows.column_names)}) FROM STDIN (FORMAT csv, HEADER)", text)


def _load_ticks(adbc: Any, books: Books, messages: Ints) -> tuple[int, int]:
    """Load the ticks of the messages, in chunks that end where a publish_time does. Return the rows of both tables."""
    rows, times = np.cumsum(books.rows_of(messages)), books.messages.publish_time[messages]
    cuts = np.searchsorted(rows, np.arange(_CHUNK_ROWS, rows[-1] if len(rows) else 0, _CHUNK_ROWS))
    ladder_rows = traded_rows = 0
    for chunk in np.split(messages, np.unique(np.searchsorted(times, times[cuts]))):
        ladder, traded = books.ladder_rows(chunk), books.traded_rows(chunk)
        _append(adbc, "stream_ingest", "ladder_levels", ladder)
        _append(adbc, "stream_ingest", "traded_volume", traded)
        ladder_rows, traded_rows = ladder_rows + ladder.num_rows, traded_rows + traded.num_rows
    return ladder_rows, traded_rows


def _load_metadata(
    adbc: Any, recording: Recording, markets: Markets, new: Bools, lower: int | None, upper: int | None
) -> None:
    seed = recording.seed
    known = np.flatnonzero(new & markets.has_row)
    runners = np.flatnonzero((new & markets.has_row)[markets.runner_market])
    _append(adbc, "public", "events", event_rows(markets, np.unique(markets.event[known])))
    _append(adbc, "public", "markets", market_rows(markets, known))
    _append(adbc, "public", "runners", runner_rows(markets, runners))

    settled_at = markets.events.end[markets.event] + 300_000
    is_settled = (noise(seed, "settled", np.arange(len(markets))) < 0.7) & within(settled_at, lower, upper)
    settled, runners = np.flatnonzero(is_settled), np.flatnonzero(is_settled[markets.runner_market])
    removed = ~markets.is_winner & (noise(seed, "removed", np.arange(len(markets.is_winner))) < 0.03)
    status = np.where(markets.is_winner, "WINNER", np.where(removed, "REMOVED", "LOSER"))[runners]
    times = timestamps(settled_at[settled])
    _append(
        adbc,
        "public",
        "market_settlement",
        pa.table(
            {
                "market_id": markets.ids.take(settled),
                "settled_at": times,
                "source": pa.repeat("stream", len(settled)),
                "created_at": times,
            }
        ),
    )
    _append(
        adbc,
        "public",
        "market_runner_settlement",
        pa.table(
            {
                "market_id": markets.ids.take(markets.runner_market[runners]),
                "selection_id": markets.selection_id[runners],
                "runner_status": pa.array(status.tolist(), pa.string()),
            }
        ),
    )


def _first_millisecond(moment: datetime.datetime) -> int:
    """Return the first whole millisecond since 1970 that is not before the moment."""
    return -((datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) - moment) // datetime.timedelta(milliseconds=1))


def _day(number: int) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=number)


def _day_numbers(of_message: Messages, messages: Ints) -> list[int]:
    """Return the UTC days, counted from 1970, that have messages."""
    days: list[int] = np.unique(of_message.publish_time[messages] // DAY_MS).tolist()
    return days


def _create_partitions(cursor: Any, recording: Recording, of_message: Messages, messages: Ints) -> None:
    """Create the partition of each day that has messages, and the one for what is older than daily partitions."""
    first_daily = recording.start_ms // DAY_MS + recording.older_days
    ranges = [("older", "MINVALUE", f"'{_day(first_daily)} 00:00+00'")]
    for number in _day_numbers(of_message, messages):
        if number >= first_daily:
            ranges.append((f"{_day(number):%Y%m%d}", f"'{_day(number)} 00:00+00'", f"'{_day(number + 1)} 00:00+00'"))
    for name, start, end in ranges:
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS stream_ingest.ladder_levels_{name} "
            f"PARTITION OF stream_ingest.ladder_levels FOR VALUES FROM ({start}) TO ({end})"
        )


@contextlib.contextmanager
def _without_keys(cursor: Any) -> Iterator[None]:
    """Drop the keys of the large tables and create them again afterwards, which is three times as fast as to keep
    them.
    """
    statements = []
    for table in ("stream_ingest.ladder_levels", "stream_ingest.traded_volume"):
        cursor.execute(_KEYS, {"table": table})
        statements += cursor.fetchall()
    for drop, _ in statements:
        cursor.execute(drop)
    yield
    cursor.execute("SET maintenance_work_mem = '512MB'")
    for _, create in statements:
        cursor.execute(create)
