"""A schema that an export is loaded into: the only place where the pipeline writes to a database.

It is one transaction: the schema appears whole, or stays as it was.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, LiteralString

import psycopg2
import psycopg2.errors
from psycopg2 import sql

from tasks.errors import DatabaseError, UsageError
from tasks.postgres import restore_statements, tick_encoder, waiting
from tasks.postgres.database import timestamp_text
from tasks.postgres.server import Server, one_line
from tasks.postgres.session import Session
from tasks.postgres.source_tables import LADDER, LIFECYCLE, MARKETS, RUNNERS, TRADED, Relation, SourceTables, look_over
from tasks.ticks.day_sums import DAY_US
from tasks.ticks.value_text import time_text

#: Settings for loading: indexes are sorted in memory, as far as they fit.
_SETTINGS = {"maintenance_work_mem": "256MB", "work_mem": "64MB"}
_UNIQUE = "23505"
#: A transaction that creates very many partitions runs out of locks.
_OUT_OF_LOCKS = "53200"


class RestoredSchema:
    """A new or empty schema of the database, with the recorder's tables in it. Not for use by two threads at once."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        self.source_tables = SourceTables(
            {table: (Relation(name, table),) for table in (LADDER, TRADED, MARKETS, RUNNERS, LIFECYCLE)}
        )
        self._days: set[int] = set()
        self._session = Session(server, _SETTINGS, may_write=True)

    def __enter__(self) -> "RestoredSchema":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()  # discards whatever has not been committed

    def query(
        self, statement: LiteralString | sql.Composable, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, in the transaction that fills the schema. Raises DatabaseError."""
        with self._asking() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def require_empty(self) -> None:
        """Raise UsageError if the schema is not empty, DatabaseError if we may not create anything in it."""
        user, name = (self._session.quoted(sql.Identifier(text)) for text in (self.server.user, self.name))
        found = self.query(restore_statements.SCHEMA, {"name": self.name})
        if not found:
            if not self.query(restore_statements.MAY_CREATE)[0][0]:
                raise DatabaseError(
                    f"User {self.server.user} may not create schema {self.name} in {self.server}. Have the database's"
                    f" owner run: CREATE SCHEMA {name} AUTHORIZATION {user};"
                )
            return
        ((may_create, things),) = found
        if things:
            raise UsageError(
                f"Schema {self.name} in {self.server} is not empty (it has {', '.join(things)}"
                f"{' …' if len(things) == 3 else ''}). Name another one, or drop it: DROP SCHEMA {name} CASCADE;"
            )
        if not may_create:
            raise DatabaseError(
                f"User {self.server.user} may not create tables in schema {self.name} of {self.server}. Have its owner"
                f" run: GRANT CREATE, USAGE ON SCHEMA {name} TO {user};"
            )

    def make_tables(self) -> None:
        """Create the schema, if it does not exist, and its tables."""
        if not self.query(restore_statements.SCHEMA, {"name": self.name}):
            self.query(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self.name)))
        self._run(restore_statements.TABLES)

    def copy_ladder(self, day: int, records: Sequence[bytes]) -> None:
        """Load ladder rows, encoded by tick_encoder, into the partition of their UTC day (days since 1970)."""
        partition = Relation(self.name, f"{LADDER}_{time_text(day * DAY_US)[:10].replace('-', '')}")
        if day not in self._days:
            self._run(
                restore_statements.PARTITION,
                partition=partition.identifier,
                table=self._table(LADDER),
                lower=sql.Literal(_bound(day)),
                upper=sql.Literal(_bound(day + 1)),
            )
            self._days.add(day)
        self._copy(partition.identifier, LADDER, records)

    def copy_traded(self, records: Sequence[bytes]) -> None:
        """Load traded rows."""
        self._copy(self._table(TRADED), TRADED, records)

    def add_events(self, ids: Sequence[str]) -> None:
        """Add events of which only the id is known."""
        self._run(restore_statements.EVENTS, {"ids": list(ids)})

    def add_markets(self, **columns: Sequence[Any]) -> None:
        """Add markets: ids, events, types, names, starts (as text)."""
        self._run(restore_statements.MARKETS, columns)

    def add_runners(self, **columns: Sequence[Any]) -> None:
        """Add runners: ids (of their markets), selections, names."""
        self._run(restore_statements.RUNNERS, columns)

    def add_states(self, **columns: Sequence[Any]) -> None:
        """Add states of markets as lifecycle events: ids, statuses, in_plays, moments (as text)."""
        self._run(restore_statements.LIFECYCLE, columns)

    def finish(self) -> list[str]:
        """Create keys and indexes; return the tables that get no key, because rows share one."""
        without_key = []
        for table, statement in restore_statements.KEYS.items():
            self._run("SAVEPOINT key")
            try:
                with self._session.waited(f"the key of {table}"), self._session.cursor() as cursor:
                    cursor.execute(sql.SQL(statement).format(table=self._table(table)))
            except psycopg2.errors.UniqueViolation:
                self._run("ROLLBACK TO SAVEPOINT key")
                without_key.append(table)
            except psycopg2.Error as error:
                raise self._failed(error) from None
        self._run(restore_statements.INDEXES)
        return without_key

    def only_in_first(self, table: str, others: SourceTables, until_us: Mapping[str, int]) -> tuple[int, int]:
        """Return how many rows of markets, each up to a publish_time, are only in others, and only here."""
        both = others.rows(table), self.source_tables.rows(table)
        columns = sql.SQL(", ").join(map(sql.Identifier, tick_encoder.columns(table)))
        values = {"ids": list(until_us), "until": [timestamp_text(moment) for moment in until_us.values()]}
        statement = sql.SQL(restore_statements.ONLY_IN_FIRST)
        (theirs,), (ours,) = (
            self.query(statement.format(columns=columns, first=first, second=second), values)[0]
            for first, second in (both, both[::-1])
        )
        return theirs, ours

    def commit(self) -> None:
        """Commit: other sessions see the schema from now on."""
        try:
            with self._session.waited("the end of the transaction"):
                self._session.connection.commit()
        except psycopg2.Error as error:
            raise self._failed(error) from None

    def _table(self, name: str) -> sql.Identifier:
        return Relation(self.name, name).identifier

    def _run(self, statement: LiteralString, values: Mapping[str, Any] | None = None, **names: sql.Composable) -> None:
        self.query(sql.SQL(statement).format(schema=sql.Identifier(self.name), **names), values)

    def _copy(self, target: sql.Composable, table: str, records: Sequence[bytes]) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, tick_encoder.columns(table)))
        statement = sql.SQL(restore_statements.COPY).format(table=target, columns=columns)
        content = io.BytesIO(b"".join((tick_encoder.HEADER, *records, tick_encoder.TRAILER)))
        with self._asking() as cursor:
            cursor.copy_expert(statement, content, 1 << 20)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            with self._session.cursor() as cursor, self._session.waited("an answer"):
                yield cursor
        except psycopg2.Error as error:
            raise self._failed(error) from None

    def _failed(self, error: psycopg2.Error) -> DatabaseError:
        waiting.raise_if_interrupted()
        advice = ""
        if error.pgcode == _OUT_OF_LOCKS:
            advice = (
                f" A restore locks each of its partitions ({len(self._days)} so far): raise max_locks_per_transaction"
                " on the server, or restore fewer days."
            )
        return DatabaseError(
            f"Restoring into schema {self.name} of {self.server} failed: {one_line(error)}.{advice} Nothing was kept of"
            " it."
        )


def recorders_tables(server: Server) -> SourceTables:
    """Return where a database has the recorder's tables of ticks. Raises DatabaseError if it has none."""
    session = Session(server)
    try:
        return look_over(session, (LADDER, TRADED))
    finally:
        session.close()


def _bound(day: int) -> str:
    return f"{time_text(day * DAY_US).partition('T')[0]} 00:00:00+00"
