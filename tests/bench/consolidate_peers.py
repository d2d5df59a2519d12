"""What a user would write instead of ConsolidateDay: a query of DuckDB, Polars or ClickHouse (chdb) over the market
files.

Each writes the same 18 columns of the same rows in the same order, timestamps in the same text, and may take all
cores.

python -m tests.bench.consolidate_peers duckdb '{"output_dir": …}'
"""

import dataclasses
import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Job:
    """What an engine is to do: the day of the market files in a directory into the target."""

    output_dir: str
    date: str
    target: str
    columns: list[str]

    @property
    def files(self) -> str:
        """The market files, for engines that take a pattern."""
        return f"{self.output_dir}/markets/*.parquet"

    @property
    def next_date(self) -> str:
        """The day's end."""
        return str(datetime.date.fromisoformat(self.date) + datetime.timedelta(days=1))


def descriptions(job: Job) -> dict[str, list[object]]:
    """Return what the metadata files say, as columns to join with."""
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            "market_id",
            "selection_id",
            "event_id",
            "market_status",
            "market_start_time",
            "market_type",
            "runner_name",
        )
    }
    for path in sorted(Path(job.output_dir, "markets").glob("*_metadata.json")):
        known = json.loads(path.read_bytes())
        for runner in known["runners"]:
            values = (
                known["marketId"],
                runner["selectionId"],
                known["eventId"],
                known["marketStatus"],
                known["marketStartTime"],
                known["marketType"],
                runner["runnerName"],
            )
            for column, value in zip(columns.values(), values):
                column.append(value)
    return columns


def _select(job: Job, time_text: str, day: str, ticks: str) -> str:
    columns = ", ".join(
        f"{time_text.format(f'ticks.{name}')} AS {name}" if name in ("received_at", "publish_time") else name
        for name in job.columns
    )
    return (
        f"SELECT {columns} FROM {ticks} AS ticks LEFT JOIN described USING (market_id, selection_id) WHERE {day} ORDER"
        " BY ticks.publish_time, market_id, selection_id, CASE side WHEN 'BACK' THEN 0 WHEN 'LAY' THEN 1 ELSE 2 END,"
        " level, sequence"
    )


def run_duckdb(job: Job) -> None:
    import duckdb
    import pyarrow as pa

    described = pa.table(descriptions(job))  # noqa: F841  (DuckDB finds it by its name)
    day = f"ticks.publish_time >= '{job.date} 00:00:00+00' AND ticks.publish_time < '{job.next_date} 00:00:00+00'"
    select = _select(
        job, "strftime({0} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')", day, f"read_parquet('{job.files}')"
    )
    duckdb.execute(f"SET TimeZone = 'UTC'; COPY ({select}) TO '{job.target}' (FORMAT csv, HEADER)")


def run_polars(job: Job) -> None:
    import polars as pl

    start, end = (
        datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC) for date in (job.date, job.next_date)
    )
    side = pl.col("side").cast(pl.String)
    described = pl.LazyFrame(descriptions(job)).with_columns(pl.col("selection_id").cast(pl.Int64))
    (
        pl.scan_parquet(job.files)
        .filter((pl.col("publish_time") >= start) & (pl.col("publish_time") < end))
        .with_columns(pl.col("market_id").cast(pl.String), side.alias("side"))
        .join(described, on=["market_id", "selection_id"], how="left")
        .sort("publish_time", "market_id", "selection_id", "side", "level", "sequence", nulls_last=True)
        .select(job.columns)
        .sink_csv(job.target, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    )


def run_chdb(job: Job) -> None:
    import chdb.session
    import pyarrow as pa
    import pyarrow.parquet

    described = f"{job.target}.described"
    pyarrow.parquet.write_table(pa.table(descriptions(job)), described)
    start, end = (f"toDateTime64('{moment}', 6, 'UTC')" for moment in (job.date, job.next_date))
    day = f"ticks.publish_time >= {start} AND ticks.publish_time < {end}"
    select = _select(job, "formatDateTime({0}, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC')", day, f"file('{job.files}', Parquet)")
    chdb.query(
        f"WITH described AS (SELECT * FROM file('{described}', Parquet)) {select} INTO OUTFILE '{job.target}' FORMAT"
        " CSVWithNames SETTINGS format_csv_null_representation = ''"
    )


ENGINES: dict[str, Callable[[Job], None]] = {"duckdb": run_duckdb, "polars": run_polars, "chdb": run_chdb}

if __name__ == "__main__":
    ENGINES[sys.argv[1]](Job(**json.loads(sys.argv[2])))
