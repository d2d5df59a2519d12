"""Every tick out of PostgreSQL into Parquet: the pipeline, the limit, and the ways a user would pick instead."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path

import duckdb

from tests.bench.export_peers import PEERS, SCANNER
from tests.bench.measure import Contender, pipeline
from tests.bench.source import FACTS, Source

PROCESSES = os.cpu_count() or 1
LIMIT = "limit: psql COPY"


def contenders(source: Source, is_wanted: Callable[[str], bool]) -> list[Contender]:
    """Return the contenders for an export of a source, each with as many processes as there are cores; of the peers,
    those that are wanted.
    """
    environment = dict(source.environment)
    libpq = {
        "PGHOST": source.server.host,
        "PGPORT": str(source.server.port),
        "PGUSER": source.server.user,
        "PGDATABASE": source.server.database,
        "PGPASSWORD": source.server.password,
    }
    expected = source.facts()
    markets = source.markets()
    covered = sum(rows for _, rows in markets)
    limit, stand_in = [], ""
    for statements in source.copies(PROCESSES):
        if source.psql:
            limit.append([source.psql, "-X", "-q", *(word for statement in statements for word in ("-c", statement))])
        else:
            stand_in = " (by psycopg2, no psql here)"
            limit.append([sys.executable, "-c", _COPY_BY_PSYCOPG2, *statements])
    result = [
        Contender(f"{LIMIT}{stand_in}", limit, lambda _: expected, libpq, is_limit=True),
        *(
            Contender(
                " ".join(["pipeline: ExportAll", *options]),
                [pipeline("ExportAll", "--workers", str(PROCESSES), "--output-dir", "export", *options)],
                partial(parquet_facts, pattern="export/markets/*.parquet"),
                environment,
                ours=True,
            )
            for options in ([], ["--report", "false"])
        ),
    ]
    if covered != expected["rows"]:
        raise ValueError(
            f"{expected['rows'] - covered:,} traded rows are of markets without a ladder row, which an export leaves"
            " out: the contenders would not read the same rows. Take another database."
        )
    job = {
        "conninfo": source.server.conninfo(),
        "url": source.url,
        "processes": PROCESSES,
        "markets": [market for market, _ in markets],
    }
    for name, peer in PEERS.items():
        command = [sys.executable, "-m", "tests.bench.export_peers", name]
        if is_wanted(name):
            result.append(
                Contender(
                    name,
                    [command],
                    partial(parquet_facts, pattern="**/*.parquet"),
                    {"BENCH_JOB": json.dumps(job)},
                    missing=_missing(peer.packages),
                )
            )
    return result


def need_bytes(rows: int) -> int:
    """Return how much disk an export of so many rows takes at most, of any contender."""
    return rows * 40 + 100_000_000


def _missing(packages: Sequence[str]) -> str:
    absent = [package for package in packages if PathFinder.find_spec(package, [str(SCANNER), *sys.path]) is None]
    return f"not installed here: {', '.join(absent)}" if absent else ""


def parquet_facts(directory: Path, pattern: str) -> dict[str, object]:
    """Return what Parquet files hold, by DuckDB: the same sums that Source.facts() asks PostgreSQL for."""
    columns = ", ".join(text.format(price="price", size="size") for text in FACTS.values())
    files = f"read_parquet('{directory}/{pattern}', union_by_name = true, hive_partitioning = false)"
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT {columns} FROM {files}").fetchone()
    return {name: int(value or 0) for name, value in zip(FACTS, row or ())}


_COPY_BY_PSYCOPG2 = """
import sys, psycopg2
with psycopg2.connect("") as connection, connection.cursor() as cursor, open("/dev/null", "wb") as null:
    for statement in sys.argv[1:]:
        cursor.copy_expert(statement, null)
"""
