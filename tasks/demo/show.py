"""`./run_pipeline.sh demo`: an invented recording in a PostgreSQL of its own, exported, and what came out."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tasks.demo.load import create_schema, load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tasks.errors import ServerFailed, told
from tasks.storage.layout import Layout, market_of
from tasks.workflow.exit_codes import EXIT_USAGE, stop
from tasks.workflow.outcome import run_task

OUTPUT_DIR = Path("data_exports/demo")
_DATABASE = "netbet"
_SHOWN_FILES = 6


def demo(arguments: Sequence[str]) -> int:
    """Run the demo; return the exit code of its ExportAll."""
    if arguments:
        stop(
            f"demo takes no options, found {' '.join(arguments)!r}. To export with options of your own:"
            " ./run_pipeline.sh ExportAll.",
            EXIT_USAGE,
        )
    for name in [name for name in os.environ if name.startswith(("POSTGRES_", "PG"))]:
        del os.environ[name]
    try:
        with PostgresServer() as server:
            print("Filling a PostgreSQL of our own with an invented recording ...", flush=True)
            server.create_database(_DATABASE)
            connection = server.connect(_DATABASE)
            create_schema(connection)
            connection.close()
            summary = load(Recording.demo(), server.conninfo(_DATABASE))
            print(
                f"{summary.ladder_rows:,} ladder rows and {summary.traded_rows:,} traded rows of "
                f"{summary.markets - summary.markets_without_ticks} markets on {len(summary.days)} days.\n\n"
                f"$ luigi --module tasks ExportAll --output-dir {OUTPUT_DIR} --workers 2",
                flush=True,
            )
            os.environ.update(server.environment(_DATABASE))
            code = run_task("ExportAll", ["--output-dir", str(OUTPUT_DIR), "--workers", "2"])
    except ServerFailed as error:
        stop(told(error), error.exit_code)
    if not code:
        _show(Layout(OUTPUT_DIR))
    return code


def _show(layout: Layout) -> None:
    files = sorted((path for path in layout.markets_dir.iterdir() if market_of(path.name)), key=lambda path: path.name)
    print(f"\n{layout.output_dir}/")
    for path in (layout.index, layout.execution_report):
        print(f"  {path.name:<40}{path.stat().st_size:>12,} bytes")
    print("  markets/")
    for path in files[:_SHOWN_FILES]:
        print(f"    {path.name:<38}{path.stat().st_size:>12,} bytes")
    print(f"    ... and {len(files) - _SHOWN_FILES} more")

    with pd.option_context("display.width", 140, "display.max_columns", 20, "display.max_colwidth", 28):
        index = pd.read_csv(layout.index, dtype={"market_id": str, "event_id": str})
        print(f"\n{layout.index}, {len(index)} rows:")
        shown = ["market_id", "event_id", "first_tick_timestamp", "total_tick_records", "file_size_bytes", "checksum"]
        print(index[shown].head(4).to_string(index=False))
        largest = index.loc[index["total_tick_records"].idxmax()]
        path = layout.output_dir / largest["file_path"]
        ticks = pq.read_table(path).to_pandas()
        print(
            f"\n{path}, {len(ticks):,} ticks, {path.stat().st_size / len(ticks):.1f} bytes each; the first and the last"
            " three:"
        )
        shown = ["publish_time", "selection_id", "record_type", "side", "level", "price", "size", "sequence"]
        print(pd.concat([ticks.head(3), ticks.tail(3)])[shown].to_string(index=False, na_rep=""))
    print(f"\nRun it again: nothing is exported twice. Read them: pandas.read_parquet({str(path)!r})")
