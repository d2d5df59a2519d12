"""Runs that wait for the database: the tasks that ask it, what holds them up, and what stops them."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from tests.conftest import works_in

TASKS = {
    "ExportAll": (),
    "ExportMarket": ("--market-id", "1.101"),
    "BuildIndex": (),
    "BuildMetadata": (),
    "BuildStates": (),
    "BuildStreams": (),
    "BuildStream": ("--market-id", "1.101"),
    "BuildRunnerSummary": (),
    "Report": (),
    "ConsolidateDay": ("--date", "2026-02-05"),
    "ConsolidateAll": (),
    "ConsolidateDayDirect": ("--date", "2026-02-05"),
    "Archive": (),
    "VerifyExport": (),
    "Restore": ("--schema", "restored", "--compare"),
    "nightly": (),
}
#: Those that need an export.
OF_AN_EXPORT = ("VerifyExport", "Restore")
#: Whom each signal strikes: the process, or with its workers.
STOPS = {
    "kill": (os.kill, signal.SIGTERM),
    "Ctrl-C": (os.killpg, signal.SIGINT),
    "systemctl stop": (os.killpg, signal.SIGTERM),
}


@contextlib.contextmanager
def locked(source, table="stream_ingest.ladder_levels"):
    """Hold the lock on a table that an ALTER TABLE of the platform would take."""
    with contextlib.closing(source.server.connect(source.name)) as session, session.cursor() as cursor:
        cursor.execute("SET application_name TO 'migration'")
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield session


def wait_until_it_waits(source, process):
    """Return when a session of the run waits for a lock."""
    while not source.query(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'tick_export'"
        " AND datname = current_database()"
    ):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@contextlib.contextmanager
def first_worker_held(process):
    """Stop the first worker process of a run as it begins, before it asks for anything, until the block ends."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (workers := children.read_text().split()):
        assert process.poll() is None, process.stderr.read()
    os.kill(int(workers[0]), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(int(workers[0]), signal.SIGCONT)


def kill_session(process):
    """Kill a run with all its worker processes, also one that is being forked meanwhile; return when none works any
    more.
    """
    while alive := [other for other in psutil.process_iter() if works_in(other, process.pid)]:
        for other in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()
        time.sleep(0.01)
    process.wait()
