"""The database that is exported: an invented recording in a PostgreSQL of our own, or one that exists."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import psycopg2

from tasks.demo.load import create_schema, load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tasks.postgres.server import Server
from tests.bench.measure import require_free, say

#: On disk with its indexes, a row of the recorder's tables takes about so much; and as much again while it is loaded.
_ROW_BYTES = 300

LADDER = "market_id, selection_id, side, level, price, size, publish_time, received_time"
TRADED = "market_id, selection_id, price, size_traded, publish_time, received_time"

_LEAVES = """
    SELECT format('%I.%I', c.relnamespace::regnamespace, c.relname), inh.inhparent IS NOT NULL,
           pg_relation_size(c.oid) / current_setting('block_size')::int
      FROM pg_class c LEFT JOIN pg_inherits inh ON inh.inhrelid = c.oid
     WHERE c.relkind = 'r'
       AND (c.oid = 'stream_ingest.traded_volume'::regclass OR inh.inhparent = 'stream_ingest.ladder_levels'::regclass)
"""

#: What must be equal, whoever read the rows: sums that do not depend on the order. The same arithmetic in PostgreSQL
#: and in DuckDB.
FACTS = {
    "rows": "count(*)",
    "price": (
        "sum(floor({price} * 1000 + 0.5)::decimal(38, 0)) FILTER (WHERE {price} > '-Infinity' AND {price} < 'Infinity')"
    ),
    "size": (
        "sum(floor({size} * 1000 + 0.5)::decimal(38, 0)) FILTER (WHERE {size} > '-Infinity' AND {size} < 'Infinity')"
    ),
    "selections": "sum(selection_id)",
    "markets": "count(DISTINCT market_id)",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """A database with ticks.

    Attributes:
        environment: the variables that lead the pipeline to it.
        what: what it is, in a line. psql: a client that can read it, None where there is none.
    """

    server: Server
    environment: Mapping[str, str]
    what: str
    psql: str | None

    @property
    def url(self) -> str:
        """The address as SQLAlchemy and connectorx take it."""
        host = self.server.host.replace("/", "%2F")
        secret = f":{self.server.password}" if self.server.password else ""
        return f"postgresql://{self.server.user}{secret}@{host}:{self.server.port}/{self.server.database}"

    def query(self, statement: str) -> list[tuple]:
        """Return the rows of a statement."""
        with contextlib.closing(psycopg2.connect(self.server.conninfo())) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def copies(self, processes: int) -> list[list[str]]:
        """Return for each process the COPY statements that together read every row once: an equal share of each
        table's pages.
        """
        shares: list[list[str]] = [[] for _ in range(processes)]
        for table, is_ladder, pages in self.query(_LEAVES):
            for number, share in enumerate(shares):
                edges = [pages * edge // processes for edge in (number, number + 1)]
                share.append(
                    f"COPY (SELECT {LADDER if is_ladder else TRADED} FROM {table} "
                    f"WHERE ctid >= '({edges[0]},0)' AND ctid < '({edges[1]},0)') TO STDOUT (FORMAT binary)"
                )
        return shares

    def markets(self) -> list[tuple[str, int]]:
        """Return the markets that an export covers with their rows, the largest first."""
        return self.query("""
            SELECT market_id, ladder.rows + coalesce(traded.rows, 0)
              FROM (SELECT market_id, count(*) AS rows FROM stream_ingest.ladder_levels GROUP BY 1) AS ladder
              LEFT JOIN (SELECT market_id, count(*) AS rows FROM stream_ingest.traded_volume GROUP BY 1) AS traded
                  USING (market_id)
             ORDER BY 2 DESC, 1""")

    def facts(self) -> dict[str, object]:
        """Return what every contender has to produce, from SQL alone."""
        columns = ", ".join(text.format(price="price", size="size") for text in FACTS.values())
        (row,) = self.query(f"""
            SELECT {columns} FROM (
                SELECT market_id, selection_id, price, size FROM stream_ingest.ladder_levels
                 UNION ALL SELECT market_id, selection_id, price, size_traded FROM stream_ingest.traded_volume)
                     AS tick""")
        return {name: int(value or 0) for name, value in zip(FACTS, row)}

    def server_cpu(self) -> Callable[[], float | None]:
        """Return a function that tells the processor seconds PostgreSQL has used so far; None if it runs elsewhere."""
        ((pids,),) = self.query(
            "SELECT array_agg(pid) FROM pg_stat_activity WHERE backend_type IN ('checkpointer', 'background writer')"
        )
        try:
            postmaster = psutil.Process(pids[0]).parent()
            if postmaster is None or not postmaster.name().startswith("postgres"):
                return lambda: None
        except psutil.Error:
            return lambda: None

        def seconds() -> float:
            while True:
                own = postmaster.cpu_times()
                total = own.user + own.system + own.children_user + own.children_system
                for child in postmaster.children():
                    with contextlib.suppress(psutil.Error):
                        times = child.cpu_times()
                        total += times.user + times.system
                # else one ended meanwhile, and stands in neither
                if postmaster.cpu_times().children_user == own.children_user:
                    return float(total)

        return seconds


@contextlib.contextmanager
def own_server() -> Iterator[PostgresServer]:
    """Yield an empty PostgreSQL server, which is gone with its data at the end."""
    with PostgresServer(tcp=True) as server:
        yield server


def make(server: PostgresServer, name: str, recording: Recording) -> Source:
    """Fill a new database of our own server with an invented recording."""
    require_free(Path(tempfile.gettempdir()), recording.ticks * _ROW_BYTES)
    say(f"Making {recording.ticks:,} rows in {recording.markets:,} markets ...")
    server.create_database(name)
    with contextlib.closing(server.connect(name)) as connection:
        create_schema(connection)
    summary = load(recording, server.conninfo(name))
    what = (
        f"invented: {summary.ladder_rows:,} ladder and {summary.traded_rows:,} traded rows in "
        f"{summary.markets - summary.markets_without_ticks:,} markets"
    )
    environment = server.environment(name)
    own = server.program("psql")
    return Source(
        Server.from_environment(environment), environment, what, shutil.which("psql") or (str(own) if own else None)
    )


def given() -> Source:
    """Return the database that POSTGRES_HOST and its like name."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(("POSTGRES_", "PG"))}
    server = Server.from_environment(environment)
    return Source(server, environment, f"database {server}", shutil.which("psql"))


def drop(server: PostgresServer, name: str) -> None:
    """Remove a database of our own server, to give its disk back."""
    with contextlib.closing(server.connect()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
