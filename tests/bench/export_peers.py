"""What a user would write instead of the pipeline: one query per market, one Parquet file per market, a pool of
processes.

Not sorted, not checked, not flushed to disk, no index, no metadata. They are spared the search for the markets
too: the list is handed to them, the largest first. DuckDB reads whole tables with its own threads, as its users
do: into one file per table, and, told the partitions by name, into files for each market.

Nothing of the pipeline is imported here: a peer starts as fast as it would at its user's.

BENCH_JOB='{"conninfo": …}' python -m tests.bench.export_peers adbc        # into the current directory
"""

import dataclasses
import functools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: DuckDB with its PostgreSQL extension, config/duckdb-scanner.txt: for one version of DuckDB alone, so apart from the
#: others.
SCANNER = Path(sys.prefix) / "duckdb-scanner"

_QUERY = """
    SELECT market_id, selection_id, side::text AS side, level, price, size, NULL::float8 AS traded_volume,
           publish_time, received_time
      FROM stream_ingest.ladder_levels WHERE market_id = '{0}'
     UNION ALL
    SELECT market_id, selection_id, NULL, NULL, price, size_traded, size_traded, publish_time, received_time
      FROM stream_ingest.traded_volume WHERE market_id = '{0}'
"""


@functools.cache
def _job() -> dict:
    return json.loads(os.environ["BENCH_JOB"])


@functools.cache
def _kept(connect: Callable[[str], Any], where: str) -> Any:
    """Connect once a process, as a user would who has many markets; the server ends the session with the process."""
    return connect(where)


def adbc(market_id: str) -> None:
    """The ADBC driver, streamed batch by batch."""
    import adbc_driver_postgresql.dbapi
    import pyarrow.parquet as pq

    with _kept(adbc_driver_postgresql.dbapi.connect, _job()["conninfo"]).cursor() as cursor:
        cursor.execute(_QUERY.format(market_id))
        batches = cursor.fetch_record_batch()
        with pq.ParquetWriter(f"{market_id}.parquet", batches.schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)


def connectorx(market_id: str) -> None:
    """connectorx, the whole result as one Arrow table."""
    import connectorx as cx
    import pyarrow.parquet as pq

    pq.write_table(
        cx.read_sql(_job()["url"], _QUERY.format(market_id), return_type="arrow"),
        f"{market_id}.parquet",
        compression="zstd",
    )


def _engine(conninfo: str) -> Any:
    import psycopg2
    import sqlalchemy

    return sqlalchemy.create_engine("postgresql+psycopg2://", creator=functools.partial(psycopg2.connect, conninfo))


def pandas(market_id: str) -> None:
    """pandas over SQLAlchemy and a server-side cursor, 100,000 rows at a time."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    import sqlalchemy

    engine = _kept(_engine, _job()["conninfo"])
    writer = None
    with engine.connect().execution_options(stream_results=True, max_row_buffer=100_000) as connection:
        for chunk in pd.read_sql(sqlalchemy.text(_QUERY.format(market_id)), connection, chunksize=100_000):
            table = pa.Table.from_pandas(
                chunk.astype({"side": "string", "level": "Int16", "traded_volume": "float64"}), preserve_index=False
            )
            writer = writer or pq.ParquetWriter(f"{market_id}.parquet", table.schema, compression="zstd")
            writer.write_table(table.cast(writer.schema))
    if writer:
        writer.close()


def psycopg2_csv(market_id: str) -> None:
    """COPY as CSV through psycopg2, parsed by Arrow."""
    import io

    import psycopg2
    import pyarrow.csv
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    with _kept(psycopg2.connect, _job()["conninfo"]).cursor() as cursor:
        cursor.copy_expert(f"COPY ({_QUERY.format(market_id)}) TO STDOUT (FORMAT csv, HEADER)", buffer)
    buffer.seek(0)
    types = pyarrow.csv.ConvertOptions(column_types={"market_id": "string"})
    pq.write_table(pyarrow.csv.read_csv(buffer, convert_options=types), f"{market_id}.parquet", compression="zstd")


_LADDER = (
    "SELECT market_id, selection_id, side, level, price, size, publish_time, received_time FROM source.stream_ingest."
)
_TRADED = """SELECT market_id, selection_id, NULL AS side, NULL AS level, price, size_traded AS size, publish_time,
    received_time
               FROM source.stream_ingest.traded_volume"""


def _scanner() -> Any:
    """Return DuckDB with the database attached as source."""
    sys.path.insert(0, str(SCANNER))
    import duckdb
    import duckdb_ext

    job = _job()
    connection = duckdb_ext.init(
        duckdb.connect(config={"threads": job["processes"], "preserve_insertion_order": False})
    )
    where = job["conninfo"].replace("'", "''")
    return connection.execute(f"LOAD postgres; ATTACH '{where}' AS source (TYPE postgres, READ_ONLY)")


def duckdb_tables() -> None:
    """DuckDB's PostgreSQL scanner on the two tables as they are: the partitioned one in one piece, the other by pages
    on all threads.
    """
    connection = _scanner()
    for name, select, by_pages in (
        ("ladder_levels", f"{_LADDER}ladder_levels", False),
        ("traded_volume", _TRADED, True),
    ):
        # by pages it does not end on a partitioned table: it takes that for one of 2^64 pages (duckdb-postgres issue
        # 220)
        connection.execute(f"SET pg_use_ctid_scan = {by_pages}; COPY ({select}) TO '{name}.parquet' (COMPRESSION zstd)")


def duckdb_partitions() -> None:
    """DuckDB's PostgreSQL scanner on every partition by name, all of them by pages, cut into files by market."""
    connection = _scanner()
    partitions = connection.execute("""FROM postgres_query('source', $$
        SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
         WHERE inhparent = 'stream_ingest.ladder_levels'::regclass ORDER BY relname $$)""").fetchall()
    union = " UNION ALL ".join([f'{_LADDER}"{name}"' for (name,) in partitions] + [_TRADED])
    connection.execute(
        f"COPY ({union}) TO 'markets' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (market_id),"
        " WRITE_PARTITION_COLUMNS)"
    )


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer, and the packages that it needs. Exactly one of the functions is given: to export one market, or
    everything.
    """

    packages: Sequence[str]
    market: Callable[[str], None] | None = None
    whole: Callable[[], None] | None = None


PEERS = {
    "adbc, one file per market": Peer(["adbc_driver_postgresql"], adbc),
    "connectorx, one file per market": Peer(["connectorx"], connectorx),
    "duckdb, one file per table": Peer(["duckdb", "duckdb_ext"], whole=duckdb_tables),
    "duckdb by partitions, files per market": Peer(["duckdb", "duckdb_ext"], whole=duckdb_partitions),
    "pandas, one file per market": Peer(["pandas", "sqlalchemy"], pandas),
    "psycopg2 csv, one file per market": Peer(["psycopg2"], psycopg2_csv),
}


def main(name: str) -> None:
    """Export with one peer into the current directory."""
    peer, job = PEERS[name], _job()
    if peer.whole:
        peer.whole()
        return
    with multiprocessing.get_context("spawn").Pool(job["processes"]) as pool:
        for _ in pool.imap_unordered(peer.market, job["markets"], chunksize=1):
            pass
        pool.close()
        pool.join()  # so that their processor seconds are counted


if __name__ == "__main__":
    main(sys.argv[1])
