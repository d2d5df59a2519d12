"""A clock that is wrong: it is said, and nothing is hidden by it."""

import datetime
import subprocess
import sys
import time

import pytest

from tests.conftest import ago, fresh


def run_with_clock(pipeline, ahead_s, *arguments):
    """Run a task on a machine whose clock is so many seconds ahead."""
    program = f"""
import runpy, sys, time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {ahead_s}
time.time_ns = lambda: real_ns() + {ahead_s} * 10**9
sys.argv = ["tasks", *{[*arguments, "--output-dir", str(pipeline.output_dir)]!r}]
runpy.run_module("tasks", run_name="__main__")
"""
    return subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=pipeline.full_environment(),
        cwd=pipeline.output_dir.parent,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def recorded(small):
    """The small source with a market that has ended 20 minutes ago."""
    newest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)
    for day in (ago(1), ago(0)):
        small.partition(day)
    small.message("1.103", newest.isoformat())
    return small, newest


@pytest.mark.parametrize(("ahead_s", "words"), [(7200, "7200 s behind"), (-7200, "7200 s ahead of"), (30, None)])
def test_a_difference_is_said_and_hides_no_late_row(pipeline, recorded, ahead_s, words):
    source, newest = recorded
    result = run_with_clock(pipeline, ahead_s, "ExportAll")
    assert result.returncode == 0, result.stderr
    assert (words or "The clock of the database server") in result.stderr or words is None
    assert words is not None or "The clock of the database server" not in result.stderr
    path = pipeline.market("1.103")
    assert path.stat().st_mtime <= time.time() + 1, "dated by the earlier of both clocks"
    if ahead_s < 0:  # by that clock the market has not settled: late rows are still seen
        source.message("1.103", (newest - datetime.timedelta(minutes=1)).isoformat(), traded=())
        assert pipeline.run("ExportAll").returncode == 0
        assert pipeline.files() == fresh(pipeline)


def test_damage_after_a_run_with_a_clock_ahead_is_seen(pipeline, small):
    assert run_with_clock(pipeline, 7200, "ExportAll").returncode == 0
    before, path = pipeline.files(), pipeline.market("1.101")
    path.write_bytes(path.read_bytes()[:-9])
    result = pipeline.run("ExportAll")
    assert result.returncode == 0 and "damaged" in result.stderr
    path.with_name(f"{path.name}.damaged").unlink()
    assert pipeline.files() == before
