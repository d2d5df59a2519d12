"""One day of market files as one sorted CSV: this pipeline beside DuckDB, Polars and ClickHouse (chdb), in one run.

    python -m tests.bench.consolidate                          # makes 6,400,000 rows in 200 markets, and measures
    python -m tests.bench.consolidate --rows 30000000 --engines pipeline
    python -m tests.bench.consolidate --export-dir data_exports/tick_export --date 2024-01-15

Needs the packages of the engines asked for (pip install duckdb polars chdb). Each engine runs in a process of its own that imports
nothing but what it needs, writes the same 18 columns of the same rows in the same order, timestamps in the same text, and may take
all cores; the others are spared the de-duplication, the checksums, the flush to disk and the report. Time is wall-clock time from
start to exit; memory the peak of the process. What was measured is in docs/consolidation.md.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

DATE = datetime.date(2024, 1, 15)
BACK, LAY, TRADED = 0, 1, 2
_DAY_US = (DATE - datetime.date(1970, 1, 1)).days * 86_400_000_000
_RUNNERS, _LADDER, _TRADED = 3, 16, 25
_MESSAGE_ROWS = _RUNNERS * (_LADDER + _TRADED)
_PRICES = np.round(np.concatenate([np.arange(1.01, 2, 0.01), np.arange(2, 3, 0.02), np.arange(3, 4, 0.05), np.arange(4, 6, 0.1)]), 2)


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


def make_export(output_dir: Path, rows: int, markets: int) -> None:
    """Write an export of one day with about so many rows, a few markets holding most of them, as Parquet."""
    from tasks.ticks import disk, metadata
    from tasks.ticks.files import MarketWriter
    from tasks.ticks.layout import Layout
    from tasks.ticks.ticks import Ticks

    layout = Layout(output_dir)
    layout.markets_dir.mkdir(parents=True)
    random = np.random.default_rng(1)
    shares = 1 / (1 + np.arange(markets)) ** 0.9
    events = {}
    for market, share in enumerate(shares / shares.sum()):
        market_id = f"1.{200_000_000 + int(random.integers(1_000_000)) * 1_000 + market}"
        events[market_id] = str(30_000_000 + market)
        messages = max(int(rows * share) // _MESSAGE_ROWS, 1)
        with MarketWriter(layout.market_file(market_id), market_id) as writer:
            for arrays in _messages(random, messages):
                writer.write(Ticks(*arrays).sorted())
            writer.finish(time.time_ns() // 1000)
            writer.file.publish()
        names = [f"Runner {market}, {n}" for n in range(_RUNNERS)]
        known = metadata.from_row((market_id, events[market_id], "Match Odds", "MATCH_ODDS_FT", _DAY_US + 43_200_000_000,
                                   "CLOSED", True, [1_000_001 + n for n in range(_RUNNERS)], names))
        layout.metadata_file(market_id).write_bytes(metadata.render(known))
    found = disk.look_at_disk(layout, disk.list_files(layout))
    disk.publish_index(layout, found, disk.index_rows(layout, found, events))


def _messages(random: np.random.Generator, messages: int) -> Iterator[list[np.ndarray]]:
    """Yield the columns of a market's messages: full snapshots of all runners, of which most sizes repeat those of the snapshot before."""
    times = _DAY_US + np.sort(random.choice(86_400_000, messages, replace=False)) * 1000
    side = np.tile(np.concatenate([np.repeat([BACK, LAY], _LADDER // 2), np.full(_TRADED, TRADED)]), _RUNNERS).astype(np.int8)
    level = np.tile(np.concatenate([np.tile(np.arange(_LADDER // 2), 2), np.zeros(_TRADED)]), _RUNNERS).astype(np.int16)
    price = np.concatenate([_PRICES[np.concatenate([b - np.arange(8), b + 1 + np.arange(8), b - 12 + np.arange(_TRADED)])]
                            for b in random.integers(20, len(_PRICES) - 20, _RUNNERS)])
    size = np.round(random.lognormal(4, 2, _MESSAGE_ROWS), 2)
    selection = np.repeat(1_000_001 + np.arange(_RUNNERS), _LADDER + _TRADED)
    for start in range(0, messages, 1_000):
        moments = times[start:start + 1_000]
        count = len(moments)
        changed = np.where(random.random((count, _MESSAGE_ROWS)) < 0.05, np.round(random.lognormal(4, 2, (count, _MESSAGE_ROWS)), 2), 0)
        changed[0] = np.where(changed[0] == 0, size, changed[0])
        newest = np.maximum.accumulate(np.where(changed != 0, np.arange(count)[:, None], 0), axis=0)
        sizes = changed[newest, np.arange(_MESSAGE_ROWS)]
        size = sizes[-1]
        publish = np.repeat(moments, _MESSAGE_ROWS)
        yield [np.zeros(len(publish), np.int64), publish, publish + 13_000,
               *(np.tile(column, count) for column in (selection, side, level, price)), sizes.ravel()]


def descriptions(job: Job) -> dict[str, list[object]]:
    """Return what the metadata files say, as columns to join with."""
    columns: dict[str, list[object]] = {name: [] for name in (
        "market_id", "selection_id", "event_id", "market_status", "market_start_time", "market_type", "runner_name")}
    for path in sorted(Path(job.output_dir, "markets").glob("*_metadata.json")):
        known = json.loads(path.read_bytes())
        for runner in known["runners"]:
            values = (known["marketId"], runner["selectionId"], known["eventId"], known["marketStatus"], known["marketStartTime"],
                      known["marketType"], runner["runnerName"])
            for column, value in zip(columns.values(), values):
                column.append(value)
    return columns


def run_pipeline(job: Job) -> None:
    from tasks.ticks import export_source, index
    from tasks.ticks.consolidate import Consolidation, consolidate
    from tasks.ticks.layout import Layout
    from tasks.ticks.span import Span

    layout, span, target = Layout(Path(job.output_dir)), Span.of_day(datetime.date.fromisoformat(job.date)), Path(job.target)
    source = export_source.ExportSource(layout, export_source.with_ticks(layout, index.read(layout.index), span), span)
    consolidate(Consolidation(target, target.with_suffix(".txt"), span, job.date), source)


def _select(job: Job, time_text: str, day: str, ticks: str) -> str:
    columns = ", ".join(f"{time_text.format(f'ticks.{name}')} AS {name}" if name in ("received_at", "publish_time") else name
                        for name in job.columns)
    return (f"SELECT {columns} FROM {ticks} AS ticks LEFT JOIN described USING (market_id, selection_id) WHERE {day} "
            "ORDER BY ticks.publish_time, market_id, selection_id, CASE side WHEN 'BACK' THEN 0 WHEN 'LAY' THEN 1 ELSE 2 END, "
            "level, sequence")


def run_duckdb(job: Job) -> None:
    import duckdb
    import pyarrow as pa

    described = pa.table(descriptions(job))  # noqa: F841  (DuckDB finds it by its name)
    day = f"ticks.publish_time >= '{job.date} 00:00:00+00' AND ticks.publish_time < '{job.next_date} 00:00:00+00'"
    select = _select(job, "strftime({0} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')", day, f"read_parquet('{job.files}')")
    duckdb.execute(f"SET TimeZone = 'UTC'; COPY ({select}) TO '{job.target}' (FORMAT csv, HEADER)")


def run_polars(job: Job) -> None:
    import polars as pl

    start, end = (datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC) for date in (job.date, job.next_date))
    side = pl.col("side").cast(pl.String)
    described = pl.LazyFrame(descriptions(job)).with_columns(pl.col("selection_id").cast(pl.Int64))
    (pl.scan_parquet(job.files)
     .filter((pl.col("publish_time") >= start) & (pl.col("publish_time") < end))
     .with_columns(pl.col("market_id").cast(pl.String), side.alias("side"))
     .join(described, on=["market_id", "selection_id"], how="left")
     .sort("publish_time", "market_id", "selection_id", "side", "level", "sequence", nulls_last=True)
     .select(job.columns)
     .sink_csv(job.target, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ"))


def run_chdb(job: Job) -> None:
    import chdb.session
    import pyarrow as pa
    import pyarrow.parquet

    described = f"{job.target}.described"
    pyarrow.parquet.write_table(pa.table(descriptions(job)), described)
    start, end = (f"toDateTime64('{moment}', 6, 'UTC')" for moment in (job.date, job.next_date))
    day = f"ticks.publish_time >= {start} AND ticks.publish_time < {end}"
    select = _select(job, "formatDateTime({0}, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC')", day, f"file('{job.files}', Parquet)")
    chdb.query(f"WITH described AS (SELECT * FROM file('{described}', Parquet)) {select} INTO OUTFILE '{job.target}' FORMAT CSVWithNames")


ENGINES: dict[str, Callable[[Job], None]] = {
    "pipeline": run_pipeline, "duckdb": run_duckdb, "polars": run_polars, "chdb": run_chdb}


def measure(engine: str, job: Job) -> str:
    """Run an engine in a process of its own and return a line of the table."""
    target = Path(job.target)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.consolidate", "--run", engine, json.dumps(dataclasses.asdict(job))])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    duration_s = time.monotonic() - started
    if process.returncode:
        return f"| {engine} | failed with exit code {process.returncode} after {duration_s:.1f} s | | | | |"
    with open(target, "rb") as file:
        rows = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 24), b"")) - 1
    size_bytes = target.stat().st_size
    target.unlink()
    version = "" if engine == "pipeline" else f" {importlib.metadata.version(engine)}"
    return (f"| {engine}{version} | {rows:,} | {duration_s:.1f} | {usage.ru_utime + usage.ru_stime:.1f} | {rows / duration_s / 1e6:.2f} | "
            f"{usage.ru_maxrss / 1e6:.2f} | {size_bytes / 1e9:.2f} |")


def main() -> None:
    """Read the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export-dir", type=Path, help="an export in Parquet with an index; made if not given")
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=DATE, help="the UTC day")
    parser.add_argument("--rows", type=int, default=6_400_000, help="rows to make")
    parser.add_argument("--markets", type=int, default=200, help="markets to make")
    parser.add_argument("--engines", default=",".join(ENGINES), help="which to run, separated by commas")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs")
    parser.add_argument("--scratch", type=Path, help="directory for what is made and written, removed at the end")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        engine, job = arguments.run
        ENGINES[engine](Job(**json.loads(job)))
        return
    from tasks.ticks.flat_csv import COLUMNS
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        export_dir = arguments.export_dir
        if export_dir is None:
            export_dir = Path(name) / "export"
            make_export(export_dir, arguments.rows, arguments.markets)
        print("| engine | rows | wall s | CPU s | M rows/s | peak GB | CSV GB |\n|---|---|---|---|---|---|---|")
        for _ in range(arguments.rounds):
            for engine in arguments.engines.split(","):
                job = Job(str(export_dir.absolute()), str(arguments.date), f"{name}/{engine}.csv", list(COLUMNS))
                print(measure(engine, job), flush=True)


if __name__ == "__main__":
    main()
