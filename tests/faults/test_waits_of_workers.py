"""Waits of worker processes: each ends as one of the main process does.

By default a part of it. With `pytest tests/faults/test_waits_of_workers.py --walk` each task that asks the database,
with each signal, held up by a lock or by a silent server.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import Pipeline, ago
from tests.faults.hindrances import OF_AN_EXPORT, STOPS, TASKS, first_worker_held, locked, wait_until_it_waits
from tests.faults.proxy import StallingProxy

#: What is tried by default.
WORKERS = {("1", "Ctrl-C"), ("2", "kill")}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_lock_in_the_workers(recorded, tmp_path, is_walk, assert_stops, stop, workers):
    if not is_walk and (workers, stop) not in WORKERS:
        pytest.skip("part of the walk")
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    process = pipeline.start("ExportAll", "--workers", workers)
    for line in process.stderr:
        if "to export" in line:
            break
    with locked(recorded):
        wait_until_it_waits(recorded, process)
        assert_stops(pipeline, process, stop)


#: All tables that a task may ask.
TABLES = ", ".join(
    ["stream_ingest.ladder_levels", "stream_ingest.traded_volume", "stream_ingest.market_lifecycle_events"]
    + ["public.markets", "public.runners"]
)
#: Bytes from the server, after which a session is there, and has asked its first question.
CONNECTED = 1_000
#: What is tried by default.
OF_A_WORKER = {("BuildMetadata", "lock", "systemctl stop"), ("ConsolidateDayDirect", "silence", "kill")}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("hindrance", ["lock", "silence"])
@pytest.mark.parametrize("task", TASKS)
def test_a_wait_in_a_worker_process(pipeline, small, is_walk, assert_stops, task, hindrance, stop):
    if not is_walk and (task, hindrance, stop) not in OF_A_WORKER:
        pytest.skip("part of the walk")
    if task in OF_AN_EXPORT:
        assert pipeline.run("ExportAll").returncode == 0
    if task == "nightly":
        small.partition(ago(1))
        small.message("1.101", f"{ago(1)} 10:00:00+00")
    with contextlib.ExitStack() as hindering, StallingProxy(int(small.environment["POSTGRES_PORT"])) as proxy:
        process = pipeline.start(task, *TASKS[task], "--workers", "2", POSTGRES_PORT=str(proxy.port))
        with first_worker_held(process):
            if hindrance == "lock":
                hindering.enter_context(locked(small, TABLES))
            else:
                proxy.stall(after=CONNECTED)
        if hindrance == "lock":
            wait_until_it_waits(small, process)
        else:
            while proxy.left:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
        assert_stops(pipeline, process, stop)


@pytest.mark.parametrize("task", ["ExportAll", "ConsolidateDayDirect"])
def test_a_lock_that_stays_while_ticks_are_read_fails_no_market_by_name(recorded, tmp_path, task):
    options = ["--date", recorded.day] if task == "ConsolidateDayDirect" else ["--workers", "2"]
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    config = tmp_path / "luigi.cfg"
    config.write_text("[tick_export]\nlock_timeout_s = 2\n")
    with StallingProxy(int(recorded.environment["POSTGRES_PORT"]), keeps=b"COPY (") as proxy:
        process = pipeline.start(task, *options, LUIGI_CONFIG_PATH=str(config), POSTGRES_PORT=str(proxy.port))
        while not proxy.is_kept.wait(0.1):
            assert process.poll() is None, process.stderr.read()
        with locked(recorded):
            proxy.resume()
            said = process.communicate()[1]
    assert process.returncode == 30 and "Traceback" not in said, said
    waited = [line for line in said.splitlines() if "waited 2 s for the lock" in line]
    assert 1 <= len(waited) <= 4, said  # a task each, not a market each
    assert "Market 1." not in said, said
    assert not list(tmp_path.rglob("*.csv")), "a day without its markets"
    assert pipeline.run(task, *options).returncode == 0


#: A run with a worker that has not heard the signal, and one that ignores it: as when it came during the fork.
DEAF = """
import multiprocessing, signal, time

from tasks.workflow import directory_lock


def work(is_deaf, begun):
    if is_deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begun.set()
    time.sleep(3600)


begun = [multiprocessing.Event() for _ in range(2)]
for is_deaf, event in enumerate(begun):
    multiprocessing.Process(target=work, args=(is_deaf, event)).start()
    event.wait()
directory_lock.clear_up()
print(len(multiprocessing.active_children()))
"""


def test_a_worker_that_has_not_heard_the_signal_is_ended():
    with subprocess.Popen(
        [sys.executable, "-P", "-c", DEAF], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        try:
            said = run.communicate(timeout=60)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0 and said == "0\n"
