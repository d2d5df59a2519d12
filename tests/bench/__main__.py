"""The command line of the benchmark."""

import argparse
import datetime
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.command_line.help_layout import fitted
from tasks.workflow.interrupts import make_sure_of_interrupts
from tests.bench.measure import (
    ROOT,
    BenchError,
    Contender,
    Sample,
    pipeline,
    require_free,
    require_same,
    run_in_turn,
    say,
    work_directory,
)

if TYPE_CHECKING:
    from tests.bench.source import Source

_EPILOG = """\
groups:
  export       all ticks of a database into Parquet: ExportAll with a worker per core, with and without its report; the
               limit, as many parallel psql COPYs to /dev/null as cores; adbc, connectorx, DuckDB in two ways, pandas,
               psycopg2 with CSV, each with as many processes
  consolidate  a day as one sorted CSV, from market files: ConsolidateDay; DuckDB, Polars, chdb
  archive      a JSONL export as one compressed file: Archive in its three formats; tar -czf; tar with pigz
  growth       ExportAll over growing databases, and again with nothing to do; the fitted exponents of time and memory
  all          one after the other

Without --database the rows are invented, in a PostgreSQL server of our own, which goes at the end. Every contender
runs --rounds times, round by round in turn, and must produce the same rows (count and sums), or the benchmark fails.
Results: GROUP.md, GROUP.json (every run) and GROUP.png in --output. Seconds move with the machine and with what else it
does: read the ratios.
"""


def _numbers(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run_pipeline.sh bench",
        epilog=fitted(_EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure the pipeline against its limit and against what a user would pick instead.",
    )
    parser.add_argument("group", choices=["export", "consolidate", "archive", "growth", "all"])
    parser.add_argument(
        "--rows",
        type=lambda text: int(float(text)),
        help=(
            "about so many rows to make, half of them traded "
            "(export 20 million, consolidate 6.4 million, archive 5 million)"
        ),
    )
    parser.add_argument("--markets", type=int, default=200, help="markets to make (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs (default 3)")
    parser.add_argument("--only", help="run contenders whose name contains one of these words, separated by commas")
    parser.add_argument(
        "--database",
        action="store_true",
        help=(
            "export, archive: take the database that POSTGRES_HOST, POSTGRES_PORT, "
            "POSTGRES_DB, POSTGRES_USER and POSTGRES_PASSWORD (or .env) name, and make none"
        ),
    )
    parser.add_argument(
        "--export-dir", type=Path, help="consolidate: take this Parquet export with an index, and make none"
    )
    parser.add_argument("--date", type=datetime.date.fromisoformat, help="consolidate: the UTC day of --export-dir")
    parser.add_argument(
        "--growth-rows",
        type=_numbers,
        default=[1_000_000, 4_000_000, 16_000_000],
        metavar="N,N,…",
        help="growth: sizes in rows, in --markets markets (default 1e6,4e6,16e6)",
    )
    parser.add_argument(
        "--growth-markets",
        type=_numbers,
        default=[100, 1_000, 10_000, 100_000],
        metavar="N,N,…",
        help="growth: sizes in markets with about 30 rows each (default 100,1e3,1e4,1e5)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("data_exports/bench"),
        help="results, and what is written meanwhile (default data_exports/bench)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; return its exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.export_dir and not chosen.date:
        parser.error("--export-dir needs --date, the day to consolidate")
    if chosen.rounds < 1 or chosen.markets < 1:
        parser.error("--rounds and --markets must be at least 1")
    chosen.output = chosen.output.absolute()
    groups = list(_GROUPS) if chosen.group == "all" else [chosen.group]
    try:
        for group in groups:
            with work_directory(chosen.output) as work:
                print(_GROUPS[group](chosen, work), end="\n\n", flush=True)
    except BenchError as error:
        say(f"error: {error}")
        return 30
    except KeyboardInterrupt:
        say("Interrupted. The server and what was written meanwhile are removed.")
        return 130
    return 0


def _is_wanted(chosen: argparse.Namespace, name: str) -> bool:
    return not chosen.only or any(word in name for word in chosen.only.split(","))


def _selected(chosen: argparse.Namespace, contenders: list[Contender]) -> list[Contender]:
    kept = [contender for contender in contenders if _is_wanted(chosen, contender.name)]
    if not kept:
        raise BenchError(
            f"--only {chosen.only} names none of: {', '.join(contender.name for contender in contenders)}."
        )
    return kept


def _about(chosen: argparse.Namespace, what: str, **more: object) -> dict[str, object]:
    from tests.bench.bench_results import machine

    return {"what": what, "rounds": chosen.rounds, **more, **machine()}


def _with_source(chosen: argparse.Namespace, rows: int, then: "Callable[[Source], str]") -> str:
    from tasks.demo.recording import Recording
    from tests.bench import source

    if chosen.database:
        return then(source.given())
    with source.own_server() as server:
        return then(source.make(server, "bench", Recording.bench(chosen.rows or rows, chosen.markets)))


def _export(chosen: argparse.Namespace, work: Path) -> str:
    from tests.bench import bench_results, export_contenders

    def run(source: "Source") -> str:
        about = _about(chosen, source.what, postgresql=source.query("SHOW server_version")[0][0])
        contenders = _selected(chosen, export_contenders.contenders(source, functools.partial(_is_wanted, chosen)))
        expected = source.facts()
        rows = int(str(expected["rows"]))
        samples = run_in_turn(contenders, work, chosen.rounds, source.server_cpu(), export_contenders.need_bytes(rows))
        require_same(samples, expected)
        return bench_results.write(
            chosen.output, "export", about | expected, contenders, samples, dict.fromkeys(_names(contenders), rows)
        )

    return _with_source(chosen, 20_000_000, run)


def _consolidate(chosen: argparse.Namespace, work: Path) -> str:
    from tests.bench import bench_results, consolidate_contenders, day_export

    export_dir, date, rows = chosen.export_dir, chosen.date, chosen.rows or 6_400_000
    if export_dir is None:
        say(f"Making a day of {rows:,} rows in {chosen.markets:,} market files ...")
        export_dir, date = work / "tick_export", day_export.DATE
        day_export.make_export(export_dir, rows, chosen.markets)
    about = _about(
        chosen, f"the day {date} of {'an invented export' if chosen.export_dir is None else export_dir.name}"
    )
    contenders = _selected(chosen, consolidate_contenders.contenders(export_dir.absolute(), date))
    samples = run_in_turn(contenders, work, chosen.rounds, lambda: None, consolidate_contenders.need_bytes(rows))
    require_same(samples)
    rows = int(str(samples[0].facts["rows"]))
    return bench_results.write(
        chosen.output,
        "consolidate",
        about | dict(samples[0].facts),
        contenders,
        samples,
        dict.fromkeys(_names(contenders), rows),
    )


def _archive(chosen: argparse.Namespace, work: Path) -> str:
    from tests.bench import archive_contenders, bench_results

    def run(source: "Source") -> str:
        export_dir = work / "tick_export"
        require_free(work, int(str(source.facts()["rows"])) * 500)
        say("Exporting to JSONL ...")
        command = pipeline(
            "ExportAll", "--format", "jsonl", "--workers", str(os.cpu_count()), "--output-dir", str(export_dir)
        )
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **source.environment}, capture_output=True, text=True
        )
        if done.returncode:
            raise BenchError(
                f"ExportAll --format jsonl ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}"
            )
        about = _about(chosen, f"JSONL export of {source.what}")
        contenders = _selected(chosen, archive_contenders.contenders(export_dir))
        expected = archive_contenders.on_disk(export_dir)
        samples = run_in_turn(contenders, work, chosen.rounds, lambda: None, archive_contenders.need_bytes(export_dir))
        require_same(samples, expected)
        rows = dict.fromkeys(_names(contenders), int(str(source.facts()["rows"])))
        return bench_results.write(chosen.output, "archive", about | expected, contenders, samples, rows)

    return _with_source(chosen, 5_000_000, run)


def _growth(chosen: argparse.Namespace, work: Path) -> str:
    from tasks.demo.recording import Recording
    from tests.bench import bench_results, export_contenders, growth, source

    with source.own_server() as server:
        sources = [
            ("rows", rows, source.make(server, f"rows_{rows}", Recording.bench(rows, chosen.markets)))
            for rows in chosen.growth_rows
        ]
        sources += [
            ("markets", markets, source.make(server, f"markets_{markets}", Recording.many(markets)))
            for markets in chosen.growth_markets
        ]
        about = _about(
            chosen, "ExportAll over growing databases", postgresql=sources[0][2].query("SHOW server_version")[0][0]
        )
        contenders = growth.contenders(sources)
        most = max(int(str(one.facts()["rows"])) for _, _, one in sources)
        samples: list[Sample] = run_in_turn(
            contenders,
            work,
            chosen.rounds,
            sources[0][2].server_cpu(),
            export_contenders.need_bytes(most) + max(chosen.growth_markets) * 20_000,
        )
    rows = {}
    for sample in samples:
        if sample.facts["expected"] != sample.facts["found"]:
            raise BenchError(
                f"{sample.contender} exported {sample.facts['found']}, the database has {sample.facts['expected']}."
            )
        rows[sample.contender] = int(sample.facts["found"]["rows"])  # type: ignore[index]
    return bench_results.write(
        chosen.output, "growth", about, contenders, samples, rows, growth.exponents(samples, contenders)
    )


def _names(contenders: Sequence[Contender]) -> list[str]:
    return [contender.name for contender in contenders]


_GROUPS = {"export": _export, "consolidate": _consolidate, "archive": _archive, "growth": _growth}

if __name__ == "__main__":
    make_sure_of_interrupts()
    sys.exit(main(sys.argv[1:]))
