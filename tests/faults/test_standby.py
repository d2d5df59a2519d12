"""A hot standby: the bytes of its primary; where it cancels queries, the run ends with 30, and the next one completes
it. With `pytest tests/faults/test_standby.py --walk` in each task, early and late.
"""

import contextlib
import time

import pytest

from tasks.demo.load import load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tests.conftest import SCHEMA, Pipeline, Source
from tests.faults.proxy import StallingProxy

_SETTINGS = {"wal_level": "replica", "max_wal_senders": "4"}
#: Whoever is in the way of what the primary has done is cancelled at once.
_IMPATIENT = _SETTINGS | {"max_standby_streaming_delay": "0", "hot_standby_feedback": "off"}


class Standby(PostgresServer):
    """A hot standby of another server."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(tcp=True, settings=_IMPATIENT)
        self._primary, self.password = primary, primary.password

    def _create(self) -> None:
        where = ["--host", str(self._primary.socket_dir), "--port", str(self._primary.port)]
        backup = self._run(
            "pg_basebackup",
            *where,
            "--username",
            self.superuser,
            "--pgdata",
            "data",
            "--checkpoint",
            "fast",
            "--no-sync",
            "--write-recovery-conf",
        )
        assert backup.returncode == 0, backup.stderr


@pytest.fixture(scope="module")
def primary():
    """A primary with the generator's rows, more than a megabyte of them."""
    with PostgresServer(tcp=True, settings=_SETTINGS) as server:
        with open(server.socket_dir / "data" / "pg_hba.conf", "a") as access:
            access.write("local replication all trust\n")
        source = Source(server, "netbet")
        server.create_database(source.name)
        source.query("SELECT pg_reload_conf()")
        source.query(SCHEMA)
        load(Recording(ticks=100_000, markets=20, days=2), server.conninfo(source.name))
        source.query("CREATE TABLE public.other (id int); INSERT INTO public.other VALUES (1)")
        source.day = source.query(
            "SELECT min(date(publish_time AT TIME ZONE 'UTC'))::text FROM stream_ingest.ladder_levels"
        )[0][0]
        yield source


@pytest.fixture(scope="module")
def standby(primary):
    """Its standby."""
    with Standby(primary.server) as server:
        assert Source(server, primary.name).query("SELECT pg_is_in_recovery()") == [(True,)]
        yield Source(server, primary.name)


def catch_up(primary, standby):
    """Wait until the standby has what the primary has."""
    (position,) = primary.query("SELECT pg_current_wal_insert_lsn()::text")[0]
    while not standby.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position)[0][0]:
        time.sleep(0.05)


def test_the_same_bytes(primary, standby, tmp_path):
    files = []
    catch_up(primary, standby)
    for source in (primary, standby):
        pipeline = Pipeline(tmp_path / source.server.socket_dir.name / "out", source.environment)
        pipeline.output_dir.parent.mkdir()
        for task in (["ExportAll", "--workers", "2"], ["ConsolidateDay", "--date", primary.day], ["VerifyExport"]):
            done = pipeline.run(*task)
            assert done.returncode == 0, done.stderr
        direct = Pipeline(pipeline.output_dir.with_name("direct"), source.environment)
        done = direct.run("ConsolidateDayDirect", "--date", primary.day)
        assert done.returncode == 0, done.stderr
        found = pipeline.files() | {f"direct/{name}": content for name, content in direct.files().items()}
        files.append(
            {name: content for name, content in found.items() if not name.endswith((".txt", "condition.json"))}
        )
    assert len(files[0]) > 40 and files[0] == files[1]


#: What the primary does that is in the way of a reader.
CONFLICTS = {
    "vacuum": ["DELETE FROM public.other; INSERT INTO public.other VALUES (1)", "VACUUM public.other"],
    "lock": ["LOCK TABLE stream_ingest.ladder_levels IN ACCESS EXCLUSIVE MODE"],
}


def do(source, statements):
    """Run statements, each by itself."""
    with contextlib.closing(source.server.connect(source.name)) as connection, connection.cursor() as cursor:
        for statement in statements:
            connection.autocommit = statement.startswith("VACUUM")
            cursor.execute(statement)
            if not connection.autocommit:
                connection.commit()
        cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
        return cursor.fetchone()[0]


def cancelled(standby):
    """Return how many queries the standby has cancelled."""
    return Source(standby.server, "postgres").query(
        "SELECT confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock FROM pg_stat_database_conflicts"
        " WHERE datname = %s",
        standby.name,
    )[0][0]


def wait_for_conflict(standby, position, before):
    """Return whether somebody was in the way of what the primary has done up to a position."""
    other = Source(standby.server, "postgres")
    while not (is_replayed := other.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position)[0][0]):
        if other.query(
            "SELECT FROM pg_stat_activity WHERE backend_type = 'startup'"
            " AND (wait_event LIKE 'RecoveryConflict%%' OR wait_event_type = 'Lock')"
        ):
            break
        time.sleep(0.05)
    return not is_replayed or cancelled(standby) > before


#: With so many bytes from the server a run is among its first questions, or reads ticks.
EARLY, READING = 12_000, 1_000_000
#: What is tried by default.
PART = {("ExportAll", READING, "lock"), ("VerifyExport", EARLY, "vacuum")}


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize("limit", [EARLY, 50_000, READING])
@pytest.mark.parametrize("task", ["ExportAll", "VerifyExport", "ConsolidateDayDirect", "ConsolidateDay"])
def test_a_query_that_is_cancelled(request, primary, standby, tmp_path, task, limit, conflict):
    if not request.config.getoption("--walk") and (task, limit, conflict) not in PART:
        pytest.skip("part of the walk")
    pipeline = Pipeline(tmp_path / "out", standby.environment)
    if task == "VerifyExport":
        assert pipeline.run("ExportAll").returncode == 0
    options = ["--date", primary.day] if "Day" in task else []
    before = cancelled(standby)
    with StallingProxy(int(standby.environment["POSTGRES_PORT"]), limit, resumes=True) as proxy:
        process = pipeline.start(task, *options, POSTGRES_PORT=str(proxy.port))
        while proxy.left:
            if process.poll() is not None:
                said = process.communicate()[1]
                assert process.returncode == 0, said
                pytest.skip(f"{task} was done after fewer bytes")
            time.sleep(0.05)
        was_in_the_way = wait_for_conflict(standby, do(primary, CONFLICTS[conflict]), before)
        proxy.resume()
        said = process.communicate()[1]
    print(f"in the way: {was_in_the_way}, ended with {process.returncode}, cancelled {cancelled(standby) - before}")
    assert "Traceback" not in said and not list(pipeline.output_dir.rglob("*.tmp"))
    if was_in_the_way:
        assert process.returncode == 30 and "It is a hot standby" in said, said
    else:
        assert process.returncode == 0 and (task, limit, conflict) not in PART, said
    done = pipeline.run(task, *options)
    assert done.returncode == 0, done.stderr
    if task != "ConsolidateDayDirect":
        assert pipeline.run("ExportAll").returncode == 0
        verified = pipeline.run("VerifyExport")
        assert verified.returncode == 0 and "VERIFIED" in verified.stderr, verified.stderr


@pytest.mark.parametrize("task", ["ExportAll", "ConsolidateDayDirect", "ConsolidateDay"])
def test_a_survey_that_is_cancelled(request, primary, standby, tmp_path, task):
    if not request.config.getoption("--walk") and task == "ConsolidateDay":
        pytest.skip("part of the walk")
    pipeline = Pipeline(tmp_path / "out", standby.environment)
    options = ["--date", primary.day] if "Day" in task else []
    before = cancelled(standby)
    # the first answer of many rows is that to the question which markets there are
    with StallingProxy(int(standby.environment["POSTGRES_PORT"]), keeps=b"FETCH FORWARD") as proxy:
        process = pipeline.start(task, *options, POSTGRES_PORT=str(proxy.port))
        while not proxy.is_kept.wait(0.1):
            assert process.poll() is None, process.stderr.read()
        assert wait_for_conflict(standby, do(primary, CONFLICTS["lock"]), before)
        catch_up(primary, standby)
        proxy.resume()
        said = process.communicate()[1]
    assert process.returncode == 30 and "Traceback" not in said, said
    assert [line for line in said.splitlines() if line.startswith("error: ") and "It is a hot standby" in line], said
    assert not pipeline.output_dir.exists()
    done = pipeline.run(task, *options)
    assert done.returncode == 0, done.stderr
