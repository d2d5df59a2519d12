"""Where the database is, and what every session with it has in common."""

import dataclasses
import os
from collections.abc import Mapping

import psycopg2.extensions

from tasks.errors import DatabaseError

#: Each session reads only, sees one snapshot a transaction, and does not compile queries that are not worth it.
_SESSION = (
    "-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read -c jit=off "
    "-c max_parallel_workers_per_gather=0 -c TimeZone=UTC -c extra_float_digits=1"
)


@dataclasses.dataclass(frozen=True)
class Server:
    """Where the database is. The password stays out of every text made of this."""

    host: str = "localhost"
    port: int = 5432
    database: str = "netbet"
    user: str = "netbet"
    password: str = dataclasses.field(default="", repr=False)
    options: str = "-c search_path=public,stream_ingest"

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> "Server":
        """Return the server that POSTGRES_HOST, _PORT, _DB, _USER, _PASSWORD and PGOPTIONS name.

        libpq itself reads its own variables (PGSSLMODE, PGPASSFILE …). Raises DatabaseError on a port that is no
        number.
        """
        port = environment.get("POSTGRES_PORT") or "5432"
        if not port.isdecimal():
            raise DatabaseError(
                f"POSTGRES_PORT is {port!r}, expected a number such as 5432. Mend it in .env or the environment."
            )
        return Server(
            host=environment.get("POSTGRES_HOST") or Server.host,
            port=int(port),
            database=environment.get("POSTGRES_DB") or Server.database,
            user=environment.get("POSTGRES_USER") or Server.user,
            password=environment.get("POSTGRES_PASSWORD") or "",
            options=environment.get("PGOPTIONS") or Server.options,
        )

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"

    def conninfo(self, settings: str = "") -> str:
        """Return libpq's connection string, with settings for the session. It holds the password: hand it to a
        driver, never to a log.
        """
        secret = {"password": self.password} if self.password else {}
        return str(
            psycopg2.extensions.make_dsn(
                host=self.host,
                port=self.port,
                dbname=self.database,
                user=self.user,
                options=f"{self.options} {_SESSION} {settings}",
                application_name="tick_export",
                client_encoding="UTF8",
                connect_timeout=10,
                **secret,
            )
        )


def one_line(error: BaseException) -> str:
    """Return a driver's error as one line without its class, SQL, position or full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("LINE ", "^", "QUERY:", "CONTEXT:")))
    return text.removesuffix(".") or type(error).__name__
