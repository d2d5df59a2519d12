"""Kills, crashes, full disks, two at once: nothing is lost, nothing half done stands under a final name."""

import os
import signal
import subprocess
import sys
import time
import unittest.mock

import psutil
import pytest

from tasks.demo.load import load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tasks.storage.atomic_files import process_name, remove_leftovers
from tests.conftest import Pipeline, new_source
from tests.faults.hindrances import kill_session


@pytest.fixture(scope="module")
def recorded(server):
    """A source with the generator's rows: large enough that a kill finds work under way."""
    source = new_source(server)
    load(Recording(ticks=200_000, markets=60, days=2), server.conninfo(source.name))
    return source


@pytest.fixture(scope="module")
def undisturbed(recorded, tmp_path_factory):
    """The files of a run that nothing disturbed."""
    pipeline = Pipeline(tmp_path_factory.mktemp("undisturbed") / "out", recorded.environment)
    result = pipeline.run("ExportAll")
    assert result.returncode == 0, result.stderr
    return pipeline.files()


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_killed_again_and_again_it_ends_like_an_undisturbed_run(recorded, undisturbed, tmp_path, format):
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    if format == "jsonl":
        other = Pipeline(tmp_path / "undisturbed", recorded.environment)
        assert other.run("ExportAll", "--format", "jsonl").returncode == 0
        undisturbed = other.files()
    seen: dict[str, bytes] = {}
    for attempt in range(6):
        process = pipeline.start("ExportAll", "--workers", "2", "--format", format)
        known = len(seen)
        while (
            process.poll() is None and len(list(pipeline.output_dir.glob("markets/marketId=*"))) <= known + 12 * attempt
        ):
            time.sleep(0.01)
        kill_session(process)
        process.stderr.close()
        files = pipeline.files()
        for name, content in files.items():
            if name.startswith("markets/"):
                assert content == undisturbed[name], f"{name} after kill {attempt}"
        assert seen.items() <= {name: content for name, content in files.items()}.items(), "a finished file was lost"
        seen = {name: content for name, content in files.items() if name.startswith("markets/")}
    last = pipeline.run("ExportAll", "--format", format)
    assert last.returncode == 0, last.stderr
    assert pipeline.files() == undisturbed
    assert not [path for path in pipeline.output_dir.rglob("*.tmp")], "leftovers of killed processes"


def test_ten_at_once_one_works_and_nine_exit_10(recorded, undisturbed, tmp_path):
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    processes = [pipeline.start("ExportAll") for _ in range(10)]
    errors = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0] + [10] * 9, errors
    assert sum("Another run works in" in error for error in errors) == 9
    assert pipeline.files() == undisturbed


@pytest.mark.parametrize(
    "to_whom", [["-INT", "-s"], ["-TERM", "-s"], ["-TERM", "-o", "-s"]], ids=["ctrl-c", "kill-all", "kill"]
)
def test_ctrl_c_and_kill_leave_all_in_order(recorded, undisturbed, tmp_path, to_whom):
    pipeline = Pipeline(tmp_path / "out", recorded.environment)
    process = pipeline.start("ExportAll", "--workers", "2")
    while not list(pipeline.output_dir.glob("markets/*.parquet")):
        time.sleep(0.01)
    subprocess.run(["pkill", *to_whom, str(process.pid)], check=True)
    error = process.communicate()[1]
    assert process.returncode == 130, error
    assert error.endswith("Interrupted. What is finished stays; the next run continues from there.\n")
    for name, content in pipeline.files().items():
        if name.startswith("markets/"):
            assert content == undisturbed[name]
    assert not list(pipeline.output_dir.rglob("*.tmp"))
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == undisturbed


def test_ctrl_c_while_the_pipeline_is_imported_ends_it_without_a_traceback():
    program = """
import os, runpy, signal, sys
class Struck:
    def find_spec(self, name, *_):
        if name == "luigi":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Struck())
runpy.run_module("tasks", run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


INTERRUPTIBLE = """
import ctypes, os, signal, time, tasks.workflow.interrupts
tasks.workflow.interrupts.make_sure_of_interrupts()
"""
INTERRUPTED = {
    "that strikes while Python forks is not lost": (
        """
def interrupted():
    raise KeyboardInterrupt
os.register_at_fork(after_in_parent=interrupted)
if os.fork() == 0:
    os._exit(0)
try:
    time.sleep(3600)
except KeyboardInterrupt:
    print("cleared up")
"""
    ),
    "that a library prints is not printed and not lost": (
        """
ctypes.pythonapi.PyRun_SimpleString(b"raise KeyboardInterrupt")  # as C code that cannot raise
try:
    time.sleep(3600)
except KeyboardInterrupt:
    print("cleared up")
"""
    ),
    "during which a kill comes prints no traceback": (
        """
both = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
for number in both:
    os.kill(os.getpid(), number)
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
except KeyboardInterrupt:
    print("cleared up")
"""
    ),
    "after which the process clears up is not cut short by a kill": (
        """
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    print("cleared up")
"""
    ),
}


@pytest.mark.parametrize("program", INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupt(program):
    result = subprocess.run([sys.executable, "-c", INTERRUPTIBLE + program], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("cleared up\n", "")


def test_what_a_zombie_and_a_process_of_another_time_left_is_removed(tmp_path):
    zombie = subprocess.Popen(["true"])
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    for number, pid in enumerate((zombie.pid, os.getpid(), os.getpid())):
        (tmp_path / f".{number}.{process_name().removesuffix(str(os.getpid()))}{pid}.tmp").touch()
    assert [name.split(".")[1] for name in remove_leftovers(tmp_path)] == ["0"]
    zombie.wait()
    assert len(list(tmp_path.iterdir())) == 2
    with unittest.mock.patch.object(psutil.Process, "create_time", return_value=time.time() + 3600):
        assert len(remove_leftovers(tmp_path)) == 2


def test_a_full_disk_fails_in_one_line_and_the_next_run_carries_on(recorded, undisturbed, tmp_path):
    pipeline = Pipeline(tmp_path / "out", recorded.environment)

    result = pipeline.run_on_a_small_disk("ExportAll", 50_000)
    assert result.returncode == 30 and "Traceback" not in result.stderr, result.stderr
    assert "File too large" in result.stderr
    assert not list(pipeline.output_dir.rglob("*.tmp"))
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == undisturbed


def test_a_server_killed_under_way_fails_the_run_and_the_next_one_carries_on(tmp_path):
    with PostgresServer() as server:
        source = new_source(server)
        load(Recording(ticks=600_000, markets=40, days=2), server.conninfo(source.name))
        pipeline = Pipeline(tmp_path / "out", source.environment)
        process = pipeline.start("ExportAll")
        while not list(pipeline.output_dir.glob("markets/*.parquet")):
            time.sleep(0.01)
        server.kill()
        error = process.communicate()[1]
        assert process.returncode in (30, 35) and "Traceback" not in error, error
        server.start()
        assert pipeline.run("ExportAll").returncode == 0
        undisturbed = Pipeline(tmp_path / "undisturbed", source.environment)
        assert undisturbed.run("ExportAll").returncode == 0
        assert pipeline.files() == undisturbed.files()
