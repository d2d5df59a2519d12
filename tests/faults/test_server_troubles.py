"""A server that restarts, has no connection left, or whose partitions come and go while a run works."""

import contextlib
import itertools
import signal
import threading
import time

import psycopg2
import pytest

from tasks.demo.load import load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tests.conftest import Pipeline, fresh, new_source, reader


@pytest.fixture
def recorded(server):
    """A source of its own, with some hundred thousand rows on two days."""
    source = new_source(server)
    load(Recording(ticks=200_000, markets=40, days=2), server.conninfo(source.name))
    return source


def until_markets_are_there(pipeline, process):
    while process.poll() is None and not list(pipeline.output_dir.glob("markets/*.parquet")):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("shutdown", "workers"), [(signal.SIGINT, "2"), (signal.SIGQUIT, "1")], ids=["fast", "immediate"]
)
def test_a_restart_under_way(tmp_path, shutdown, workers):
    with PostgresServer() as server:
        source = new_source(server)
        load(Recording(ticks=400_000, markets=40, days=2), server.conninfo(source.name))
        pipeline = Pipeline(tmp_path / "out", source.environment)
        process = pipeline.start("ExportAll", "--workers", workers)
        until_markets_are_there(pipeline, process)
        server._process.send_signal(shutdown)
        server._process.wait()
        server._process = None
        threading.Thread(target=server.start).start()  # after an immediate one it recovers, and refuses connections
        said = process.communicate()[1]
        assert process.returncode in (0, 30, 35) and "Traceback" not in said, said
        while True:
            done = pipeline.run("ExportAll", "--workers", workers)
            assert done.returncode in (0, 35) and "Traceback" not in done.stderr, done.stderr
            if done.returncode == 0:
                break
            assert "No connection to" in done.stderr, "it is not up yet"
        assert pipeline.files() == fresh(pipeline)


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_too_few_connections_for_a_role(recorded, tmp_path, limit):
    pipeline = Pipeline(tmp_path / "out", reader(recorded))
    role = pipeline.environment["POSTGRES_USER"]
    recorded.query(f"ALTER ROLE {role} CONNECTION LIMIT {limit}")
    result = pipeline.run("ExportAll", "--workers", "4")
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 30, 35) and (result.returncode == 0 or "too many connections" in result.stderr)
    assert limit or result.returncode == 35
    recorded.query(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    assert pipeline.run("ExportAll", "--workers", "4").returncode == 0
    assert pipeline.files() == fresh(pipeline)


class Platform(threading.Thread):
    """Creates, drops, detaches and attaches partitions until it is stopped, each time in a moment."""

    def __init__(self, source):
        super().__init__()
        self._source, self._ending, self.changes = source, threading.Event(), 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self.join()

    def run(self):
        (partition, bound), *_ = self._source.query(
            "SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid) FROM pg_inherits JOIN pg_class ON"
            " pg_class.oid = inhrelid WHERE inhparent = 'stream_ingest.ladder_levels'::regclass ORDER BY 1"
        )
        table = "ALTER TABLE stream_ingest.ladder_levels"
        new = "stream_ingest.ladder_of_the_future"
        statements = [
            (
                f"CREATE TABLE {new} PARTITION OF stream_ingest.ladder_levels FOR VALUES FROM ('2090-01-01') TO"
                " ('2090-01-02')"
            ),
            f"{table} DETACH PARTITION {partition}",
            f"DROP TABLE {new}",
            f"{table} ATTACH PARTITION {partition} {bound}",
        ]
        with contextlib.closing(self._source.server.connect(self._source.name)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout TO '200ms'")
                for statement in itertools.cycle(statements):
                    while True:  # again until it gets its lock
                        with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                            cursor.execute(statement)
                            break
                    self.changes += 1
                    if self._ending.is_set() and statement == statements[-1]:
                        return
                    time.sleep(0.05)


def test_partitions_that_come_and_go_under_way(recorded, tmp_path):
    pipeline, direct = (Pipeline(tmp_path / name, recorded.environment) for name in ("out", "direct"))
    ((day,),) = recorded.query(
        "SELECT min(publish_time AT TIME ZONE 'UTC')::date::text FROM stream_ingest.ladder_levels"
    )
    with Platform(recorded) as platform:
        for task in (
            ("ExportAll", "--workers", "2"),
            ("ExportAll", "--recheck-days", "30"),
            ("ConsolidateDay", "--date", day),
            ("VerifyExport",),
        ):
            result = pipeline.run(*task)
            assert result.returncode in (0, 20, 30, 35) and "Traceback" not in result.stderr, (task, result.stderr)
        result = direct.run("ConsolidateDayDirect", "--date", day)
        assert result.returncode in (0, 20, 30, 35) and "Traceback" not in result.stderr, result.stderr
    assert platform.changes > 20
    for each, task in ((pipeline, "ConsolidateDay"), (direct, "ConsolidateDayDirect")):
        result = each.run(task, "--date", day, *(["--recheck"] if task == "ConsolidateDay" else []))
        assert result.returncode == 0, result.stderr
    assert pipeline.run("ExportAll", "--recheck-days", "30").returncode == 0
    assert {name: content for name, content in pipeline.files().items() if "markets/" in name} == {
        name: content for name, content in fresh(pipeline).items() if "markets/" in name
    }
    csv = f"consolidated_ticks_{day.replace('-', '_')}.csv"
    assert (pipeline.output_dir / csv).read_bytes() == (direct.output_dir / csv).read_bytes()
