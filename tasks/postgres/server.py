"""The address of the database, and how to connect to it."""

import dataclasses
import os
import re
from collections.abc import Mapping

import psycopg2.extensions

from tasks.errors import DatabaseError

#: A peer that does not even acknowledge packets is abandoned after 35 s (tcp_user_timeout needs libpq 12).
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 35_000,
}
#: A URI or a conninfo, either of which can hold a password.
_CONNECTION_STRING = re.compile(r"://|\bpassword\s*=", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Server:
    """Where the database is. Its texts never contain the password.

    options: as in PGOPTIONS; lock_timeout_s: how long a statement waits for a lock; answer_timeout_s: how long it waits
    for the next byte while the server says that it is working; silence_timeout_s: how long if the server says nothing;
    tables_in_two_schemas: which of two tables with the same name counts if both have rows: a schema, "merge" for both,
    or empty for an error.
    """

    host: str = "localhost"
    port: int = 5432
    database: str = "netbet"
    user: str = "netbet"
    password: str = dataclasses.field(default="", repr=False)
    options: str = "-c search_path=public,stream_ingest"
    lock_timeout_s: int = 600
    answer_timeout_s: int = 3_600
    silence_timeout_s: int = 30
    tables_in_two_schemas: str = ""

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> "Server":
        """Return the server that POSTGRES_HOST, _PORT, _DB, _USER, _PASSWORD and PGOPTIONS name.

        libpq itself reads its own variables (PGSSLMODE, PGPASSFILE …). Raises DatabaseError if the port is not a
        number, or if one of them holds a connection string: its password would get into messages.
        """
        for name in ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "PGOPTIONS"):
            if _CONNECTION_STRING.search(environment.get(name) or ""):
                raise DatabaseError(
                    f"{name} holds a connection string or a password (not shown here). Put host, port, database, user"
                    " and password into POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DB, POSTGRES_USER and POSTGRES_PASSWORD,"
                    " one in each, in .env or the environment."
                )
        port = environment.get("POSTGRES_PORT") or "5432"
        if not port.isdecimal():
            raise DatabaseError(
                f"POSTGRES_PORT is {port!r}, expected a number such as 5432. Correct it in .env or the environment."
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

    def conninfo(self, options: str = "") -> str:
        """Return libpq's connection string. It contains the password: pass it to a driver, never to a log.

        It has no options by default, because poolers refuse them: tasks.postgres.session applies PGOPTIONS later.
        """
        secret = {"password": self.password} if self.password else {}
        return str(
            psycopg2.extensions.make_dsn(
                host=self.host,
                port=self.port,
                dbname=self.database,
                user=self.user,
                options=options,
                application_name="tick_export",
                client_encoding="UTF8",
                connect_timeout=min(10, max(2, self.silence_timeout_s)),
                **_KEEPALIVES,
                **secret,
            )
        )

    def settings(self) -> dict[str, str]:
        """Return the settings in PGOPTIONS. Raises DatabaseError if it contains anything else."""
        words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", self.options)]
        settings = {}
        while words:
            word = words.pop(0)
            text = words.pop(0) if word == "-c" and words else word[2:] if word.startswith(("-c", "--")) else ""
            name, equals, value = text.partition("=")
            if not equals or not re.fullmatch(r"[\w.-]+", name):
                raise DatabaseError(
                    f"PGOPTIONS is {self.options!r}, expected only settings, such as -c"
                    " search_path=public,stream_ingest. Correct it in .env or the environment."
                )
            settings[name.replace("-", "_").lower()] = value
        return settings


#: Texts of errors that PostgreSQL raises because of a setting, without naming it; and the setting.
_REASONS = {
    "canceling statement due to statement timeout": "statement_timeout",
    "due to idle-in-transaction timeout": "idle_in_transaction_session_timeout",
    "due to idle-session timeout": "idle_session_timeout",
    "due to transaction timeout": "transaction_timeout",
    "could not access file": "session_preload_libraries or local_preload_libraries",
    "could not load library": "session_preload_libraries or local_preload_libraries",
}


def one_line(error: BaseException) -> str:
    """Return a driver's error as one line, without its class, SQL, position or full stop. If a setting is the cause,
    the line names it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("LINE ", "^", "QUERY:", "CONTEXT:")))
    # libpq asks whether the server is running; our own messages give the next step
    text = re.sub(r"\s*Is the server running [^?]*\?", "", text).removesuffix(".") or type(error).__name__
    for said, setting in _REASONS.items():
        if said in text:
            return f"{text} (the setting {setting} of this role, database or server)"
    return text
