"""What the tests of waits share."""

import subprocess
import sys
import time

import filelock
import psutil
import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tests.conftest import new_source, works_in
from tests.faults.hindrances import STOPS


@pytest.fixture(scope="module")
def recorded(server):
    """A source with the generator's rows: more than a megabyte of them."""
    source = new_source(server)
    load(Recording(ticks=100_000, markets=20, days=2), server.conninfo(source.name))
    source.market_id, source.day = source.query(
        "SELECT market_id, date(publish_time AT TIME ZONE 'UTC')::text FROM stream_ingest.ladder_levels"
        " GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2 LIMIT 1"
    )[0]
    return source


@pytest.fixture
def is_walk(request):
    """Whether all is tried."""
    return request.config.getoption("--walk")


@pytest.fixture(scope="module")
def start_s():
    """How long Python takes here and now to start with what the pipeline imports: what a second is on this machine."""
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-P", "-m", "tasks", "--help"], check=True, capture_output=True)
    return time.monotonic() - started_s


@pytest.fixture
def assert_stops(is_walk, start_s):
    """What stops a run and sees that it ends by itself, leaves no process and no lock, and says so in a line."""

    def assert_stops(pipeline, process, stop):
        send, number = STOPS[stop]
        struck_s = time.monotonic()
        send(process.pid, number)
        said = process.communicate(timeout=60)[1]
        took_s = time.monotonic() - struck_s
        assert process.returncode == 130 and "Interrupted" in said and "Traceback" not in said, said
        assert not [other for other in psutil.process_iter() if works_in(other, process.pid)]
        if pipeline.output_dir.exists():
            with filelock.FileLock(pipeline.output_dir / ".lock", timeout=0):
                pass
        print(f"ended {took_s:.2f} s after the signal; a start takes {start_s:.2f} s")
        assert not is_walk or took_s < 2 + start_s

    return assert_stops
