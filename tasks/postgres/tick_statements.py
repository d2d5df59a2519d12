"""The statements that read ticks, and the settings of a reader's session."""

import dataclasses
from collections.abc import Sequence

import psycopg2.extensions
import pyarrow as pa
from psycopg2 import sql

from tasks.postgres.database import timestamp_text
from tasks.postgres.question_statements import RUNNERS_OF
from tasks.postgres.source_tables import LADDER, TRADED, SourceTables
from tasks.ticks.schema import STORED, TIME

#: A ladder row in as few columns as possible: one integer holds selection, level and the side's letter. Multiplication,
#: unlike a shift, fails if the result does not fit; then two columns are used. The side is read as its letter's code,
#: because comparing char(1) by a collation takes a tenth of the query's time.
_LADDER_TICKS = """
    SELECT {runner} AS runner, {ladder_columns}{place}{market}
      FROM {ladder} AS stored WHERE {rows} LIMIT {limit}
"""
_PLACE = '(level * 256 + side::"char"::int)'
#: Selection ids below this leave room for level and side.
_ROOM = 1 << 39
_TRADED_TICKS = """
    SELECT {runner} AS runner, {traded_columns}{place}{market}
      FROM {traded} AS stored WHERE {rows} LIMIT {limit}
"""

#: The columns that are packed into runner (and place).
_PACKED = ("selection_id", "side", "level")
#: The columns that are sent one by one, under the name of their array.
PLAIN = tuple(column for column in STORED if column.name not in _PACKED)

#: All rows as a single row, or as one per market: the values of each column concatenated, as PostgreSQL would send
#: each. It costs the server as much as one row per tick, and the client a tenth. string_agg leaves nulls out: rows says
#: how many values there must be.
_TOGETHER = """
    SELECT count(*), string_agg(int8send(runner), NULL), {sent}{places}{market}
      FROM ({ticks}) AS tick {groups}
"""
#: How PostgreSQL sends a value; columns of other types are sent as int8.
_SEND = {TIME: "timestamptz_send", pa.float64(): "float8send"}
#: Its columns. place (level and side) is added if selection ids leave no room for it in runner, market_id if there are
#: several markets.
TOGETHER = ("rows", "runner", *(str(column.array) for column in PLAIN))

#: Only for tick readers. work_mem: the rows of a read are grouped in memory; with so much of it, the planner chooses a
#: plan for the newest ticks that is a third slower. effective_io_concurrency: the server reads its pages itself. From
#: PostgreSQL 18 on, I/O workers read ahead for it. That costs a seventh of its time if the pages are in memory, and
#: gains nothing if they are not.
TOGETHER_SETTINGS = {"work_mem": "64MB", "effective_io_concurrency": "0"}

#: Before ticks are read: a savepoint, so that a read that fails does not lose the snapshot. And no plain index scans: a
#: bitmap scan reads each page once, an index scan reads it again for every runner. The planner often takes both for
#: equally good, but index scans are a tenth slower. For the list of runners they are right.
BEFORE_READ = "SAVEPOINT before_read; SELECT set_config('enable_indexscan', 'off', true)"
AFTER_READ = "RELEASE SAVEPOINT before_read"
AFTER_FAILED_READ = "ROLLBACK TO SAVEPOINT before_read; RELEASE SAVEPOINT before_read"

#: Export a session's snapshot, and import it in another session, as the first statement of its transaction.
EXPORT_SNAPSHOT = "SELECT pg_export_snapshot()"
IMPORT_SNAPSHOT = "SET TRANSACTION SNAPSHOT %(snapshot)s"

#: The same for the server as tasks.workflow.process_memory for this process. The server's C library returns the memory
#: of such an answer to the system, and takes it again, page by page, for the next one, until it has freed a block as
#: large as this one. It takes 2 ms, and saves a tenth of the server's time.
KEEP_FREED_MEMORY = "SELECT octet_length(repeat(repeat(' ', 4096), pages)) FROM generate_series(2048, 2048) AS pages"


@dataclasses.dataclass(frozen=True)
class TickQuery:
    """A statement that reads ticks as one row of whole columns; for several markets, one row for each that has
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
    """Return the statements that read the ladder and the traded rows of markets in [lower_us, upper_us).

    context: a connection, which knows how to quote names. selection_ids: all of the market's, so that the server can
    use the index (market_id, selection_id, publish_time) to find the range.
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
        query(_LADDER_TICKS, "selection_id" if wide else f"selection_id::int8 * 16777216 + {_PLACE}", wide),
        query(_TRADED_TICKS, "selection_id", False),
    )


def _columns(table: int) -> sql.SQL:
    """Return the select list of the columns that are sent one by one, of the first or the second table."""
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
    """Return a value quoted for SQL. The tick statements contain only numbers, times and checked market ids."""
    return sql.SQL(psycopg2.extensions.adapt(value).getquoted().decode())
