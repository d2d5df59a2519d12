"""The statements that read ticks, and what a session of a reader is set to."""

import dataclasses
from collections.abc import Sequence

import psycopg2.extensions
import pyarrow as pa
from psycopg2 import sql

from tasks.postgres.database import timestamp_text
from tasks.postgres.question_statements import RUNNERS_OF
from tasks.postgres.source_tables import LADDER, TRADED, SourceTables
from tasks.ticks.schema import STORED, TIME

#: What a ladder row is, as few columns as possible: one integer holds selection, level and the side's letter.
#: Multiplication, unlike a shift, fails where it does not fit: then there are two. The letter's code, for comparing
#: char(1) by a collation is a tenth of the question.
_LADDER_TICKS = """
    SELECT {runner} AS runner, {ladder_columns}{place}{market}
      FROM {ladder} AS stored WHERE {rows} LIMIT {limit}
"""
_PLACE = '(level * 256 + side::"char"::int)'
#: What leaves room for level and side beside it.
_ROOM = 1 << 39
_TRADED_TICKS = """
    SELECT {runner} AS runner, {traded_columns}{place}{market}
      FROM {traded} AS stored WHERE {rows} LIMIT {limit}
"""

#: What travels together in runner (and place).
_PACKED = ("selection_id", "side", "level")
#: The columns that travel each by itself, under the name of their array.
PLAIN = tuple(column for column in STORED if column.name not in _PACKED)

#: Those rows as one row, or as one per market: of each column all values one after the other, as PostgreSQL would send
#: each. It costs the server as much as a row per tick, and the client a tenth. string_agg leaves nulls out: rows says
#: how many values there must be.
_TOGETHER = """
    SELECT count(*), string_agg(int8send(runner), NULL), {sent}{places}{market}
      FROM ({ticks}) AS tick {groups}
"""
#: How PostgreSQL sends a value; other columns than these as int8.
_SEND = {TIME: "timestamptz_send", pa.float64(): "float8send"}
#: Its columns; place (level and side) comes with selection ids that leave no room for it in runner, market_id with
#: several markets.
TOGETHER = ("rows", "runner", *(str(column.array) for column in PLAIN))

#: For tick readers: the rows of a read are grouped in memory (not for others: with so much the planner takes another
#: way to the newest ticks, which is a third slower), and the server reads its pages itself: from PostgreSQL 18 on
#: others read them ahead for it, which costs a seventh of its time where the system has them in memory, and gains
#: nothing where it has not.
TOGETHER_SETTINGS = {"work_mem": "64MB", "effective_io_concurrency": "0"}

#: Before ticks are read: a place to come back to where that fails, without losing the snapshot. And each page is looked
#: at once, by a bitmap of those that have any, and not for every runner anew. The planner often expects that to be as
#: good; it is a tenth slower. For the runners themselves it is the way.
BEFORE_READ = "SAVEPOINT before_read; SELECT set_config('enable_indexscan', 'off', true)"
AFTER_READ = "RELEASE SAVEPOINT before_read"
AFTER_FAILED_READ = "ROLLBACK TO SAVEPOINT before_read; RELEASE SAVEPOINT before_read"

#: What one session sees, and how another comes to see the same, as the first statement of its transaction.
EXPORT_SNAPSHOT = "SELECT pg_export_snapshot()"
IMPORT_SNAPSHOT = "SET TRANSACTION SNAPSHOT %(snapshot)s"

#: What tasks.workflow.process_memory does here, done to the server: its C library gives the memory of such an answer
#: back to the system and takes it again for the next one, page by page, until it has freed a piece as large as this
#: once. Takes 2 ms, and saves a tenth of the server's time.
KEEP_FREED_MEMORY = "SELECT octet_length(repeat(repeat(' ', 4096), pages)) FROM generate_series(2048, 2048) AS pages"


@dataclasses.dataclass(frozen=True)
class TickQuery:
    """A statement that reads ticks: one row with whole columns, with several markets one row for each that has any
    ticks.
    """

    statement: str
    columns: tuple[str, ...]


def tick_queries(
    context: psycopg2.extensions.connection,
    tables: SourceTables,
    market_ids: Sequence[str],
    selection_ids: Sequence[int] | None,
    lower_us: int | None,
    upper_us: int | None,
    limit: int,
) -> tuple[TickQuery, TickQuery]:
    """Return what reads the ladder and the traded rows of markets in [lower_us, upper_us).

    context: a connection, which knows how names are quoted.

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
        "ladder": tables.rows(LADDER),
        "traded": tables.rows(TRADED),
        "ladder_columns": _columns(0),
        "traded_columns": _columns(1),
        "sent": sql.SQL(
            ", ".join(f"string_agg({_SEND.get(column.type, 'int8send')}({column.array}), NULL)" for column in PLAIN)
        ),
    }

    def query(ticks: str, runner: str, wide: bool) -> TickQuery:
        place, places = (f", {_PLACE}::int8 AS place", ", string_agg(int8send(place), NULL)") if wide else ("", "")
        statement = sql.SQL(_TOGETHER.replace("{ticks}", ticks)).format(
            runner=sql.SQL(runner), place=sql.SQL(place), places=sql.SQL(places), **parts
        )
        return TickQuery(str(statement.as_string(context)), (*TOGETHER, *["place"] * wide, *["market_id"] * several))

    return (
        query(_LADDER_TICKS, "selection_id" if wide else f"selection_id * 16777216 + {_PLACE}", wide),
        query(_TRADED_TICKS, "selection_id", False),
    )


def _columns(table: int) -> sql.SQL:
    """Return the columns that travel by themselves as they are selected, of the first or the second table."""
    return sql.SQL(", ".join(f"{column.source[table]} AS {column.array}" for column in PLAIN if column.source))


def runner_query(context: psycopg2.extensions.connection, tables: SourceTables, market_id: str) -> str:
    """Return the statement that lists the selection ids of a market in both tables, without scanning them."""
    union = sql.SQL(" UNION ").join(
        sql.SQL("SELECT selection_id FROM ({}) AS runner").format(sql.SQL(RUNNERS_OF).format(table=relation.identifier))
        for name in (LADDER, TRADED)
        for relation in tables.relations[name]
    )
    statement = sql.SQL(
        "SELECT runners.selection_id FROM (SELECT {id}::text AS market_id) AS wanted, LATERAL ({union}) AS runners"
    )
    return str(statement.format(id=_literal(market_id), union=union).as_string(context))


def _literal(value: object) -> sql.SQL:
    """Return a value quoted for SQL. The tick statements hold numbers, times and checked market ids, nothing else."""
    return sql.SQL(psycopg2.extensions.adapt(value).getquoted().decode())
