"""The small queries: which markets there are, how new and how large they are. Only reads."""

import contextlib
import dataclasses
import datetime
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, LiteralString

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from tasks.errors import TableGone
from tasks.postgres import waiting
from tasks.postgres.market_metadata import MarketMetadata
from tasks.postgres.question_statements import (
    BETWEEN,
    CLOCK,
    DAY_COUNTS,
    DAY_COUNTS_SCANNED,
    EVENT_IDS,
    LEAVES,
    MARKET_IDS,
    MARKET_IDS_SCANNED,
    METADATA,
    NEWEST,
    NEWEST_SCANNED,
    RUNNERS_BETWEEN,
    RUNNERS_BETWEEN_SCANNED,
    SAMPLE,
)
from tasks.postgres.server import Server, one_line
from tasks.postgres.session import Session, WatchedCursor
from tasks.postgres.source_tables import LIFECYCLE, MARKETS, RUNNERS, Relation, SourceTables, look_over

_log = logging.getLogger("tick_export.database")

_ROWS_AT_ONCE = 2_000
_METADATA_TABLES = {"markets": MARKETS, "lifecycle": LIFECYCLE, "runners": RUNNERS}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that itself holds rows: traded_volume, or a partition of ladder_levels.

    pages: the size of its file; is_ordinary: whether it is a plain table in this database, with the platform's indexes.
    """

    schema: str
    name: str
    pages: int
    is_ordinary: bool = True

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name for SQL."""
        return sql.Identifier(self.schema, self.name)


class Database:
    """Small queries to the database. TickReader reads the ticks.

    tables: where the recorder's tables are, if that is known already.
    """

    def __init__(self, server: Server, tables: SourceTables | None = None) -> None:
        self.server = server
        self._session = Session(server)
        try:
            self.source_tables = tables or look_over(self._session)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def query(
        self, statement: LiteralString | sql.Composable, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, in a transaction of its own. Raises DatabaseError."""
        with self._transaction(None) as cursor:
            cursor.execute(statement, parameters)
            return list(cursor)

    def stream(
        self, statement: LiteralString | sql.Composable, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a large SELECT, in a transaction of its own. Raises DatabaseError."""
        with self._transaction("stream") as cursor:
            cursor.execute(statement, parameters)
            while rows := self._next_rows(cursor):
                yield from rows

    def _next_rows(self, cursor: psycopg2.extensions.cursor) -> list[tuple[Any, ...]]:
        with self._session.waited("the rest of an answer"):
            return list(cursor.fetchmany(_ROWS_AT_ONCE))

    @contextlib.contextmanager
    def _transaction(self, name: str | None) -> Iterator[psycopg2.extensions.cursor]:
        try:
            with self._session.cursor(name) as cursor:
                yield WatchedCursor(cursor, self._session)
        except psycopg2.Error as error:
            waiting.raise_if_interrupted()
            what = f"A query on {self.server} failed"
            if is_table_gone(error):
                raise TableGone(f"{what}: {one_line(error)}.") from None
            raise self._session.failure(what, error) from None
        finally:
            self._session.rollback()  # ends the snapshot: an idle one would hold back the server's vacuum

    def tables(self, name: str) -> list[Table]:
        """Return the tables that hold the rows of one of the recorder's tables: its leaf partitions, or the table.

        It is the table itself, too, if the user may read it but not all of its partitions: a GRANT on a table does not
        cover queries that name them. With very many markets that is slower, because each probe visits every partition.
        """
        return [table for relation in self.source_tables.relations[name] for table in self._leaves(relation)]

    def quoted_names(self, name: str) -> list[str]:
        """Return the tables that one of the recorder's tables is read from, as SQL text."""
        return [self._session.quoted(relation.identifier) for relation in self.source_tables.relations[name]]

    def _leaves(self, relation: Relation) -> list[Table]:
        rows = self.query(LEAVES, {"table": self._session.quoted(relation.identifier)})
        if not all(may_read for *_, may_read, _ in rows):
            is_ordinary = all(kind == "r" for _, _, kind, _, _ in rows)
            return [Table(relation.schema, relation.name, sum(pages for *_, pages in rows), is_ordinary)]
        return [Table(schema, leaf, pages, kind == "r") for schema, leaf, kind, _, pages in rows]

    def _of_leaf(
        self, table: Table, statement: str, scanned: str, parameters: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement on one table; none if the platform has dropped it in the meantime."""
        text = statement if table.is_ordinary else scanned
        try:
            return self.query(sql.SQL(text).format(table=table.identifier), parameters)
        except TableGone as error:
            self._require_dropped(table, error)
            return []

    def _require_dropped(self, table: Table, error: TableGone) -> None:
        name = self._session.quoted(table.identifier)
        if self.query("SELECT to_regclass(%(name)s) IS NOT NULL", {"name": name})[0][0]:
            raise error
        _log.warning("%s.%s was dropped after this run began. Continuing without it.", table.schema, table.name)

    def market_ids(self, table: Table) -> list[str]:
        """Return every market id of the table, without scanning it."""
        text = MARKET_IDS if table.is_ordinary else MARKET_IDS_SCANNED
        try:
            return [sys.intern(market_id) for (market_id,) in self.stream(sql.SQL(text).format(table=table.identifier))]
        except TableGone as error:
            self._require_dropped(table, error)
            return []

    def newest(self, table: Table, market_ids: Sequence[str]) -> dict[str, int]:
        """Return the newest publish_time of those markets that the table has, microseconds since 1970."""
        rows = self._of_leaf(table, NEWEST, NEWEST_SCANNED, {"ids": list(market_ids)})
        return {sys.intern(market_id): moment for market_id, moment in rows}

    def sample(
        self, table: Table, pages: int, step_s: int, market_ids: Sequence[str] | None
    ) -> Iterator[tuple[str, int, float]]:
        """Estimate, from about so many pages, the rows per market (all if None) and step of time.

        Yields market id, start of the step in seconds since 1970, and rows.
        """
        if not table.is_ordinary:
            return
        percent = min(100.0, 100.0 * pages / max(table.pages, 1))
        statement = sql.SQL(SAMPLE).format(table=table.identifier)
        try:
            for market_id, start, count in self.stream(
                statement, {"percent": percent, "step_s": step_s, "ids": market_ids}
            ):
                yield sys.intern(market_id), start, count * 100.0 / percent
        except TableGone as error:
            self._require_dropped(table, error)

    def tables_between(self, name: str, lower_us: int, upper_us: int) -> list[Table]:
        """Return the leaf tables of one of the recorder's tables that can hold rows of [lower_us, upper_us)."""
        return [
            table
            for relation in self.source_tables.relations[name]
            for table in self._leaves_between(relation, lower_us, upper_us)
        ]

    def _leaves_between(self, relation: Relation, lower_us: int, upper_us: int) -> list[Table]:
        statement = sql.SQL(BETWEEN).format(table=relation.identifier)
        nodes = [node["Plan"] for node in self.query(statement, _bounds(lower_us, upper_us))[0][0]]
        planned = set()
        while nodes:
            node = nodes.pop()
            planned.add((node.get("Schema"), node.get("Relation Name")))
            nodes += node.get("Plans", [])
        tables = self._leaves(relation)
        if [(table.schema, table.name) for table in tables] == [(relation.schema, relation.name)]:
            return tables if planned else []  # the plan names the partitions instead
        return [table for table in tables if (table.schema, table.name) in planned]

    def runners_between(
        self, table: Table, market_ids: Sequence[str], lower_us: int, upper_us: int
    ) -> list[tuple[str, int]]:
        """Return market id and selection id of the runners of these markets with rows in [lower_us, upper_us)."""
        return [
            (market_id, selection_id)
            for market_id, selection_id in self._of_leaf(
                table, RUNNERS_BETWEEN, RUNNERS_BETWEEN_SCANNED, {"ids": list(market_ids)} | _bounds(lower_us, upper_us)
            )
        ]

    def day_counts(
        self, table: Table, market_ids: Sequence[str], lower_us: int, upper_us: int
    ) -> list[tuple[str, int, int]]:
        """Return market id, UTC day (since 1970) and number of rows of those markets in [lower_us, upper_us)."""
        rows = self._of_leaf(
            table, DAY_COUNTS, DAY_COUNTS_SCANNED, {"ids": list(market_ids)} | _bounds(lower_us, upper_us)
        )
        return [(sys.intern(market_id), day, count) for market_id, day, count in rows]

    def now_us(self) -> int:
        """Return the time by the server's clock, microseconds since 1970."""
        ((moment,),) = self.query(CLOCK)
        return int(moment)

    def events(self) -> dict[str, str]:
        """Return the event id of every market in public.markets."""
        statement = sql.SQL(EVENT_IDS).format(markets=self.source_tables.rows(MARKETS))
        return {sys.intern(market_id): sys.intern(event_id or "") for market_id, event_id in self.stream(statement)}

    def metadata(self, market_ids: Sequence[str]) -> list[MarketMetadata]:
        """Return the metadata of each market."""
        statement = sql.SQL(METADATA).format(
            **{name: self.source_tables.rows(table) for name, table in _METADATA_TABLES.items()}
        )
        rows = self.query(statement, {"ids": list(market_ids)})
        for market_id, *_, names, left_out in rows:
            if left_out:
                _say_once(
                    f"Market {market_id}: {left_out} rows of market_lifecycle_events at infinity, before the year 1 or"
                    " after 9999 are ignored for its status."
                )
            if any("\N{REPLACEMENT CHARACTER}" in (name or "") for name in names or ()):
                _say_once(
                    f"Market {market_id}: a runner name is not valid UTF-8; the invalid bytes are replaced by"
                    f" \N{REPLACEMENT CHARACTER}."
                )
        return [MarketMetadata(*row[:-1]) for row in rows]


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        _log.warning("%s", text)


def is_table_gone(error: psycopg2.Error) -> bool:
    """Return whether an error says that a table no longer exists."""
    return error.pgcode == "42P01" or "could not open relation with OID" in str(error)


def _bounds(lower_us: int, upper_us: int) -> dict[str, str]:
    return {"lower": timestamp_text(lower_us), "upper": timestamp_text(upper_us)}


def timestamp_text(microseconds: int) -> str:
    """Return a time, microseconds since 1970, as PostgreSQL reads it."""
    return str(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=microseconds))
