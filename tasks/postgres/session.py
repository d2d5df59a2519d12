"""A session with the database: it is connected, pins its settings in every transaction, and watches its waits.

All sessions are read-only, except the one that restores an export.
"""

import contextlib
import logging
import re
import select
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from tasks.errors import DatabaseError, EndedByStandby
from tasks.postgres import waiting
from tasks.postgres.server import Server, one_line
from tasks.postgres.session_settings import ENDING, HIDING, PINNED, USUAL

_log = logging.getLogger("tick_export.database")

#: Comes first of all: with a limit of a few milliseconds, no other statement would complete.
_PATIENCE = "SET LOCAL statement_timeout TO 0; SET LOCAL idle_in_transaction_session_timeout TO 0"

#: With these a standby ends a query: serialization_failure, deadlock_detected. A reader gets them nowhere else.
_RECOVERY_CONFLICT = ("40001", "40P01")

_READ = """
    SELECT name, pg_catalog.current_setting(name, true) FROM pg_catalog.unnest(%(names)s::pg_catalog.text[]) AS name
"""
_WHERE_SET = """
    SELECT coalesce((SELECT source FROM pg_catalog.pg_settings WHERE lower(name) = lower(%(name)s)), 'unknown')
"""


class Session:
    """One connection. Each of its transactions reads one snapshot, with the same settings.

    settings: override the usual ones; may_write: for a restore, which sees its own rows. Not for use by two threads at
    once.
    """

    def __init__(self, server: Server, settings: Mapping[str, str] | None = None, may_write: bool = False) -> None:
        self.server, self._may_write, self.is_standby = server, may_write, False
        self._wanted = (
            USUAL | {"lock_timeout": f"{server.lock_timeout_s}s"} | dict(settings or {}) | server.settings() | PINNED
        )
        #: The search_path in PGOPTIONS, along which tables are looked up.
        self.path = server.settings().get("search_path", '"$user", public')
        self._begin: sql.Composable = sql.SQL("")
        self._from_the_start = ""
        self._connect()

    def _connect(self) -> None:
        self.connection = waiting.connect(self.server, self._from_the_start)
        self.is_standby = self.connection.info.parameter_status("in_hot_standby") == "on"
        try:
            # (COPY … FREEZE is refused where a snapshot is kept)
            self.connection.set_session(
                isolation_level="READ COMMITTED" if self._may_write else "REPEATABLE READ", readonly=not self._may_write
            )
            self._pin()
        except psycopg2.Error as error:
            was_ended = bool(self.connection.closed) or error.pgcode == "57014"  # query_canceled
            failed = self.failure(f"No session with {self.server}", error)
            self.connection.close()
            waiting.raise_if_interrupted()
            if was_ended and not self._from_the_start:
                with contextlib.suppress(DatabaseError):  # a pooler refuses
                    self._connect_without_limits()
                    return
            raise _refused_transactions(self.server, error) or failed from None
        except BaseException:
            self.connection.close()
            raise

    def _connect_without_limits(self) -> None:
        """Connect again, without the limits that may have ended the session."""
        version = self.connection.server_version
        self._from_the_start = " ".join(
            f"-c {name}=" + re.sub(r"([\\\s])", r"\\\1", self._wanted[name])
            for name, since in ENDING.items()
            if version >= since
        )
        self._connect()

    def _pin(self) -> None:
        """Set those of the settings that this server knows, and check that they took effect."""
        with self._waited("settings"), self.connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
            cursor.execute(_READ, {"names": [*self._wanted, *HIDING]})
            found: dict[str, str | None] = dict(cursor.fetchall())
            for name in _unknown_settings(found, self.server):
                raise DatabaseError(f"PGOPTIONS sets {name}, but {self.server} knows no such setting. Leave it out.")
            known = {name: value for name, value in self._wanted.items() if found[name] is not None or "." in name}
            self._begin = sql.SQL("; ").join(
                sql.SQL("SET LOCAL {} TO {}").format(
                    sql.Identifier(name), sql.Literal(value) if name != "search_path" else sql.SQL(value)
                )
                # quote_all_identifiers first, because the others are read back according to it
                for name, value in sorted(known.items(), key=lambda item: item[0] != "quote_all_identifiers")
            )
            cursor.execute(self._begin)
            cursor.execute(_READ, {"names": [*known, *HIDING]})
            expected = {name: PINNED[name] for name in known if name in PINNED} | HIDING
            for name, value in cursor.fetchall():
                if value is not None and name in expected and value != expected[name]:
                    cursor.execute(_WHERE_SET, {"name": name})
                    raise DatabaseError(
                        f"{self.server} has the setting {name} = {value!r} (set by: {cursor.fetchone()[0]}), expected"
                        f" {expected[name]!r}: it can change what is read. ALTER ROLE {self.server.user} RESET {name},"
                        " or in the database or the pooler, wherever it is set."
                    )
            self.connection.rollback()
            if self.connection.info.parameter_status("server_encoding") == "SQL_ASCII":
                _take_any_bytes(self.connection)

    @contextlib.contextmanager
    def cursor(self, name: str | None = None) -> Iterator[psycopg2.extensions.cursor]:
        """Yield a cursor in the transaction, which is begun if there is none. With a name it is a server-side
        cursor.
        """
        self.begin()
        cursor = self.connection.cursor(name)
        try:
            yield cursor
        finally:
            if name is None:  # the end of the transaction closes a server-side cursor
                cursor.close()

    def begin(self) -> None:
        """Begin a transaction if there is none: with its settings, but without a snapshot yet."""
        if self.connection.status == psycopg2.extensions.STATUS_READY:
            if self._has_ended():  # nothing was in progress, so another connection will do
                self.connection.close()
                self._connect()
            try:
                self._begin_here()
            except psycopg2.OperationalError:
                if not self.connection.closed:
                    raise
                self._connect_without_limits()  # it ended between two looks
                self._begin_here()

    def _begin_here(self) -> None:
        with self._waited("a transaction"), self.connection.cursor() as cursor:
            cursor.execute(self._begin)

    def _has_ended(self) -> bool:
        """Return whether the server has ended the idle session (idle_session_timeout): it then sends a message
        unasked.
        """
        asked = select.poll()
        if not self.connection.closed:
            asked.register(self.connection.fileno(), select.POLLIN)
        return bool(asked.poll(0))

    def failure(self, what: str, error: psycopg2.Error) -> DatabaseError:
        """Return the error to raise for one of the driver. what: the text before its reason."""
        kind = EndedByStandby if self._was_ended_by_standby(error) else DatabaseError
        return kind(f"{what}: {one_line(error)}.{self.advice(error)}")

    def _was_ended_by_standby(self, error: psycopg2.Error) -> bool:
        # (versions before 14 do not say that they are one, and a session that is ended may not hear why)
        return "conflict with recovery" in str(error) or (
            self.is_standby and (error.pgcode in _RECOVERY_CONFLICT or bool(self.connection.closed))
        )

    def advice(self, error: psycopg2.Error) -> str:
        """Return what to do about an error that this session's server has caused, or an empty text."""
        if error.pgcode == "55P03":  # lock_not_available
            return (
                f" It has waited {self.server.lock_timeout_s} s for the lock, as lock_timeout_s in [tick_export] of"
                " luigi.cfg says. End the session that holds it, and start again."
            )
        if self._was_ended_by_standby(error):
            return (
                " It is a hot standby, which ends a query or a session that its primary's changes cannot wait for."
                " Start again; hot_standby_feedback = on and a longer max_standby_streaming_delay there make it rare."
            )
        return ""

    def waited(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Watch a wait within the block: an interrupt ends it, and so does a server that falls silent."""
        return self._waited(what)

    @contextlib.contextmanager
    def _waited(self, what: str) -> Iterator[None]:
        with waiting.watched(self.connection, self.server, what):
            yield

    def rollback(self) -> None:
        """End the transaction, if there is one and the connection still exists."""
        with contextlib.suppress(psycopg2.Error, DatabaseError), self._waited("the end of a transaction"):
            self.connection.rollback()

    def is_alive(self, again: str | None = None) -> bool:
        """Return whether the server still answers, in a new transaction or to a statement that repairs this one."""
        try:
            with self._waited("an answer"):
                if again is None:
                    self.connection.rollback()
                    self.begin()
                else:
                    with self.connection.cursor() as cursor:
                        cursor.execute(again)
        except (psycopg2.Error, DatabaseError):
            return False
        return True

    def quoted(self, name: sql.Composable) -> str:
        """Return a name as SQL text."""
        return str(name.as_string(self.connection))

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class WatchedCursor:
    """A cursor whose execute() is watched."""

    def __init__(self, cursor: psycopg2.extensions.cursor, session: Session) -> None:
        self._cursor, self._session = cursor, session

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._cursor)

    def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement."""
        with self._session.waited("an answer"):
            self._cursor.execute(statement, parameters)

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        """Return so many of the rows that are left, or fewer."""
        return list(self._cursor.fetchmany(size))


def _unknown_settings(found: Mapping[str, str | None], server: Server) -> Iterator[str]:
    """Yield the settings in PGOPTIONS that the server does not know. It accepts any name with a dot."""
    return (name for name in server.settings() if found.get(name) is None and "." not in name)


def _refused_transactions(server: Server, error: psycopg2.Error) -> DatabaseError | None:
    """Return the error if a pooler has refused the first transaction of a session, None otherwise."""
    if "closed the connection" not in str(error) or not _refuses_transactions(server):
        return None
    return DatabaseError(
        f"No session with {server}: {one_line(error)}. A pooler in statement mode does not allow transactions, which an"
        " export needs. Set pool_mode = transaction or session for it (PgBouncer: see docs/pgbouncer.md), or name the"
        " server itself in POSTGRES_HOST and POSTGRES_PORT."
    )


def _refuses_transactions(server: Server) -> bool:
    """Return whether single statements are answered, but the connection ends at BEGIN.

    The driver loses the pooler's own message about it.
    """
    connection = waiting.connect(server)
    with contextlib.closing(connection), waiting.watched(
        connection, server, "an answer"
    ), connection.cursor() as cursor:
        try:
            connection.autocommit = True
            cursor.execute("SELECT 1")
        except psycopg2.Error:
            return False
        try:
            cursor.execute("BEGIN")
        except psycopg2.Error:
            return True
        return False


def _take_any_bytes(connection: psycopg2.extensions.connection) -> None:
    """Read text from a database without an encoding, and replace bytes that are not UTF-8."""
    for name in ("SQL_ASCII", "SQLASCII"):  # each byte comes as one character, to be decoded here
        psycopg2.extensions.encodings[name] = "latin_1"
    connection.set_client_encoding("SQL_ASCII")

    def text(value: str | None, _: object) -> str | None:
        return None if value is None else value.encode("latin_1").decode("utf-8", "replace")

    kinds = psycopg2.extensions.new_type((18, 19, 25, 1042, 1043), "TEXT", text)
    arrays = psycopg2.extensions.new_array_type((1002, 1003, 1009, 1014, 1015), "TEXTS", kinds)
    psycopg2.extensions.register_type(kinds, connection)
    psycopg2.extensions.register_type(arrays, connection)
