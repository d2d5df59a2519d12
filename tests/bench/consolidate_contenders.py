"""A day of market files as one sorted CSV: the pipeline beside DuckDB, Polars and ClickHouse (chdb)."""

import datetime
import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path

import duckdb

from tasks.day_csv.flat_csv import COLUMNS
from tests.bench.consolidate_peers import ENGINES
from tests.bench.measure import Contender, pipeline

_FACTS = {
    "rows": "count(*)",
    "price": "sum(floor(price * 1000 + 0.5)::decimal(38, 0))",
    "size": "sum(floor(size * 1000 + 0.5)::decimal(38, 0))",
    "selections": "sum(selection_id)",
    "sequence": "sum(sequence)",
    "levels": "sum(level)",
    "first": "min(publish_time)",
    "last": "max(publish_time)",
    "runners": "count(DISTINCT runner_name)",
    "columns": "any_value(columns)",
    "sorted": "bool_and(in_order)",
}


def contenders(export_dir: Path, date: datetime.date) -> list[Contender]:
    """Return all contenders for a day of an export. The other engines are spared the de-duplication, checksums,
    flushing and report.
    """
    csv = export_dir / f"consolidated_ticks_{date:%Y_%m_%d}.csv"
    report = export_dir / f"consolidation_report_{date:%Y_%m_%d}.txt"

    command = pipeline(
        "ConsolidateDay",
        "--date",
        str(date),
        "--offline",
        "--output-dir",
        str(export_dir),
        "--workers",
        str(os.cpu_count()),
    )
    result = [
        Contender("pipeline: ConsolidateDay", [command], lambda _: csv_facts(csv), writes=[csv, report], ours=True)
    ]
    for engine in ENGINES:
        job = {"output_dir": str(export_dir), "date": str(date), "target": "day.csv", "columns": list(COLUMNS)}
        missing = "" if importlib.util.find_spec(engine) else f"pip install {engine}"
        version = "" if missing else f" {importlib.metadata.version(engine)}"
        result.append(
            Contender(
                f"{engine}{version}",
                [[sys.executable, "-m", "tests.bench.consolidate_peers", engine, json.dumps(job)]],
                _peer_facts,
                missing=missing,
            )
        )
    return result


def need_bytes(rows: int) -> int:
    """Return how much disk a day of so many rows takes, a spill to disk of an engine included."""
    return rows * 500 + 100_000_000


def _peer_facts(directory: Path) -> dict[str, object]:
    return csv_facts(directory / "day.csv")


def csv_facts(path: Path) -> dict[str, object]:
    """Return what a CSV holds: rows, sums, columns, and whether publish_time and market stand in order."""
    with path.open() as file:
        columns = file.readline().strip().replace('"', "")
    types = {
        "market_id": "VARCHAR",
        "publish_time": "VARCHAR",
        "price": "DOUBLE",
        "size": "DOUBLE",
        "selection_id": "BIGINT",
        "sequence": "BIGINT",
        "level": "SMALLINT",
        "runner_name": "VARCHAR",
    }
    with duckdb.connect() as connection:
        row = connection.execute(
            f"""
            SELECT {", ".join(_FACTS.values())}
              FROM (SELECT *, ? AS columns, lag((publish_time, market_id)) OVER () <= (publish_time, market_id)
                  AS in_order
                      FROM read_csv('{path}', header = true, nullstr = ['', '\\N'], types = {types}))""",
            [columns],
        ).fetchone()
    return dict(zip(_FACTS, map(str, row or ())))
