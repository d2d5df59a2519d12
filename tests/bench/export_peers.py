"""What a user would write instead of the pipeline: one query a market, one Parquet file a market, a pool of processes.

Not sorted, not checked, not flushed to disk, no index, no metadata. They are spared the search for the markets too: the list is handed to
them, the largest first. DuckDB reads whole tables with its own threads, as its users do, and writes a file a table.

    BENCH_JOB='{"conninfo": …}' python -m tests.bench.export_peers adbc        # into the current directory
"""

import dataclasses
import functools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.source import LADDER, TRADED

_QUERY = """
    SELECT market_id, selection_id, side::text AS side, level, price, size, NULL::float8 AS traded_volume, publish_time, received_time
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
    pq.write_table(cx.read_sql(_job()["url"], _QUERY.format(market_id), return_type="arrow"), f"{market_id}.parquet", compression="zstd")


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
            table = pa.Table.from_pandas(chunk.astype({"side": "string", "level": "Int16", "traded_volume": "float64"}), preserve_index=False)
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


def duckdb() -> None:
    """DuckDB's PostgreSQL scanner, an extension that it downloads at first use."""
    import duckdb as engine
    job = _job()
    connection = engine.connect(config={"threads": job["processes"], "preserve_insertion_order": False})
    connection.execute(f"LOAD postgres; ATTACH '{job['conninfo']}' AS source (TYPE postgres, READ_ONLY)")
    for table, columns in (("ladder_levels", LADDER), ("traded_volume", TRADED.replace("size_traded", "size_traded AS size"))):
        connection.execute(f"COPY (SELECT {columns} FROM source.stream_ingest.{table}) TO '{table}.parquet' (COMPRESSION zstd)")


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer: what it needs, and how it cuts the rows into files. Exactly one of the functions is given."""

    packages: Sequence[str]
    market: Callable[[str], None] | None = None
    whole: Callable[[], None] | None = None

    @property
    def cut(self) -> str:
        """How it cuts, for the table."""
        return ", a file a table" if self.whole else ", a file a market"


PEERS = {
    "adbc": Peer(["adbc_driver_postgresql"], adbc),
    "connectorx": Peer(["connectorx"], connectorx),
    "duckdb": Peer(["duckdb"], whole=duckdb),
    "pandas": Peer(["pandas", "sqlalchemy"], pandas),
    "psycopg2 csv": Peer(["psycopg2"], psycopg2_csv),
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
