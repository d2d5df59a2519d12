"""Waits for the database: Ctrl-C and kill end each of them, after ten seconds it logs what it waits for, and a silent
server is abandoned.

libpq waits in poll() without a timeout, where Python cannot raise anything. So each process has a thread that watches:
the signal itself wakes it (signal.set_wakeup_fd), and it ends the wait by shutting down the connection's socket.
"""

import contextlib
import dataclasses
import logging
import os
import queue
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import psycopg2
import psycopg2.extensions

from tasks.errors import DatabaseError
from tasks.postgres.server import Server, one_line

_log = logging.getLogger("tick_export.database")

#: After so long without a byte, and again and again, we ask what the wait is for; how often a long one is logged.
_ASK_EVERY_S, _SAY_EVERY_S = 10.0, 60.0
#: What libpq says if TLS is the reason.
_TLS = re.compile(r"certificate|sslmode|SSL error|support SSL")
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM}
#: Milliseconds since the last data came, in Linux' struct tcp_info.
_TCP_INFO, _LAST_DATA_RECEIVED = 11, slice(52, 56)

_BLOCKERS = """
    SELECT own.state, coalesce(own.wait_event, ''),
           (SELECT string_agg(DISTINCT coalesce(n.nspname || '.' || c.relname, l.locktype), ', ')
              FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
              LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE l.pid = own.pid AND NOT l.granted),
           (SELECT string_agg(pg_catalog.format('process %%s (user %%s, %%s, %%s since %%s UTC: %%s)',
                       other.pid, other.usename, coalesce(nullif(other.application_name, ''), 'no application name'),
                       coalesce(other.state, 'state unknown'),
                       to_char(other.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS'), left(other.query, 80)), '; ')
              FROM pg_catalog.pg_stat_activity other WHERE other.pid = ANY (pg_catalog.pg_blocking_pids(own.pid)))
      FROM pg_catalog.pg_stat_activity own WHERE own.pid = %(pid)s
"""


@dataclasses.dataclass(eq=False)
class _Wait:
    """A wait in progress. reason: why we ended it, None until then."""

    connection: psycopg2.extensions.connection
    server: Server
    what: str
    started_s: float
    asked_s: float = 0.0
    said_s: float = 0.0
    is_asking: bool = False
    reason: str | None = None

    @property
    def ask_every_s(self) -> float:
        """How long the server may be silent before we ask what the wait is for."""
        return min(_ASK_EVERY_S, self.server.silence_timeout_s / 3)

    def silent_s(self) -> float:
        """Return for how long no byte has arrived."""
        waited_s = time.monotonic() - self.started_s
        with contextlib.suppress(OSError, psycopg2.Error, ValueError), _socket_of(self.connection) as own:
            if own.family != socket.AF_UNIX:
                info = own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 104)
                return min(waited_s, int.from_bytes(info[_LAST_DATA_RECEIVED], sys.byteorder) / 1000)
        return waited_s

    def give_up(self, reason: str) -> None:
        """End the wait: the driver's call returns with an error at once."""
        self.reason = self.reason or reason
        with contextlib.suppress(OSError, psycopg2.Error), _socket_of(self.connection) as own:
            own.shutdown(socket.SHUT_RDWR)


def _socket_of(connection: psycopg2.extensions.connection) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


class _Watch:
    """Watches the waits of this process."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()
        self._waits: set[_Wait] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake, self._woken = -1, -1

    def start(self) -> None:
        """Start to watch, once. Signals are noticed only if the main thread calls this."""
        with self._lock:
            if self._thread is None:
                self._wake, self._woken = os.pipe()
                os.set_blocking(self._woken, False)
                self._thread = threading.Thread(target=self._run, name="waits", daemon=True)
                self._thread.start()
            if threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)

    def add(self, wait: _Wait) -> None:
        with self._lock:
            self._waits.add(wait)
        if self.interrupted.is_set():
            wait.give_up("interrupted")

    def remove(self, wait: _Wait) -> None:
        with self._lock:
            self._waits.discard(wait)

    def under_way(self) -> list[_Wait]:
        with self._lock:
            return list(self._waits)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._wake], [], [], 1.0)
            if ready and _SIGNALS.intersection(os.read(self._wake, 4096)):
                self.interrupted.set()
            for wait in self.under_way():
                if self.interrupted.is_set():
                    wait.give_up("interrupted")
                else:
                    self._look_at(wait)

    def _look_at(self, wait: _Wait) -> None:
        now_s, silent_s = time.monotonic(), wait.silent_s()
        if silent_s >= wait.server.answer_timeout_s:
            wait.give_up(
                f"no byte came for {silent_s:.0f} s ([tick_export] answer_timeout_s in luigi.cfg is"
                f" {wait.server.answer_timeout_s})"
            )
        elif silent_s >= wait.ask_every_s and not wait.is_asking and now_s - wait.asked_s >= wait.ask_every_s:
            wait.is_asking, wait.asked_s = True, now_s
            threading.Thread(target=self._ask, args=(wait,), name="who blocks", daemon=True).start()

    def _ask(self, wait: _Wait) -> None:
        """Ask over a second connection what the first one is waiting for."""
        try:
            found = _activity(wait)
            silent_s = wait.silent_s()
            if wait not in self.under_way() or silent_s < wait.ask_every_s:
                return
            if isinstance(found, str):
                if silent_s >= wait.server.silence_timeout_s:
                    wait.give_up(f"no byte came for {silent_s:.0f} s, and a second connection found: {found}")
                else:
                    self._say(wait, f"the server is silent: {found}")
                return
            state, event, lock, blockers = found
            if lock or blockers:
                self._say(wait, f"a lock on {lock or 'something'}, held by {blockers or 'nobody any more'}")
            elif state == "active" and event != "ClientWrite":
                self._say(wait, "the server is still working on it")
            elif silent_s >= wait.server.silence_timeout_s:
                wait.give_up(f"no byte came for {silent_s:.0f} s, although the server has sent its answer")
            else:
                self._say(wait, "the server has answered, but the answer does not arrive")
        finally:
            wait.is_asking = False

    def _say(self, wait: _Wait, why: str) -> None:
        now_s = time.monotonic()
        if now_s - wait.said_s >= _SAY_EVERY_S:
            wait.said_s = now_s
            _log.warning("Waiting for %s from %s for %.0f s: %s.", wait.what, wait.server, now_s - wait.started_s, why)


def _activity(wait: _Wait) -> tuple[str, str, str | None, str | None] | str:
    """Return the waiting session's state, wait event, lock and who holds it; or what went wrong."""
    try:
        pid = wait.connection.get_backend_pid()
        asking = psycopg2.connect(wait.server.conninfo())
    except psycopg2.Error as error:
        return one_line(error)
    timer = threading.Timer(wait.ask_every_s, _Wait(asking, wait.server, "", 0.0).give_up, ("",))
    timer.daemon = True
    timer.start()
    try:
        with contextlib.closing(asking), asking.cursor() as cursor:
            cursor.execute(_BLOCKERS, {"pid": pid})
            rows = cursor.fetchall()
    except psycopg2.Error as error:
        return one_line(error)
    finally:
        timer.cancel()
    # a pooler reports other process ids: then nothing more can be found out
    return rows[0] if rows else ("active", "", None, None)


_watch = _Watch()


def _begin_anew() -> None:
    """Give a worker process a watch of its own: it must not end the connections of its parent."""
    global _watch
    was_watching = _watch._thread is not None
    _watch = _Watch()
    if was_watching:
        _watch.start()


os.register_at_fork(after_in_child=_begin_anew)


def connect(server: Server, options: str = "") -> psycopg2.extensions.connection:
    """Connect; an interrupt ends the wait at once. options: for the session's start, as PGOPTIONS. Raises
    DatabaseError.
    """
    _watch.start()
    answer: queue.SimpleQueue[psycopg2.extensions.connection | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(psycopg2.connect(server.conninfo(options)))
        except BaseException as error:
            answer.put(error)

    # after an interrupt this thread may go on until the process ends
    threading.Thread(target=ask, name="connect", daemon=True).start()
    while True:
        with contextlib.suppress(queue.Empty):
            found = answer.get(timeout=0.2)
            break
        raise_if_interrupted()
    if isinstance(found, psycopg2.Error):
        raise _no_connection(server, found) from None
    if isinstance(found, BaseException):
        raise found
    return found


def _no_connection(server: Server, error: psycopg2.Error) -> DatabaseError:
    text = one_line(error)
    if "startup parameter" in text:
        return DatabaseError(
            f"The pooler at {server} refuses a start-up parameter: {text}. Have it ignore that one (PgBouncer:"
            " ignore_startup_parameters; see docs/pgbouncer.md), or name the server itself in POSTGRES_HOST and"
            " POSTGRES_PORT."
        )
    if "the setting " in text or 'in parameter "' in text:
        return DatabaseError(f"No connection to {server}: {text}. Reset it with ALTER ROLE or ALTER DATABASE … RESET.")
    if _TLS.search(text):
        return DatabaseError(
            f"No connection to {server}: {text}. Check PGSSLMODE and PGSSLROOTCERT, and that POSTGRES_HOST is a name in"
            " the server's certificate."
        )
    return DatabaseError(
        f"No connection to {server}: {text}. Check POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DB, POSTGRES_USER and"
        " POSTGRES_PASSWORD, and that the server is running."
    )


@contextlib.contextmanager
def watched(connection: psycopg2.extensions.connection, server: Server, what: str) -> Iterator[None]:
    """Watch a call of the driver. Raises KeyboardInterrupt (in the main thread) or DatabaseError if the watch ended the
    wait.
    """
    wait = _Wait(connection, server, what, time.monotonic())
    _watch.add(wait)
    try:
        yield
    except psycopg2.Error:
        raise_if_interrupted()
        if wait.reason is not None:
            raise DatabaseError(
                f"Waiting for {what} from {server} was given up. {wait.reason}. Start again when the server answers."
            ) from None
        raise
    finally:
        _watch.remove(wait)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt in the main thread, DatabaseError in others, if there was an interrupt."""
    if _watch.interrupted.is_set():
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        raise DatabaseError("Interrupted.")
