"""Waits for the database: every one ends by Ctrl-C, kill and systemd's stop, says what it waits for, and gives a silent
server up.

By default a part of it. With `pytest tests/faults/test_waits.py --walk` each task that asks the database, with each
signal, and a stop has its two seconds.
"""

import shutil
import subprocess
import sys
import time

import pytest

from tests.conftest import Pipeline
from tests.faults.hindrances import OF_AN_EXPORT, STOPS, TASKS, locked, wait_until_it_waits
from tests.faults.proxy import StallingProxy

#: What is tried by default.
PARENT = {("ExportAll", "kill"), ("ConsolidateDayDirect", "Ctrl-C"), ("VerifyExport", "systemctl stop")}
SILENT = {("ExportAll", 10_000, "Ctrl-C"), ("ExportAll", 1_000_000, "systemctl stop")}
LIMITS = [0, 1, 100, 10_000, 1_000_000]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("task", TASKS)
def test_a_lock_in_the_parent(pipeline, small, is_walk, assert_stops, task, stop):
    if not is_walk and (task, stop) not in PARENT:
        pytest.skip("part of the walk")
    if task in OF_AN_EXPORT:
        assert pipeline.run("ExportAll").returncode == 0
    with locked(small):
        process = pipeline.start(task, *TASKS[task], "--workers", "2")
        wait_until_it_waits(small, process)
        assert_stops(pipeline, process, stop)
    done = pipeline.run(task, *TASKS[task])
    assert done.returncode == (20 if task == "nightly" else 0), done.stderr


def test_the_log_says_who_blocks_and_the_wait_has_an_end(pipeline, small, tmp_path):
    config = tmp_path / "luigi.cfg"
    config.write_text("[tick_export]\nlock_timeout_s = 5\nsilence_timeout_s = 6\n")
    with locked(small) as session:
        holder = session.info.backend_pid
        run = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(config))
    assert run.returncode == 35 and "Traceback" not in run.stderr
    assert "held by process " + str(holder) in run.stderr and "migration" in run.stderr
    assert "stream_ingest.ladder" in run.stderr
    assert "waited 5 s for the lock" in run.stderr and "lock_timeout_s" in run.stderr


@pytest.mark.parametrize(("limit", "spares_later"), [*((limit, False) for limit in LIMITS), (1_000_000, True)])
def test_a_server_that_falls_silent_is_given_up(recorded, tmp_path, is_walk, limit, spares_later):
    if not is_walk and limit not in (1, 1_000_000):
        pytest.skip("part of the walk")
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    config = tmp_path / "luigi.cfg"
    config.write_text("[tick_export]\nsilence_timeout_s = 3\nanswer_timeout_s = 60\n")
    with StallingProxy(int(recorded.environment["POSTGRES_PORT"]), limit, spares_later=spares_later) as proxy:
        run = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(config), POSTGRES_PORT=str(proxy.port))
        assert proxy.left == 0, "the proxy has not stalled"
    assert run.returncode == (30 if limit == 1_000_000 else 35), run.stderr
    assert "Traceback" not in run.stderr
    assert "given up" in run.stderr or "timeout expired" in run.stderr, run.stderr[-3000:]
    assert "answer_timeout_s" not in run.stderr, "it is given up only by the limit for a server that works"
    assert not spares_later or "although the server has sent its answer" in run.stderr, run.stderr[-3000:]
    assert pipeline.run("ExportAll").returncode == 0  # nobody holds the lock


@pytest.fixture(scope="module")
def exported(recorded, tmp_path_factory):
    """An export of the recorded source, for the tasks that need one."""
    pipeline = Pipeline(tmp_path_factory.mktemp("exported") / "out", recorded.environment)
    assert pipeline.run("ExportAll", "--workers", "2").returncode == 0
    return pipeline.output_dir


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("task", TASKS)
def test_a_silent_server_holds_up_no_stop(request, recorded, tmp_path, is_walk, assert_stops, task, limit, stop):
    if not is_walk and (task, limit, stop) not in SILENT:
        pytest.skip("part of the walk")
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    if task in OF_AN_EXPORT:
        shutil.copytree(request.getfixturevalue("exported"), pipeline.output_dir)
    options = [recorded.market_id if option == "1.101" else option for option in TASKS[task]]
    if "--date" in options:
        options = ["--date", recorded.day]
    if task == "Restore":
        options = ["--schema", f"restored_{limit}_{list(STOPS).index(stop)}", "--compare"]
    with StallingProxy(int(recorded.environment["POSTGRES_PORT"]), limit) as proxy:
        process = pipeline.start(task, *options, "--workers", "2", POSTGRES_PORT=str(proxy.port))
        while proxy.left or not proxy.asked:
            if process.poll() is not None:
                said = process.communicate()[1]
                assert process.returncode in (0, 20) and "Traceback" not in said, said
                pytest.skip(f"{task} was done after fewer bytes")
            time.sleep(0.05)
        assert_stops(pipeline, process, stop)


def test_a_run_that_finds_the_directory_locked_says_by_whom_and_since_when(pipeline, small):
    pipeline.output_dir.mkdir()
    script = (
        "import filelock, sys\nlock ="
        " filelock.FileLock(sys.argv[1])\nlock.acquire()\nprint(flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(pipeline.output_dir / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        second = pipeline.run("ExportAll")
        holder.stdin.close()
    assert second.returncode == 10 and "Another run works in" in second.stderr, second.stderr
    assert f"process {holder.pid} (" in second.stderr and " since 20" in second.stderr and "UTC" in second.stderr


@pytest.mark.parametrize(
    ("is_there", "tasks"), [(True, ["ExportAll"]), (False, ["ExportMarket", "ConsolidateDayDirect", "VerifyExport"])]
)
def test_a_second_run_says_so_before_it_waits_for_the_database(pipeline, small, tmp_path, is_there, tasks):
    settings = tmp_path / "of the second.cfg"
    settings.write_text("[tick_export]\nlock_timeout_s = 2\n")
    if is_there:
        pipeline.output_dir.mkdir()
    with locked(small):
        first = pipeline.start("ExportAll")
        wait_until_it_waits(small, first)
        for task in tasks:
            second = pipeline.run(task, *TASKS[task], LUIGI_CONFIG_PATH=str(settings))
            assert second.returncode == 10 and f"process {first.pid} (" in second.stderr, second.stderr
    said = first.communicate()[1]
    assert first.returncode == 0, said


@pytest.mark.parametrize("task", ["ExportAll", "ConsolidateDayDirect", "VerifyExport"])
def test_a_run_that_does_nothing_leaves_no_directory(pipeline, task):
    top = pipeline.output_dir
    pipeline.output_dir = top / "of" / "its own"
    result = subprocess.run(
        pipeline.command(task, *TASKS[task]),
        env=pipeline.full_environment(POSTGRES_PORT="1"),
        cwd=top.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode in (2, 35), result.stderr
    assert not top.exists()
