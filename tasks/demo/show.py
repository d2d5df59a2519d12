"""`./run_pipeline.sh demo`: load an invented recording into a PostgreSQL of its own, export it, and show the result."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tasks.demo.load import create_schema, load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tasks.errors import ServerFailed, told
from tasks.storage.file_names import market_of
from tasks.storage.layout import Layout
from tasks.workflow.exit_codes import EXIT_USAGE, stop
from tasks.workflow.outcome import run_task

OUTPUT_DIR = Path("data_exports/demo")
_DATABASE = "netbet"
_SHOWN_FILES = 6


HELP = f"""\
Makes a small PostgreSQL of its own, fills it with an invented recording, exports that to {OUTPUT_DIR} with two workers
and shows what came out. The database is gone afterwards, the files stay.

usage: ./run_pipeline.sh demo [--keep]

  --keep  leave the database running, and say how to connect to it and how to stop it
  --debug  show a traceback for every error, and log the start and end of each task
  --help  this text

exit codes: those of ExportAll, 0 where all is done; 40 where the PostgreSQL cannot be found or does not start.
"""


def demo(arguments: Sequence[str]) -> int:
    """Run the demo; return the exit code of its ExportAll."""
    if others := [argument for argument in arguments if argument != "--keep"]:
        stop(
            f"demo accepts no option but --keep, found {' '.join(others)!r}. To export with options of your own:"
            " ./run_pipeline.sh ExportAll.",
            EXIT_USAGE,
        )
    for name in [name for name in os.environ if name.startswith(("POSTGRES_", "PG"))]:
        del os.environ[name]
    try:
        with PostgresServer() as server:
            print("Filling a PostgreSQL of its own with an invented recording ...", flush=True)
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
            if not code:
                _show(Layout(OUTPUT_DIR))
                _lead_on(str(min(summary.days)))
                if "--keep" in arguments:
                    _keep(server)
    except ServerFailed as error:
        stop(told(error), error.exit_code)
    return code


def _lead_on(day: str) -> None:
    print(f"""
Continue with these commands, none of which needs the database:
  ./run_pipeline.sh ConsolidateDay --date {day} --offline --output-dir {OUTPUT_DIR}
  ./run_pipeline.sh VerifyExport --offline --output-dir {OUTPUT_DIR}
  ./run_pipeline.sh Archive --offline --output-dir {OUTPUT_DIR}

Look at it: open {OUTPUT_DIR}/report.html""")


def _keep(server: PostgresServer) -> None:
    variables = " ".join(
        f"{name}={shlex.quote(value)}"
        for name, value in server.environment(_DATABASE).items()
        if name != "POSTGRES_PASSWORD"  # the socket asks for none
    )
    print(
        f"""
The database keeps running. Export from it:
  {variables} ./run_pipeline.sh ExportAll --output-dir {OUTPUT_DIR}
Connect to it:
  psql -h {server.socket_dir} -p {server.port} -U {server.superuser} {_DATABASE}
Stop it and remove its data:
  {server.keep()}""",
        flush=True,
    )


def _show(layout: Layout) -> None:
    files = sorted((path for path in layout.markets_dir.iterdir() if market_of(path.name)), key=lambda path: path.name)
    print(f"\n{layout.output_dir}/")
    for path in (layout.index, layout.execution_report, layout.report_page, layout.condition):
        print(f"  {path.name:<40}{path.stat().st_size:>12,} bytes")
    print("  markets/")
    for path in files[:_SHOWN_FILES]:
        print(f"    {path.name:<38}{path.stat().st_size:>12,} bytes")
    print(f"    ... and {len(files) - _SHOWN_FILES} more")

    with pd.option_context("display.width", 140, "display.max_columns", 20, "display.max_colwidth", 28):
        index = pd.read_csv(layout.index, dtype={"market_id": str, "event_id": str})
        print(f"\n{layout.index}, {len(index)} rows, some of its columns:")
        shown = ["market_id", "event_id", "first_tick_timestamp", "total_tick_records"]
        print(index[shown].head(4).to_string(index=False))
        largest = index.loc[index["total_tick_records"].idxmax()]
        path = layout.output_dir / largest["file_path"]
        ticks = pq.read_table(path).to_pandas()
        print(
            f"\n{path}\n{len(ticks):,} ticks, {path.stat().st_size / len(ticks):.1f} bytes each; of the first and"
            " the last three:"
        )
        shown = ["publish_time", "selection_id", "record_type", "side", "level", "price", "size"]
        some = pd.concat([ticks.head(3), ticks.tail(3)])[shown]
        some["level"] = ["" if pd.isna(level) else int(level) for level in some["level"]]
        print(some.to_string(index=False, na_rep=""))
    print(f"\nRead them:\n  pandas.read_parquet({str(path)!r})\nRun the demo again: it exports nothing twice.")
