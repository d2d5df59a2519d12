"""PostgreSQL: every SQL statement of the pipeline, and the small questions. Only reads."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from tasks.errors import DatabaseError
from tasks.postgres.market_metadata import MarketMetadata
from tasks.postgres.server import Server, one_line

LADDER = "ladder_levels"
TRADED = "traded_volume"

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_SCHEMA = "stream_ingest"
_REQUIRED = (
    "public.events",
    "public.markets",
    "public.runners",
    "stream_ingest.ladder_levels",
    "stream_ingest.traded_volume",
    "stream_ingest.market_lifecycle_events",
)

_ANSWERS_AHEAD = 3

#: Microseconds since 1970; a time at infinity becomes the largest integer, so that only its own market fails.
_MICROSECONDS = (
    "CASE WHEN NOT isfinite({0}) THEN 9223372036854775807 ELSE round(extract(epoch FROM {0}) * 1000000)::int8 END"
)

_PARTITIONS = """
    SELECT n.nspname, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::int,
           has_table_privilege(c.oid, 'SELECT')
      FROM (SELECT relid FROM pg_partition_tree(%(table)s::regclass) WHERE isleaf
             UNION SELECT %(table)s::regclass) AS leaf(oid)
      JOIN pg_class c ON c.oid = leaf.oid AND c.relkind = 'r'
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

#: The runners of each market with their newest publish_time, in one index probe each.
_RUNNERS = """
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
    + _MICROSECONDS.format("newest.publish_time")
    + """
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL (SELECT max(publish_time) AS publish_time FROM ("""
    + _RUNNERS
    + """) AS runner) AS newest
     WHERE newest.publish_time IS NOT NULL
"""
)

#: A sample of a table's pages: how many rows each market has, and when.
_SAMPLE = """
    SELECT market_id, (floor(date_part('epoch', publish_time) / %(step_s)s) * %(step_s)s)::int8, count(*)
      FROM {table} TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (0)
     WHERE isfinite(publish_time) AND (%(ids)s::text[] IS NULL OR market_id = ANY (%(ids)s::text[]))
     GROUP BY 1, 2
"""

#: The runners of markets with a row in [lower, upper), in two index probes each.
_RUNNERS_BETWEEN = (
    """
    SELECT wanted.market_id, runner.selection_id
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL ("""
    + _RUNNERS
    + """) AS runner
     CROSS JOIN LATERAL (
         SELECT FROM {table} AS tick
          WHERE tick.market_id = wanted.market_id AND tick.selection_id = runner.selection_id
            AND tick.publish_time >= %(lower)s::timestamptz AND tick.publish_time < %(upper)s::timestamptz
          LIMIT 1) AS found
     WHERE runner.publish_time >= %(lower)s::timestamptz
"""
)

#: How many rows of [lower, upper) each market has on each UTC day, counted in the index, runner by runner.
_DAY_COUNTS = (
    """
    SELECT wanted.market_id, floor(extract(epoch FROM tick.publish_time) / 86400)::int8, count(*)
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL ("""
    + _RUNNERS
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

#: Never run, only planned: the plan names the tables that can hold rows of [lower, upper).
_BETWEEN = """
    EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT FROM {table}
     WHERE publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
"""

_MARKETS = "SELECT market_id, event_id FROM public.markets"

_METADATA = (
    """
    SELECT wanted.market_id, m.event_id, m.market_name, m.market_type,
           CASE WHEN m.market_start_time >= '0001-01-01Z' AND m.market_start_time < '10000-01-01Z'
                THEN """
    + _MICROSECONDS.format("m.market_start_time")
    + """ END,
           (SELECT status FROM stream_ingest.market_lifecycle_events l
             WHERE l.market_id = wanted.market_id AND status IS NOT NULL
             ORDER BY publish_time DESC, received_time DESC, status DESC LIMIT 1),
           (SELECT in_play FROM stream_ingest.market_lifecycle_events l
             WHERE l.market_id = wanted.market_id AND in_play IS NOT NULL
             ORDER BY publish_time DESC, received_time DESC, status DESC NULLS LAST, in_play DESC LIMIT 1),
           runner.ids, runner.names
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
      LEFT JOIN public.markets m ON m.market_id = wanted.market_id
     CROSS JOIN LATERAL (
         SELECT array_agg(selection_id ORDER BY selection_id) AS ids, array_agg(runner_name ORDER BY selection_id)
                AS names
           FROM public.runners r WHERE r.market_id = wanted.market_id) AS runner
"""
)

#: What a ladder row is, as few columns as possible: one integer holds selection, level and the side's letter.
#: Multiplication, unlike a shift, fails where it does not fit: then there are two. The letter's code, for comparing
#: char(1) by a collation is a tenth of the question.
_LADDER_TICKS = """
    SELECT {runner} AS runner, price, size, publish_time, received_time{place}{market}
      FROM stream_ingest.ladder_levels WHERE {rows} LIMIT {limit}
"""
_PLACE = '(level * 256 + side::"char"::int)'
#: What leaves room for level and side beside it.
_ROOM = 1 << 39
_TRADED_TICKS = """
    SELECT {runner} AS runner, price, size_traded AS size, publish_time, received_time{place}{market}
      FROM stream_ingest.traded_volume WHERE {rows} LIMIT {limit}
"""

#: Those rows as one row, or as one a market: of each column all values one after the other, as PostgreSQL would send
#: each. To the server that is as dear as a row a tick, to the client a tenth. string_agg leaves nulls out: rows says
#: how many values there must be.
_TOGETHER = """
    SELECT count(*), string_agg(int8send(runner), NULL), string_agg(float8send(price), NULL),
           string_agg(float8send(size), NULL), string_agg(timestamptz_send(publish_time), NULL),
           string_agg(timestamptz_send(received_time), NULL){places}{market}
      FROM ({ticks}) AS tick {groups}
"""
#: Its columns; place (level and side) comes with selection ids that leave no room for it in runner, market_id with
#: several markets.
TOGETHER = ("rows", "runner", "price", "size", "publish_time", "received_time")

#: For who asks that: the rows of a read are grouped in memory (not for others: with so much the planner takes another
#: way to the newest ticks, which is a third slower), and the server reads its pages itself: from PostgreSQL 18 on
#: others read them ahead for it, which costs a seventh of its time where the system has them in memory, and gains
#: nothing where it has not.
TOGETHER_SETTINGS = "-c work_mem=64MB -c effective_io_concurrency=0"

#: Before ticks are read: a place to come back to where that fails, without losing the snapshot. And each page is looked
#: at once, by a bitmap of those that have any, and not for every runner anew. The planner often expects that to be as
#: good; it is a tenth slower. For the runners themselves it is the way.
BEFORE_READ = "SAVEPOINT before_read; SELECT set_config('enable_indexscan', 'off', true)"
AFTER_READ = "RELEASE SAVEPOINT before_read"
AFTER_FAILED_READ = "ROLLBACK TO SAVEPOINT before_read; RELEASE SAVEPOINT before_read"

#: What one session sees, and how another comes to see the same, as the first statement of its transaction.
EXPORT_SNAPSHOT = "SELECT pg_export_snapshot()"
IMPORT_SNAPSHOT = "SET TRANSACTION SNAPSHOT %(snapshot)s"

#: The server's time.
CLOCK = "SELECT " + _MICROSECONDS.format("statement_timestamp()")

#: What tasks.workflow.process_memory does here, done to the server: its C library gives the memory of such an answer
#: back to the system and takes it anew for the next one, page by page, until it has freed a piece as large as this
#: once. Takes 2 ms, and saves a tenth of the server's time.
KEEP_FREED_MEMORY = "SELECT octet_length(repeat(repeat(' ', 4096), pages)) FROM generate_series(2048, 2048) AS pages"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that really holds rows: traded_volume, or a partition of ladder_levels."""

    schema: str
    name: str
    pages: int

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name for SQL."""
        return sql.Identifier(self.schema, self.name)


class Database:
    """Small questions to the database: what markets there are, how new, how large. Ticks come through TickReader."""

    def __init__(self, server: Server) -> None:
        self.server = server
        try:
            self._connection = psycopg2.connect(server.conninfo())
        except psycopg2.Error as error:
            raise DatabaseError(
                f"No connection to {server}: {one_line(error)}. Check POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DB, "
                "POSTGRES_USER and POSTGRES_PASSWORD, and that the server runs."
            ) from None
        try:
            self._require_schema()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

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
            yield from cursor

    @contextlib.contextmanager
    def _transaction(self, name: str | None) -> Iterator[psycopg2.extensions.cursor]:
        try:
            with self._connection.cursor(
                name
            ) as cursor:  # one with a name stays in the server, which hands out 2,000 rows at a time
                yield cursor
        except psycopg2.Error as error:
            raise DatabaseError(f"A query on {self.server} failed: {one_line(error)}.") from None
        finally:
            with contextlib.suppress(psycopg2.Error):
                self._connection.rollback()  # ends the snapshot: an idle one would hold back the server's vacuum

    def _require_schema(self) -> None:
        rows = self.query(
            "SELECT name FROM unnest(%(names)s::text[]) AS name WHERE to_regclass(name) IS NULL",
            {"names": list(_REQUIRED)},
        )
        if rows:
            raise DatabaseError(
                f"Database {self.server} has no table {', '.join(name for (name,) in rows)}: it does not look like a "
                "netbet recorder's. Check POSTGRES_DB."
            )
        rows = self.query(
            "SELECT c.oid::regclass FROM unnest(%(names)s::text[]) AS name, pg_class c WHERE c.oid = name::regclass "
            "AND c.relkind NOT IN ('r', 'p')",
            {"names": list(_REQUIRED)},
        )
        if rows:
            raise DatabaseError(
                f"In {self.server} {', '.join(name for (name,) in rows)} is no table. A recorder's ticks and markets"
                " lie in tables. Check POSTGRES_DB."
            )
        rows = self.query(
            "SELECT name FROM unnest(%(names)s::text[]) AS name WHERE NOT has_table_privilege(name, 'SELECT')",
            {"names": list(_REQUIRED)},
        )
        if rows:
            raise DatabaseError(
                f"User {self.server.user} may not read {', '.join(name for (name,) in rows)} in {self.server}. "
                "GRANT SELECT on them."
            )

    def tables(self, name: str) -> list[Table]:
        """Return the tables that hold the rows of stream_ingest.<name>: its leaf partitions, or itself.

        Itself, too, where the user may read it and not all of its partitions: a GRANT on a table does not reach
        them by name. That is slower where there are very many markets, since each probe then visits every
        partition.
        """
        rows = self.query(_PARTITIONS, {"table": f"{_SCHEMA}.{name}"})
        if not all(may_read for *_, may_read in rows):
            return [Table(_SCHEMA, name, sum(pages for _, _, pages, _ in rows))]
        return [Table(schema, relation, pages) for schema, relation, pages, _ in rows]

    def market_ids(self, table: Table) -> list[str]:
        """Return every market id of the table, without scanning it."""
        return [
            sys.intern(market_id) for (market_id,) in self.stream(sql.SQL(_MARKET_IDS).format(table=table.identifier))
        ]

    def newest(self, table: Table, market_ids: Sequence[str]) -> dict[str, int]:
        """Return the newest publish_time of those markets that the table has, microseconds since 1970."""
        rows = self.query(sql.SQL(_NEWEST).format(table=table.identifier), {"ids": list(market_ids)})
        return {sys.intern(market_id): moment for market_id, moment in rows}

    def sample(
        self, table: Table, pages: int, step_s: int, market_ids: Sequence[str] | None
    ) -> Iterator[tuple[str, int, float]]:
        """Estimate rows of each market (all if None) and step of time from about so many pages: (market id, start of
        the step in s, rows).
        """
        percent = min(100.0, 100.0 * pages / max(table.pages, 1))
        rows = self.stream(
            sql.SQL(_SAMPLE).format(table=table.identifier), {"percent": percent, "step_s": step_s, "ids": market_ids}
        )
        return ((sys.intern(market_id), start, count * 100.0 / percent) for market_id, start, count in rows)

    def tables_between(self, name: str, lower_us: int, upper_us: int) -> list[Table]:
        """Return those of the tables of stream_ingest.<name> that can hold rows of [lower_us, upper_us)."""
        statement = sql.SQL(_BETWEEN).format(table=sql.Identifier(_SCHEMA, name))
        waiting = [node["Plan"] for node in self.query(statement, _bounds(lower_us, upper_us))[0][0]]
        planned = set()
        while waiting:
            node = waiting.pop()
            planned.add((node.get("Schema"), node.get("Relation Name")))
            waiting += node.get("Plans", [])
        tables = self.tables(name)
        if [table.name for table in tables] == [name]:  # the plan names its partitions
            return tables if planned else []
        return [table for table in tables if (table.schema, table.name) in planned]

    def runners_between(
        self, table: Table, market_ids: Sequence[str], lower_us: int, upper_us: int
    ) -> list[tuple[str, int]]:
        """Return market and selection id of the runners of those markets that have rows of [lower_us, upper_us) in a
        table.
        """
        statement = sql.SQL(_RUNNERS_BETWEEN).format(table=table.identifier)
        return [
            (market_id, selection_id)
            for market_id, selection_id in self.query(
                statement, {"ids": list(market_ids)} | _bounds(lower_us, upper_us)
            )
        ]

    def day_counts(
        self, table: Table, market_ids: Sequence[str], lower_us: int, upper_us: int
    ) -> list[tuple[str, int, int]]:
        """Return market id, UTC day (since 1970) and number of rows of those markets in [lower_us, upper_us)."""
        statement = sql.SQL(_DAY_COUNTS).format(table=table.identifier)
        rows = self.query(statement, {"ids": list(market_ids)} | _bounds(lower_us, upper_us))
        return [(sys.intern(market_id), day, count) for market_id, day, count in rows]

    def events(self) -> dict[str, str]:
        """Return the event id of every market in public.markets."""
        return {sys.intern(market_id): sys.intern(event_id or "") for market_id, event_id in self.stream(_MARKETS)}

    def metadata(self, market_ids: Sequence[str]) -> list[MarketMetadata]:
        """Return what there is to know of each market beside its ticks."""
        return [MarketMetadata(*row) for row in self.query(_METADATA, {"ids": list(market_ids)})]


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

    with Database(database.server) as second, concurrent.futures.ThreadPoolExecutor(2, "database") as pool:
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


@dataclasses.dataclass(frozen=True)
class TickQuery:
    """A statement that reads ticks: one row with whole columns, with several markets one row for each that has any
    ticks.
    """

    statement: str
    columns: tuple[str, ...]


def tick_queries(
    market_ids: Sequence[str],
    selection_ids: Sequence[int] | None,
    lower_us: int | None,
    upper_us: int | None,
    limit: int,
) -> tuple[TickQuery, TickQuery]:
    """Return what reads the ladder and the traded rows of markets in [lower_us, upper_us).

    selection_ids, all of the market's, let the server go through the index (market_id, selection_id, publish_time)
    straight to the times asked for.
    """
    conditions: list[sql.Composable] = [
        (
            sql.SQL("market_id = ANY({}::varchar[])").format(_literal(list(market_ids)))
            if len(market_ids) > 1
            else sql.SQL("market_id = {}").format(_literal(market_ids[0]))
        )
    ]
    if selection_ids is not None:
        conditions.append(sql.SQL("selection_id = ANY({}::bigint[])").format(_literal(list(selection_ids))))
    for comparison, bound_us in ((">=", lower_us), ("<", upper_us)):
        if bound_us is not None:
            conditions.append(
                sql.SQL("publish_time " + comparison + " {}::timestamptz").format(_literal(timestamp_text(bound_us)))
            )
    several = len(market_ids) > 1
    wide = any(abs(selection_id) >= _ROOM for selection_id in selection_ids or ())
    parts = {
        "market": sql.SQL(", market_id" if several else ""),
        "groups": sql.SQL("GROUP BY market_id" if several else ""),
        "rows": sql.SQL(" AND ").join(conditions),
        "limit": _literal(limit),
    }

    def query(ticks: str, runner: str, wide: bool) -> TickQuery:
        place, places = (f", {_PLACE}::int8 AS place", ", string_agg(int8send(place), NULL)") if wide else ("", "")
        statement = sql.SQL(_TOGETHER.replace("{ticks}", ticks)).format(
            runner=sql.SQL(runner), place=sql.SQL(place), places=sql.SQL(places), **parts
        )
        return TickQuery(str(statement.as_string(None)), (*TOGETHER, *["place"] * wide, *["market_id"] * several))

    return (
        query(_LADDER_TICKS, "selection_id" if wide else f"selection_id * 16777216 + {_PLACE}", wide),
        query(_TRADED_TICKS, "selection_id", False),
    )


def runner_query(market_id: str) -> str:
    """Return the statement that lists the selection ids of a market in both tables, without scanning them."""
    walks = [_RUNNERS.format(table=f"{_SCHEMA}.{name}") for name in (LADDER, TRADED)]
    union = " UNION ".join(f"SELECT selection_id FROM ({walk}) AS runner" for walk in walks)
    statement = sql.SQL(
        "SELECT runners.selection_id FROM (SELECT {id}::text AS market_id) AS wanted, LATERAL ("
        + union
        + ") AS runners"
    )
    return str(statement.format(id=_literal(market_id)).as_string(None))


def _literal(value: object) -> sql.SQL:
    """Return a value quoted for SQL. The tick statements hold numbers, times and checked market ids, nothing else."""
    return sql.SQL(psycopg2.extensions.adapt(value).getquoted().decode())


def _bounds(lower_us: int, upper_us: int) -> dict[str, str]:
    return {"lower": timestamp_text(lower_us), "upper": timestamp_text(upper_us)}


def timestamp_text(microseconds: int) -> str:
    """Return a time, microseconds since 1970, as PostgreSQL reads it."""
    return str(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=microseconds))
