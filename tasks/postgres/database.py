"""The small questions to PostgreSQL. Only reads."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime
import logging
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from tasks.errors import DatabaseError, TableGone
from tasks.postgres import waiting
from tasks.postgres.market_metadata import MarketMetadata
from tasks.postgres.server import Server, one_line
from tasks.postgres.session import Session
from tasks.postgres.source_tables import LIFECYCLE, MARKETS, RUNNERS, Relation, SourceTables, look_over

_log = logging.getLogger("tick_export.database")

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_ANSWERS_AHEAD = 3
_ROWS_AT_ONCE = 2_000
_METADATA_TABLES = {"markets": MARKETS, "lifecycle": LIFECYCLE, "runners": RUNNERS}

#: What no tick's time can be: infinity, before the year 1 or after 9999, where Betfair and Python know no time.
_WRITABLE = "({0} >= '0001-01-01Z'::timestamptz AND {0} < '10000-01-01Z'::timestamptz)"

#: Microseconds since 1970; a time after the year 9999 becomes the largest integer, so that only its own market fails.
MICROSECONDS = (
    "CASE WHEN {0} >= '10000-01-01Z' THEN 9223372036854775807 WHEN NOT isfinite({0}) THEN -9223372036854775807"
    " ELSE round(extract(epoch FROM {0}) * 1000000)::int8 END"
)

#: The server's time.
CLOCK = "SELECT " + MICROSECONDS.format("statement_timestamp()")

_LEAVES = """
    SELECT n.nspname, c.relname, c.relkind, has_table_privilege(c.oid, 'SELECT'),
           coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int
      FROM (SELECT relid FROM pg_partition_tree(to_regclass(%(table)s)) WHERE isleaf
             UNION SELECT to_regclass(%(table)s)) AS leaf(oid)
      JOIN pg_class c ON c.oid = leaf.oid AND c.relkind <> 'p'
      JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY c.relname
"""

#: Every market id of a table in one index probe each, instead of a scan.
_MARKET_IDS = """
    WITH RECURSIVE walk AS (
        (SELECT market_id FROM {table} ORDER BY market_id LIMIT 1)
        UNION ALL
        SELECT (SELECT market_id FROM {table} WHERE market_id > walk.market_id ORDER BY market_id LIMIT 1)
          FROM walk WHERE walk.market_id IS NOT NULL)
    SELECT market_id FROM walk WHERE market_id IS NOT NULL
"""

#: The same of a table that has no index to walk on.
_MARKET_IDS_SCANNED = "SELECT DISTINCT market_id FROM {table} WHERE market_id IS NOT NULL ORDER BY 1"

#: The runners of each market with their newest publish_time, in one index probe each.
RUNNERS_OF = """
    WITH RECURSIVE walk AS (
        (SELECT selection_id, publish_time FROM {table} WHERE market_id = wanted.market_id
          ORDER BY selection_id, publish_time DESC LIMIT 1)
        UNION ALL
        SELECT next.* FROM walk CROSS JOIN LATERAL (
            SELECT selection_id, publish_time FROM {table}
             WHERE market_id = wanted.market_id AND selection_id > walk.selection_id
             ORDER BY selection_id, publish_time DESC LIMIT 1) AS next)
    SELECT selection_id, publish_time FROM walk
"""

_NEWEST = (
    """
    SELECT wanted.market_id, """
    + MICROSECONDS.format("newest.publish_time")
    + """
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL (SELECT max(publish_time) AS publish_time FROM ("""
    + RUNNERS_OF
    + """) AS runner) AS newest
     WHERE newest.publish_time IS NOT NULL
"""
)

_NEWEST_SCANNED = (
    "SELECT market_id, "
    + MICROSECONDS.format("max(publish_time)")
    + " FROM {table} WHERE market_id = ANY (%(ids)s::text[]) GROUP BY market_id HAVING max(publish_time) IS NOT NULL"
)

#: A sample of a table's pages: how many rows each market has, and when.
_SAMPLE = (
    """
    SELECT market_id, (floor(date_part('epoch', publish_time) / %(step_s)s) * %(step_s)s)::int8, count(*)
      FROM {table} TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (0)
     WHERE """
    + _WRITABLE.format("publish_time")
    + """ AND (%(ids)s::text[] IS NULL OR market_id = ANY (%(ids)s::text[]))
     GROUP BY 1, 2
"""
)

#: The runners of markets with a row in [lower, upper), in two index probes each.
_RUNNERS_BETWEEN = (
    """
    SELECT wanted.market_id, runner.selection_id
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL ("""
    + RUNNERS_OF
    + """) AS runner
     CROSS JOIN LATERAL (
         SELECT FROM {table} AS tick
          WHERE tick.market_id = wanted.market_id AND tick.selection_id = runner.selection_id
            AND tick.publish_time >= %(lower)s::timestamptz AND tick.publish_time < %(upper)s::timestamptz
          LIMIT 1) AS found
     WHERE runner.publish_time >= %(lower)s::timestamptz
"""
)

_RUNNERS_BETWEEN_SCANNED = """
    SELECT DISTINCT market_id, selection_id FROM {table}
     WHERE market_id = ANY (%(ids)s::text[])
       AND publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
"""

#: How many rows of [lower, upper) each market has on each UTC day, counted in the index, runner by runner.
_DAY_COUNTS = (
    """
    SELECT wanted.market_id, (tick.publish_time AT TIME ZONE 'UTC')::date - date '1970-01-01', count(*)
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL ("""
    + RUNNERS_OF
    + """) AS runner
     CROSS JOIN LATERAL (
         SELECT publish_time FROM {table} AS tick
          WHERE tick.market_id = wanted.market_id AND tick.selection_id = runner.selection_id
            AND tick.publish_time >= %(lower)s::timestamptz AND tick.publish_time < %(upper)s::timestamptz
         ) AS tick
     WHERE runner.publish_time >= %(lower)s::timestamptz
     GROUP BY 1, 2
"""
)

_DAY_COUNTS_SCANNED = """
    SELECT market_id, floor(extract(epoch FROM publish_time) / 86400)::int8, count(*) FROM {table}
     WHERE market_id = ANY (%(ids)s::text[])
       AND publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
     GROUP BY 1, 2
"""

#: Never run, only planned: the plan names the tables that can hold rows of [lower, upper).
_BETWEEN = """
    EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT FROM {table}
     WHERE publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
"""

_MARKETS = "SELECT market_id, event_id FROM {markets} AS market"

_METADATA = (
    """
    SELECT wanted.market_id, m.event_id, m.market_name, m.market_type,
           CASE WHEN """
    + _WRITABLE.format("m.market_start_time")
    + " THEN "
    + MICROSECONDS.format("m.market_start_time")
    + """ END,
           (SELECT status FROM {lifecycle} AS l
             WHERE l.market_id = wanted.market_id AND status IS NOT NULL AND """
    + _WRITABLE.format("publish_time")
    + """
             ORDER BY publish_time DESC, received_time DESC, status DESC LIMIT 1),
           (SELECT in_play FROM {lifecycle} AS l
             WHERE l.market_id = wanted.market_id AND in_play IS NOT NULL AND """
    + _WRITABLE.format("publish_time")
    + """
             ORDER BY publish_time DESC, received_time DESC, status DESC NULLS LAST, in_play DESC LIMIT 1),
           runner.ids, runner.names,
           (SELECT count(*) FROM {lifecycle} AS l WHERE l.market_id = wanted.market_id
               AND (publish_time < '0001-01-01Z'::timestamptz OR publish_time >= '10000-01-01Z'::timestamptz))
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
      LEFT JOIN {markets} AS m ON m.market_id = wanted.market_id
     CROSS JOIN LATERAL (
         SELECT array_agg(selection_id ORDER BY selection_id) AS ids, array_agg(runner_name ORDER BY selection_id)
                AS names
           FROM {runners} AS r WHERE r.market_id = wanted.market_id) AS runner
"""
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that really holds rows: traded_volume, or a partition of ladder_levels.

    pages: of its file; is_ordinary: it lies in this database, with the indexes of the platform.
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
    """Small questions to the database: what markets there are, how new, how large. Ticks come through TickReader.

    tables: where its tables are, if that is known already.
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
        """Yield the very many rows of a SELECT, in a transaction of its own. Raises DatabaseError."""
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
                yield _Watched(cursor, self._session)
        except psycopg2.Error as error:
            waiting.raise_if_interrupted()
            kind = TableGone if is_table_gone(error) else DatabaseError
            raise kind(f"A query on {self.server} failed: {one_line(error)}.{_advice(error, self.server)}") from None
        finally:
            self._session.rollback()  # ends the snapshot: an idle one would hold back the server's vacuum

    def tables(self, name: str) -> list[Table]:
        """Return the tables that hold the rows of one of the recorder's: its leaf partitions, or itself.

        Itself, too, where the user may read it and not all of its partitions: a GRANT on a table does not reach
        them by name. That is slower where there are very many markets, since each probe then visits every
        partition.
        """
        return [table for relation in self.source_tables.relations[name] for table in self._leaves(relation)]

    def quoted_names(self, name: str) -> list[str]:
        """Return the names, as SQL text, of what one of the recorder's tables is read from."""
        return [self._session.quoted(relation.identifier) for relation in self.source_tables.relations[name]]

    def _leaves(self, relation: Relation) -> list[Table]:
        rows = self.query(_LEAVES, {"table": self._session.quoted(relation.identifier)})
        if not all(may_read for *_, may_read, _ in rows):
            is_ordinary = all(kind == "r" for _, _, kind, _, _ in rows)
            return [Table(relation.schema, relation.name, sum(pages for *_, pages in rows), is_ordinary)]
        return [Table(schema, leaf, pages, kind == "r") for schema, leaf, kind, _, pages in rows]

    def _of_leaf(
        self, table: Table, statement: str, scanned: str, parameters: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement on one table; none where the platform has dropped it meanwhile."""
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
        _log.warning("%s.%s has been dropped since this run began: going on without it.", table.schema, table.name)

    def market_ids(self, table: Table) -> list[str]:
        """Return every market id of the table, without scanning it."""
        text = _MARKET_IDS if table.is_ordinary else _MARKET_IDS_SCANNED
        try:
            return [sys.intern(market_id) for (market_id,) in self.stream(sql.SQL(text).format(table=table.identifier))]
        except TableGone as error:
            self._require_dropped(table, error)
            return []

    def newest(self, table: Table, market_ids: Sequence[str]) -> dict[str, int]:
        """Return the newest publish_time of those markets that the table has, microseconds since 1970."""
        rows = self._of_leaf(table, _NEWEST, _NEWEST_SCANNED, {"ids": list(market_ids)})
        return {sys.intern(market_id): moment for market_id, moment in rows}

    def sample(
        self, table: Table, pages: int, step_s: int, market_ids: Sequence[str] | None
    ) -> Iterator[tuple[str, int, float]]:
        """Estimate rows of each market (all if None) and step of time from about so many pages: (market id, start of
        the step in s, rows).
        """
        if not table.is_ordinary:
            return
        percent = min(100.0, 100.0 * pages / max(table.pages, 1))
        statement = sql.SQL(_SAMPLE).format(table=table.identifier)
        try:
            for market_id, start, count in self.stream(
                statement, {"percent": percent, "step_s": step_s, "ids": market_ids}
            ):
                yield sys.intern(market_id), start, count * 100.0 / percent
        except TableGone as error:
            self._require_dropped(table, error)

    def tables_between(self, name: str, lower_us: int, upper_us: int) -> list[Table]:
        """Return those of the tables of one of the recorder's that can hold rows of [lower_us, upper_us)."""
        return [
            table
            for relation in self.source_tables.relations[name]
            for table in self._leaves_between(relation, lower_us, upper_us)
        ]

    def _leaves_between(self, relation: Relation, lower_us: int, upper_us: int) -> list[Table]:
        statement = sql.SQL(_BETWEEN).format(table=relation.identifier)
        nodes = [node["Plan"] for node in self.query(statement, _bounds(lower_us, upper_us))[0][0]]
        planned = set()
        while nodes:
            node = nodes.pop()
            planned.add((node.get("Schema"), node.get("Relation Name")))
            nodes += node.get("Plans", [])
        tables = self._leaves(relation)
        if [(table.schema, table.name) for table in tables] == [(relation.schema, relation.name)]:
            return tables if planned else []  # the plan names its partitions
        return [table for table in tables if (table.schema, table.name) in planned]

    def runners_between(
        self, table: Table, market_ids: Sequence[str], lower_us: int, upper_us: int
    ) -> list[tuple[str, int]]:
        """Return market and selection id of the runners of those markets that have rows of [lower_us, upper_us) in a
        table.
        """
        return [
            (market_id, selection_id)
            for market_id, selection_id in self._of_leaf(
                table,
                _RUNNERS_BETWEEN,
                _RUNNERS_BETWEEN_SCANNED,
                {"ids": list(market_ids)} | _bounds(lower_us, upper_us),
            )
        ]

    def day_counts(
        self, table: Table, market_ids: Sequence[str], lower_us: int, upper_us: int
    ) -> list[tuple[str, int, int]]:
        """Return market id, UTC day (since 1970) and number of rows of those markets in [lower_us, upper_us)."""
        rows = self._of_leaf(
            table, _DAY_COUNTS, _DAY_COUNTS_SCANNED, {"ids": list(market_ids)} | _bounds(lower_us, upper_us)
        )
        return [(sys.intern(market_id), day, count) for market_id, day, count in rows]

    def now_us(self) -> int:
        """Return the time by the server's clock, microseconds since 1970."""
        ((moment,),) = self.query(CLOCK)
        return int(moment)

    def events(self) -> dict[str, str]:
        """Return the event id of every market in public.markets."""
        statement = sql.SQL(_MARKETS).format(markets=self.source_tables.rows(MARKETS))
        return {sys.intern(market_id): sys.intern(event_id or "") for market_id, event_id in self.stream(statement)}

    def metadata(self, market_ids: Sequence[str]) -> list[MarketMetadata]:
        """Return what there is to know of each market beside its ticks."""
        statement = sql.SQL(_METADATA).format(
            **{name: self.source_tables.rows(table) for name, table in _METADATA_TABLES.items()}
        )
        rows = self.query(statement, {"ids": list(market_ids)})
        for market_id, *_, names, left_out in rows:
            if left_out:
                _say_once(
                    f"Market {market_id}: {left_out} rows of market_lifecycle_events at infinity, before the year 1 or"
                    " after 9999 are left out of its status."
                )
            if any("\N{REPLACEMENT CHARACTER}" in (name or "") for name in names or ()):
                _say_once(
                    f"Market {market_id}: a runner name is no UTF-8; what is none in it is replaced by"
                    f" \N{REPLACEMENT CHARACTER}."
                )
        return [MarketMetadata(*row[:-1]) for row in rows]


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        _log.warning("%s", text)


class _Watched:
    """A cursor whose execute() is watched."""

    def __init__(self, cursor: psycopg2.extensions.cursor, session: Session) -> None:
        self._cursor, self._session = cursor, session

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._cursor)

    def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> None:
        with self._session.waited("an answer"):
            self._cursor.execute(statement, parameters)

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        return list(self._cursor.fetchmany(size))


def is_table_gone(error: psycopg2.Error) -> bool:
    """Tell whether an error says that a table is there no more."""
    return error.pgcode == "42P01" or "could not open relation with OID" in str(error)


def _advice(error: psycopg2.Error, server: Server) -> str:
    if error.pgcode == "55P03":  # lock_not_available
        return (
            f" It has waited {server.lock_timeout_s} s for the lock, as lock_timeout_s in [tick_export] of luigi.cfg"
            " says. End what holds it, and start again."
        )
    return ""


def ask_each(database: Database, ask: Callable[[Database, Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """Yield ask(connection, item) of each item, in order, two at a time over a connection each, and not many before
    they are wanted.
    """
    free: queue.SimpleQueue[Database] = queue.SimpleQueue()
    free.put(database)

    def ask_one(item: Item) -> Answer:
        connection = free.get()
        try:
            return ask(connection, item)
        finally:
            free.put(connection)

    with Database(database.server, database.source_tables) as second, concurrent.futures.ThreadPoolExecutor(
        2, "database"
    ) as pool:
        free.put(second)
        answers = collections.deque[concurrent.futures.Future[Answer]]()
        try:
            for item in items:
                answers.append(pool.submit(ask_one, item))
                if len(answers) > _ANSWERS_AHEAD:
                    yield answers.popleft().result()
            while answers:
                yield answers.popleft().result()
        finally:
            for answer in answers:
                answer.cancel()


def _bounds(lower_us: int, upper_us: int) -> dict[str, str]:
    return {"lower": timestamp_text(lower_us), "upper": timestamp_text(upper_us)}


def timestamp_text(microseconds: int) -> str:
    """Return a time, microseconds since 1970, as PostgreSQL reads it."""
    return str(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=microseconds))
