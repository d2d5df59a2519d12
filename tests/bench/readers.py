"""Ways to read ticks out of PostgreSQL into Arrow, each in a process of its own, in turn, on the same rows.

    pip install connectorx
    python tests/bench/readers.py "host=... dbname=... user=..." MARKET_ID [rounds]

Prints seconds, CPU seconds of the client, and peak memory; checks that all readers got the same sums.
"""

import io
import resource
import subprocess
import sys
import time

COLUMNS = "selection_id, level, price, size, publish_time, received_time"


def adbc(conninfo: str, query: str):
    """The reader in use: COPY inside, parsed in C, Arrow out."""
    import adbc_driver_postgresql.dbapi
    with adbc_driver_postgresql.dbapi.connect(conninfo) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_record_batch().read_all()


def connectorx(conninfo: str, query: str):
    """A reader written in Rust."""
    import connectorx as cx
    import psycopg2.extensions
    parts = psycopg2.extensions.parse_dsn(conninfo)
    url = f"postgresql://{parts['user']}:{parts.get('password', 'x')}@{parts['host']}:{parts.get('port', 5432)}/{parts['dbname']}"
    return cx.read_sql(url, query, return_type="arrow")


def psycopg2_csv(conninfo: str, query: str):
    """COPY as CSV through psycopg2, parsed by Arrow."""
    import psycopg2
    import pyarrow.csv
    buffer = io.BytesIO()
    with psycopg2.connect(conninfo) as connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", buffer)
    buffer.seek(0)
    return pyarrow.csv.read_csv(buffer)


def psycopg2_rows(conninfo: str, query: str):
    """Rows as Python objects from a server-side cursor, as the replaced scripts read them."""
    import psycopg2
    import pyarrow as pa
    with psycopg2.connect(conninfo) as connection, connection.cursor("rows") as cursor:
        cursor.itersize = 50_000
        cursor.execute(query)
        rows = list(cursor)
    return pa.table({name: [row[number] for row in rows] for number, name in enumerate(COLUMNS.split(", "))})


def duckdb_scanner(conninfo: str, query: str):
    """DuckDB's PostgreSQL scanner (an extension that DuckDB downloads at first use)."""
    import duckdb
    connection = duckdb.connect()
    connection.execute(f"INSTALL postgres; LOAD postgres; ATTACH '{conninfo}' AS source (TYPE postgres, READ_ONLY)")
    return connection.execute("SELECT * FROM postgres_query('source', ?)", [query]).to_arrow_table()


READERS = {function.__name__: function for function in (adbc, connectorx, psycopg2_csv, psycopg2_rows, duckdb_scanner)}


def measure(name: str, conninfo: str, market_id: str) -> None:
    """Read once and print what it took."""
    query = f"SELECT {COLUMNS} FROM stream_ingest.ladder_levels WHERE market_id = '{market_id}'"
    started = time.perf_counter()
    table = READERS[name](conninfo, query)
    seconds = time.perf_counter() - started
    import pyarrow.compute as pc
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{name:16} {table.num_rows:>9} rows {seconds:6.2f} s {usage.ru_utime + usage.ru_stime:6.2f} CPU s "
          f"{usage.ru_maxrss / 1e6:5.2f} GB  {table.num_rows / seconds / 1e6:.2f} M rows/s  sum of price {pc.sum(table['price']).as_py():.2f}")


def main() -> None:
    """Measure every reader in turn, several rounds."""
    if sys.argv[1] in READERS:
        measure(*sys.argv[1:4])
        return
    conninfo, market_id, *rounds = sys.argv[1:]
    for _ in range(int(rounds[0]) if rounds else 3):
        for name in READERS:
            result = subprocess.run([sys.executable, __file__, name, conninfo, market_id], capture_output=True, text=True)
            print(result.stdout.strip() or f"{name:16} failed: {result.stderr.strip().splitlines()[-1][:120]}", flush=True)


if __name__ == "__main__":
    main()
