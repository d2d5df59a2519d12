"""Ticks out of PostgreSQL: whole columns by the ADBC driver, bytes to arrays, never a Python object a row."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self

import adbc_driver_manager
import adbc_driver_postgresql
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.ticks.database import KEEP_FREED_MEMORY, Server, one_line, runner_query, tick_queries
from tasks.ticks.errors import DatabaseError, UnreadableRow
from tasks.ticks.ranks import Ints
from tasks.ticks.schema import FIRST_TIME_US, LAST_TIME_US, MAX_LEVEL
from tasks.ticks.ticks import TRADED, Ticks

#: The server's word that the connection, not the query, is at fault (PostgreSQL's error code classes 08, 53, 57, 58).
_CONNECTION_CLASSES = ("08", "53", "57", "58")

#: 2000-01-01 UTC, from which PostgreSQL counts, in microseconds since 1970.
_YEAR_2000_US = 946_684_800_000_000


@dataclasses.dataclass(frozen=True)
class Rows:
    """What to read: markets, and for a single market the half-open range of publish_time (None: no bound)."""

    market_ids: tuple[str, ...]
    lower_us: int | None = None
    upper_us: int | None = None


class TooManyRows(Exception):
    """More rows than asked for; times are those of the rows that came."""

    def __init__(self, times: Ints) -> None:
        self.times = times


class TickReader:
    """Reads ticks within one snapshot at a time. Not for use by two threads at once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._closing = contextlib.ExitStack()
        try:
            database = self._closing.enter_context(adbc_driver_postgresql.connect(server.conninfo()))
            self._connection = self._closing.enter_context(adbc_driver_manager.AdbcConnection(database))
            self._connection.set_autocommit(False)
            self._execute(KEEP_FREED_MEMORY)
        except adbc_driver_manager.Error as error:
            self.close()
            raise DatabaseError(f"No connection to {server}: {_message(error)}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._closing.close()

    def begin_snapshot(self) -> int:
        """Start to read the database as it is now; return that time by the server's clock, microseconds since 1970."""
        self._connection.rollback()
        moment = self._fetch("SELECT statement_timestamp() AS moment").column("moment")
        return int(moment.cast(pa.int64())[0].as_py())

    def selection_ids(self, market_id: str) -> list[int]:
        """Return the selection ids of a market in either table."""
        return self._fetch(runner_query(market_id)).column(0).to_pylist()

    def read(self, rows: Rows, selection_ids: Sequence[int] | None, limit: int) -> Ticks:
        """Return the ticks as the server sent them; Ticks.market is the position in rows.market_ids.

        Raises TooManyRows when a table has more than limit rows, UnreadableRow for a row that is no tick, DatabaseError
        when the connection is lost.
        """
        statements = tick_queries(rows.market_ids, selection_ids, rows.lower_us, rows.upper_us, limit + 1)
        ladder, traded = (_Rows(self._fetch(statement), rows.market_ids) for statement in statements)
        if max(ladder.count, traded.count) > limit:
            raise TooManyRows(np.concatenate([ladder.times("publish_time"), traded.times("publish_time")]))
        return Ticks.concatenate([_ladder_ticks(ladder), _traded_ticks(traded)])

    def _fetch(self, statement: str) -> pa.Table:
        try:
            return self._execute(statement)
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
            state = getattr(error, "sqlstate", None) or ""
            if not state.strip("\0") or state.startswith(_CONNECTION_CLASSES):
                if not self._is_alive():
                    raise DatabaseError(f"The connection to {self._server} was lost: {_message(error)}.") from None
            raise UnreadableRow(_message(error)) from None

    def _execute(self, statement: str) -> pa.Table:
        # not the driver's DB-API layer: that prepares every statement first, and imports polars where it is installed
        with adbc_driver_manager.AdbcStatement(self._connection) as query:
            query.set_sql_query(statement)
            stream, _ = query.execute_query()
            return pa.RecordBatchReader.from_stream(stream).read_all()

    def _is_alive(self) -> bool:
        try:
            self._connection.rollback()
            self._execute("SELECT 1")
        except (adbc_driver_manager.Error, pa.ArrowException, OSError):
            return False
        return True


def _message(error: BaseException) -> str:
    """Return what the server said, without the driver's words around it."""
    text = one_line(error)
    text = text.split("ERROR:", 1)[-1].split("FATAL:", 1)[-1]
    return text.split("Query was:", 1)[0].strip().rstrip(".")


class _Rows:
    """n rows of a table as arrays of length n, out of the answer to one of database.tick_queries."""

    def __init__(self, answer: pa.Table, market_ids: Sequence[str]) -> None:
        counts = answer.column("rows").to_pylist()
        self._answer = answer
        self.count = sum(counts)
        self.market = np.zeros(self.count, np.int64)
        if len(market_ids) > 1:
            positions = {market_id: position for position, market_id in enumerate(market_ids)}
            self.market += np.repeat([positions[market_id] for market_id in answer.column("market_id").to_pylist()], counts)

    def integers(self, name: str, what: str | None = None) -> Ints:
        """Return a column of type bigint; what it holds, for the error, if not what its name says."""
        values = b"".join(part for part in self._answer.column(name).to_pylist() if part is not None)
        if len(values) != 8 * self.count:
            raise UnreadableRow(f"{self.count - len(values) // 8} rows have no valid {what or name}")
        return np.frombuffer(values, ">i8").astype(np.int64)

    def floats(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column of type double precision."""
        return self.integers(name).view(np.float64)

    def times(self, name: str) -> Ints:
        """Return a column of type timestamptz, in microseconds since 1970."""
        times = self.integers(name)
        if self.count and not FIRST_TIME_US <= int(times.min()) + _YEAR_2000_US <= int(times.max()) + _YEAR_2000_US <= LAST_TIME_US:
            raise UnreadableRow(f"a row has a {name} before the year 1 or after 9999, or at infinity")
        return times + _YEAR_2000_US


def _ladder_ticks(rows: _Rows) -> Ticks:
    runner = rows.integers("runner", "selection_id, level or side")
    level = (runner >> 1) % 65536 - 32768
    if len(level) and not 0 <= int(level.min()) <= int(level.max()) <= MAX_LEVEL:
        raise UnreadableRow(f"a ladder row has level {level[(level < 0) | (level > MAX_LEVEL)][0]}, expected 0 to {MAX_LEVEL}")
    return Ticks(rows.market, rows.times("publish_time"), rows.times("received_time"), runner >> 17,
                 (runner & 1).astype(np.int8), level.astype(np.int16), rows.floats("price"), rows.floats("size"))


def _traded_ticks(rows: _Rows) -> Ticks:
    return Ticks(rows.market, rows.times("publish_time"), rows.times("received_time"), rows.integers("runner", "selection_id"),
                 np.full(rows.count, TRADED, np.int8), np.zeros(rows.count, np.int16), rows.floats("price"), rows.floats("size"))


def read_market(reader: TickReader, market_id: str, selection_ids: Sequence[int] | None, bounds_us: Sequence[int],
                limit: int, lower_us: int | None = None, upper_us: int | None = None) -> Iterator[tuple[Ticks, int | None]]:
    """Yield a market's ticks of [lower_us, upper_us) in slices of ascending, disjoint publish_time, each with its exclusive
    upper bound.

    bounds_us says where to cut; a slice with more than limit rows of a table is cut further. The last bound is upper_us.
    """
    edges: list[int | None] = [lower_us, *bounds_us, upper_us]
    waiting = [Rows((market_id,), lower, upper) for lower, upper in zip(edges, edges[1:])][::-1]
    while waiting:
        rows = waiting.pop()
        try:
            yield reader.read(rows, selection_ids, limit), rows.upper_us
        except TooManyRows as error:
            first, last = int(error.times.min()), int(error.times.max())
            if first == last:  # one message alone is larger: it cannot be cut
                waiting += [Rows((market_id,), first + 1, rows.upper_us)]
                yield reader.read(Rows((market_id,), rows.lower_us, first + 1), selection_ids, 1 << 62), first + 1
            else:
                middle = max(int(np.median(error.times)), first + 1)
                waiting += [Rows((market_id,), middle, rows.upper_us), Rows((market_id,), rows.lower_us, middle)]
