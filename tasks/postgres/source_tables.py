"""Find the recorder's tables in a database, and check them, once, when a connection is made.

Whatever could hide rows is an error here: a policy, a missing grant, a table that is in two schemas.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2 import sql

from tasks.errors import DatabaseError
from tasks.postgres import column_types
from tasks.postgres.session import Session
from tasks.ticks.schema import STORED

_log = logging.getLogger("tick_export.database")

LADDER, TRADED = "ladder_levels", "traded_volume"
MARKETS, RUNNERS, LIFECYCLE = "markets", "runners", "market_lifecycle_events"
MERGE = "merge"


@dataclasses.dataclass(frozen=True)
class _Expected:
    """A table: its documented schema, the columns that are read, its key, what is empty without it (None: needed)."""

    schema: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    without: str | None = None


def _tick_columns(table: int) -> dict[str, str]:
    """Return the columns of ladder_levels (0) or traded_volume (1) that ticks are read from."""
    sources = [column.source[table] for column in STORED if column.source is not None]
    return dict.fromkeys(("market_id", *filter(str.isidentifier, sources)), "any")


_EXPECTED = {
    MARKETS: _Expected(
        "public",
        {
            "market_id": "text",
            "event_id": "text",
            "market_type": "text",
            "market_name": "text",
            "market_start_time": "timestamptz",
        },
        ("market_id",),
    ),
    RUNNERS: _Expected(
        "public",
        {"market_id": "text", "selection_id": "int8", "runner_name": "text"},
        ("market_id", "selection_id"),
        "runner names and the list of runners",
    ),
    LADDER: _Expected(
        "stream_ingest", _tick_columns(0), ("market_id", "selection_id", "side", "level", "publish_time")
    ),
    TRADED: _Expected("stream_ingest", _tick_columns(1), ("market_id", "selection_id", "price", "publish_time")),
    LIFECYCLE: _Expected(
        "stream_ingest",
        {
            "market_id": "text",
            "status": "text",
            "in_play": "bool",
            "publish_time": "timestamptz",
            "received_time": "timestamptz",
        },
        (),
        "marketStatus and inPlay",
    ),
}

_FOUND = """
    SELECT c.relname, n.nspname, c.oid, c.relkind, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
           pg_catalog.has_table_privilege(c.oid, 'SELECT'),
           coalesce(pg_catalog.array_position(%(path)s::name[], n.nspname), 1000),
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname = ANY (%(names)s)
       AND n.nspname = ANY (%(path)s::name[] || ARRAY['public', 'stream_ingest']::name[])
       AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
"""

#: The tables that hold a table's rows, at any depth: partitions, children by inheritance, or itself.
_BELOW = """
    WITH RECURSIVE below AS (
        SELECT o AS top, o AS oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS o
        UNION SELECT below.top, i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid)
    SELECT below.top::int8, n.nspname, c.relname, c.relkind, pg_catalog.row_security_active(c.oid)
      FROM below JOIN pg_catalog.pg_class c ON c.oid = below.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""


@dataclasses.dataclass(frozen=True)
class Relation:
    """A table of the database, by its name and schema."""

    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name for SQL."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclasses.dataclass(frozen=True)
class SourceTables:
    """Where each of the recorder's tables is: in one schema, in two that are merged by key, or nowhere."""

    relations: Mapping[str, tuple[Relation, ...]]

    def rows(self, name: str) -> sql.Composable:
        """Return the text after FROM that selects all rows of a table. If it is in two schemas, the first one wins for
        a key that both have.
        """
        expected, relations = _EXPECTED[name], self.relations[name]
        if len(relations) == 1:
            return relations[0].identifier
        if not relations:
            nothing = ", ".join(f"NULL::{kind} AS {column}" for column, kind in expected.columns.items())
            return sql.SQL(f"(SELECT {nothing} WHERE false)")
        columns = sql.SQL(", ").join(map(sql.Identifier, expected.columns))
        parts = [sql.SQL("SELECT {} FROM {}").format(columns, relations[0].identifier)]
        for number, relation in enumerate(relations[1:], 1):
            known = [
                sql.SQL(" AND NOT EXISTS (SELECT FROM {} AS known WHERE {})").format(
                    earlier.identifier,
                    sql.SQL(" AND ").join(
                        sql.SQL("known.{0} = later.{0}").format(sql.Identifier(column)) for column in expected.key
                    ),
                )
                for earlier in relations[:number]
                if expected.key
            ]
            parts.append(
                sql.SQL("SELECT {} FROM {} AS later WHERE true{}").format(
                    columns, relation.identifier, sql.SQL("").join(known)
                )
            )
        return sql.SQL("({})").format(sql.SQL(" UNION ALL ").join(parts))


def look_over(session: Session, names: Collection[str] = tuple(_EXPECTED)) -> SourceTables:
    """Find the recorder's tables. Raises DatabaseError if any is missing, hidden or in two schemas."""
    try:
        with session.waited("the list of tables"), session.cursor() as cursor:
            cursor.execute("SET LOCAL search_path TO pg_catalog")
            cursor.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.SQL(session.path)))
            cursor.execute("SELECT pg_catalog.current_schemas(false)::text[]")
            path = list(cursor.fetchone()[0])
            cursor.execute("SET LOCAL search_path TO pg_catalog")
            cursor.execute(_FOUND, {"names": list(names), "path": path})
            found = [_Found(*row) for row in cursor]
            tables = {table.name for table in found if table.kind not in "vm"}
            found = [table for table in found if table.kind not in "vm" or table.name not in tables]
            _require_all(session, found, names)
            chosen = {name: _candidates(found, name) for name in names}
            _require_grants(session, [table for tables in chosen.values() for table in tables])
            chosen = {name: _decide(session, cursor, name, tables) for name, tables in chosen.items()}
            used = [table for tables in chosen.values() for table in tables]
            _require_readable(session, cursor, used)
            wanted = {table.oid: (str(table.relation), _EXPECTED[table.name].columns) for table in used}
            column_types.require(cursor, session.server, wanted)
    except psycopg2.Error as error:
        raise session.failure(f"A query on {session.server} failed", error) from None
    finally:
        session.rollback()
    _say(chosen)
    return SourceTables({name: tuple(table.relation for table in tables) for name, tables in chosen.items()})


@dataclasses.dataclass(frozen=True)
class _Found:
    name: str
    schema: str
    oid: int
    kind: str
    may_use: bool
    may_read: bool
    place: int
    columns: Sequence[str]

    @property
    def relation(self) -> Relation:
        return Relation(self.schema, self.name)


def _candidates(found: Sequence[_Found], name: str) -> list[_Found]:
    """Return the tables with a name: first the one in the documented schema, then those along the path."""
    schema = _EXPECTED[name].schema
    return sorted(
        (table for table in found if table.name == name), key=lambda table: (table.schema != schema, table.place)
    )


def _require_all(session: Session, found: Sequence[_Found], names: Collection[str]) -> None:
    there = {table.name for table in found}
    if missing := [name for name in names if name not in there and _EXPECTED[name].without is None]:
        raise DatabaseError(
            f"Database {session.server} has no table"
            f" {', '.join(f'{_EXPECTED[name].schema}.{name}' for name in missing)}: it does not look like a netbet"
            f" recorder's. Check POSTGRES_DB, and that the schema is in PGOPTIONS (-c search_path={session.path})."
        )
    if views := [str(table.relation) for table in found if table.kind in "vm"]:
        raise DatabaseError(
            f"In {session.server} {', '.join(views)} is not a table. A recorder's ticks and markets are in tables; a"
            " view may hide rows. Check POSTGRES_DB, or have PGOPTIONS' search_path name the schema of the table."
        )
    lacking = [
        f"{table.relation}.{column}"
        for table in found
        for column in _EXPECTED[table.name].columns
        if column not in table.columns
    ]
    if lacking:
        raise DatabaseError(
            f"Database {session.server} has no column {', '.join(lacking)}, so it does not look like a netbet"
            " recorder's. Check POSTGRES_DB."
        )


def _require_grants(session: Session, found: Sequence[_Found]) -> None:
    user = sql.Identifier(session.server.user).as_string(session.connection)
    schemas = sorted({table.schema for table in found if not table.may_use})
    tables = sorted({str(table.relation) for table in found if not table.may_read})
    grants = [f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {user};"] * bool(schemas)
    grants += [f"GRANT SELECT ON {', '.join(tables)} TO {user};"] * bool(tables)
    if grants:
        raise DatabaseError(
            f"User {session.server.user} may not read {', '.join([*(f'schema {name}' for name in schemas), *tables])}"
            f" in {session.server}. Have its owner run: {' '.join(grants)}"
        )


def _decide(session: Session, cursor: Any, name: str, tables: list[_Found]) -> list[_Found]:
    """Return the tables with a name that are used: one, or two if the operator wants them merged."""
    if len(tables) < 2:
        return tables
    with_rows = []
    for table in tables:
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table.relation.identifier))
        if cursor.fetchone()[0]:
            with_rows.append(table)
    if len(with_rows) < 2:
        return with_rows or tables[:1]
    wanted = session.server.tables_in_two_schemas
    if wanted == MERGE:
        return with_rows
    if named := [table for table in with_rows if table.schema == wanted]:
        return named
    places = " and ".join(str(table.relation) for table in with_rows)
    raise DatabaseError(
        f"In {session.server} {places} both have rows. Choose which one counts: tables_in_two_schemas in [tick_export]"
        f" of luigi.cfg, {' or '.join([*(table.schema for table in with_rows), f'{MERGE} for all of them'])}."
    )


def _require_readable(session: Session, cursor: Any, tables: Sequence[_Found]) -> None:
    """Refuse partitions that would hide rows, or that cannot be read as tables."""
    cursor.execute(_BELOW, {"oids": [table.oid for table in tables]})
    below = [(f"{schema}.{name}", kind, hidden) for _, schema, name, kind, hidden in cursor]
    if hidden := sorted(name for name, _, is_hidden in below if is_hidden):
        raise DatabaseError(
            f"In {session.server} row-level security hides rows of {', '.join(hidden)} from user {session.server.user}:"
            " an export would silently lack them. ALTER ROLE … BYPASSRLS, or drop the policy, or disable it for these"
            " tables."
        )
    if other := sorted(name for name, kind, _ in below if kind not in "rpf"):
        raise DatabaseError(f"In {session.server} {', '.join(other)} cannot be read as a table.")


_said: set[str] = set()


def _say(chosen: Mapping[str, Sequence[_Found]]) -> None:
    """Log once which tables are not in their documented schema, and which are missing."""
    for name, tables in chosen.items():
        expected = _EXPECTED[name]
        if not tables:
            _say_once(logging.WARNING, f"There is no table {name}: {expected.without} are left empty.")
        elif [table.schema for table in tables] != [expected.schema]:
            places = " and ".join(str(table.relation) for table in tables)
            _say_once(logging.INFO, f"{name} is read from {places}.")


def _say_once(level: int, text: str) -> None:
    if text not in _said:
        _said.add(text)
        _log.log(level, "%s", text)
