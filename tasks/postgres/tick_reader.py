"""Read ticks from PostgreSQL: whole columns in the binary COPY format, from bytes to arrays, no Python object
per row.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import io
import itertools
import queue
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import psycopg2
import psycopg2.extensions

from tasks.errors import DatabaseError, TableGone, UnreadableRow
from tasks.postgres import source_tables, waiting
from tasks.postgres.database import is_table_gone
from tasks.postgres.question_statements import CLOCK
from tasks.postgres.server import Server, one_line
from tasks.postgres.session import Session
from tasks.postgres.source_tables import SourceTables, look_over
from tasks.postgres.tick_decoder import TickRows, ladder_ticks, traded_ticks
from tasks.postgres.tick_statements import (
    AFTER_FAILED_READ,
    AFTER_READ,
    BEFORE_READ,
    EXPORT_SNAPSHOT,
    IMPORT_SNAPSHOT,
    KEEP_FREED_MEMORY,
    TOGETHER_SETTINGS,
    TickQuery,
    runner_query,
    tick_queries,
)
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks


@dataclasses.dataclass(frozen=True)
class Rows:
    """What to read: markets, and for a single market the half-open range of publish_time (None: no bound)."""

    market_ids: tuple[str, ...]
    lower_us: int | None = None
    upper_us: int | None = None


class TooManyRows(Exception):
    """There are more rows than the limit; times: of the rows that were read."""

    def __init__(self, times: Ints) -> None:
        self.times = times


class TickReader:
    """Reads ticks within one snapshot at a time. Not for use by two threads at once.

    tables: where the recorder's tables are, if that is known already; settings: of the session, overriding the usual
    ones.
    """

    def __init__(
        self, server: Server, tables: SourceTables | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._server, self._settings = server, dict(settings or {})
        self._is_reading = False
        self._session = Session(server, TOGETHER_SETTINGS | self._settings)
        try:
            self._tables = tables or look_over(self._session, (source_tables.LADDER, source_tables.TRADED))
            self._fetch(KEEP_FREED_MEMORY)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def begin_snapshot(self) -> int:
        """Start to read the database as it is now; return that time by the server's clock, microseconds since 1970."""
        self._session.rollback()
        ((moment,),) = self._fetch(CLOCK)
        return int(moment)

    def of_same_snapshot(self) -> Self:
        """Return another reader of the same snapshot, with a connection of its own."""
        ((snapshot,),) = self._fetch(EXPORT_SNAPSHOT)
        other = type(self)(self._server, self._tables, self._settings)
        try:
            other._session.rollback()
            other._fetch(IMPORT_SNAPSHOT, {"snapshot": snapshot})
        except BaseException:
            other.close()
            raise
        return other

    def selection_ids(self, market_id: str) -> list[int]:
        """Return the selection ids of a market in either table. Raises UnreadableRow if it has rows without any."""
        selection_ids = [
            selection_id
            for (selection_id,) in self._fetch(runner_query(self._session.connection, self._tables, market_id))
        ]
        if None in selection_ids:
            raise UnreadableRow("its rows have no selection_id")
        return selection_ids

    def read(self, rows: Rows, selection_ids: Sequence[int] | None, limit: int) -> Ticks:
        """Return the ticks as the server sent them; Ticks.market is the position in rows.market_ids.

        Raises TooManyRows if a table has more than limit rows, UnreadableRow for a row that is not a tick, and
        DatabaseError if the connection is lost.
        """
        with self._reading():
            ladder, traded = tick_queries(
                self._session.connection,
                self._tables,
                rows.market_ids,
                selection_ids,
                rows.lower_us,
                rows.upper_us,
                limit + 1,
            )
            return Ticks.concatenate(
                [
                    ladder_ticks(self._rows(ladder, rows.market_ids, limit)),
                    traded_ticks(self._rows(traded, rows.market_ids, limit)),
                ]
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep the snapshot even if a read fails: the next one must see the same moment."""
        self._fetch(BEFORE_READ)
        self._is_reading = True
        try:
            yield
        except DatabaseError:  # the connection is gone or abandoned: there is no snapshot to keep
            self._is_reading = False
            raise
        finally:
            if self._is_reading:  # no statement has failed
                self._is_reading = False
                self._fetch(AFTER_READ)

    def _rows(self, query: TickQuery, market_ids: Sequence[str], limit: int) -> "TickRows":
        answer = io.BytesIO()
        with self._asking() as cursor:
            cursor.copy_expert(f"COPY ({query.statement}) TO STDOUT (FORMAT binary)", answer)
        rows = TickRows(answer.getbuffer(), query.columns, market_ids)
        if rows.count > limit:
            raise TooManyRows(rows.times("publish_time"))
        return rows

    def _fetch(self, statement: str, parameters: Mapping[str, str] | None = None) -> list[tuple[Any, ...]]:
        try:
            with self._asking() as cursor:
                cursor.execute(statement, parameters)
                return list(cursor) if cursor.description else []
        except UnreadableRow as error:  # these queries do not read the values of ticks
            raise DatabaseError(f"A query on {self._server} failed: {error}.") from None

    @contextlib.contextmanager
    def _asking(self) -> Iterator[psycopg2.extensions.cursor]:
        """Yield a cursor; tell errors of the connection from errors of a row."""
        try:
            with self._session.cursor() as cursor, self._session.waited("ticks"):
                yield cursor
        except psycopg2.Error as error:
            waiting.raise_if_interrupted()
            if not self._is_alive():
                raise self._session.failure(f"The connection to {self._server} was lost", error) from None
            if is_table_gone(error):
                raise TableGone(f"A query on {self._server} failed: {one_line(error)}.") from None
            if self._session.advice(error):  # no market is the reason, and the next one would wait as long
                raise self._session.failure(f"A query on {self._server} failed", error) from None
            raise UnreadableRow(one_line(error)) from None

    def _is_alive(self) -> bool:
        """Return whether the connection works, and make it ready for the next query."""
        was_reading, self._is_reading = self._is_reading, False
        return self._session.is_alive(AFTER_FAILED_READ if was_reading else None)


def read_market(
    readers: Sequence[TickReader],
    market_id: str,
    selection_ids: Sequence[int] | None,
    bounds_us: Sequence[int],
    limit: int,
    lower_us: int | None = None,
    upper_us: int | None = None,
) -> Iterator[tuple[Ticks, int | None]]:
    """Yield a market's ticks of [lower_us, upper_us) in slices of ascending, disjoint publish_time, each with its
    exclusive upper bound.

    readers: of one snapshot; each reads a slice at a time. bounds_us says where to cut; a slice with more than
    limit rows of a table is cut further. The last bound is upper_us.
    """
    edges: list[int | None] = [lower_us, *bounds_us, upper_us]
    slices = collections.deque(
        _Slice(Rows((market_id,), lower, upper), limit) for lower, upper in zip(edges, edges[1:])
    )
    free: queue.SimpleQueue[TickReader] = queue.SimpleQueue()
    for reader in readers:
        free.put(reader)

    def read(wanted: _Slice) -> Ticks:
        reader = free.get()
        try:
            return reader.read(wanted.rows, selection_ids, wanted.limit)
        finally:
            free.put(reader)

    with concurrent.futures.ThreadPoolExecutor(
        len(readers), "read"
    ) as pool:  # if the caller stops early, it waits for the reads in progress
        while slices:
            for ahead in itertools.islice(slices, len(readers)):
                ahead.answer = ahead.answer or pool.submit(read, ahead)
            first = slices.popleft()
            assert first.answer is not None
            try:
                yield first.answer.result(), first.rows.upper_us
            except TooManyRows as error:
                slices.extendleft(reversed(_halves(first.rows, limit, error.times)))


@dataclasses.dataclass
class _Slice:
    """Rows to be read, at most limit of each table. answer: set when a reader begins to read them."""

    rows: Rows
    limit: int
    answer: concurrent.futures.Future[Ticks] | None = None


def _halves(rows: Rows, limit: int, times: Ints) -> list[_Slice]:
    """Cut a range that has more than limit rows of a table. times: of the rows that were read."""
    first, last = int(times.min()), int(times.max())
    if first == last:  # a single message is larger than limit: it cannot be cut
        cut, most = first + 1, 1 << 62
    else:
        cut, most = max(int(np.median(times)), first + 1), limit
    return [
        _Slice(dataclasses.replace(rows, upper_us=cut), most),
        _Slice(dataclasses.replace(rows, lower_us=cut), limit),
    ]
