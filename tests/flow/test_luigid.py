"""Several workers of one luigid on one directory: they split the work and export nothing twice."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tests.conftest import Pipeline, new_source


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[str]:
    """A luigid on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([str(Path(sys.executable).with_name("luigid")), "--port", str(port), "--address", "127.0.0.1",
                                "--state-path", str(tmp_path / "state")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, "luigid has ended"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/api/task_list?data={{}}"):
                break
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def test_two_workers_split_200_markets_and_export_none_twice(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording(ticks=60_000, markets=200, days=2, skew=0.5), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path / "out", source.environment)
    processes = [pipeline.start("ExportAll", "--scheduler-url", luigid) for _ in range(2)]
    seen: set[tuple[str, int]] = set()
    while any(process.poll() is None for process in processes):
        for path in pipeline.output_dir.glob("markets/*.parquet"):
            with contextlib.suppress(FileNotFoundError):
                seen.add((path.name, path.stat().st_ino))
        time.sleep(0.02)
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert len(seen) == len({name for name, _ in seen}), "a market file was replaced: exported twice"
    workers = [error.count("done    ExportMarket") for error in errors]
    assert all(workers) and sum(workers) == 16, workers
    alone = Pipeline(tmp_path / "alone", source.environment)
    assert alone.run("ExportAll").returncode == 0
    assert pipeline.files() == alone.files()


def test_a_killed_worker_changes_nothing(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording(ticks=60_000, markets=100, days=2), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path / "out", source.environment)
    process = pipeline.start("ExportAll", "--scheduler-url", luigid)
    while not list(pipeline.output_dir.glob("markets/*.parquet")):
        time.sleep(0.01)
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.communicate()
    result = pipeline.run("ExportAll", "--workers", "2")
    assert result.returncode == 0, result.stderr
    alone = Pipeline(tmp_path / "alone", source.environment)
    assert alone.run("ExportAll").returncode == 0
    assert pipeline.files() == alone.files()


def test_luigid_shows_tasks_messages_and_no_password(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording.tiny(), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path / "out", source.environment)
    assert pipeline.run("ExportAll", "--scheduler-url", luigid).returncode == 0
    answers = ""
    for call in ("task_list", "worker_list", "resource_list"):
        with urllib.request.urlopen(f"{luigid}/api/{call}?data={{}}") as answer:
            answers += answer.read().decode()
    tasks = json.loads(answers.split('}{"response"')[0] + "}" if '}{"response"' in answers else answers)["response"]
    assert {task["name"] for task in tasks.values()} == {"ExportAll", "BuildIndex", "BuildMetadata", "ExportMarkets"}
    assert all(task["status"] == "DONE" for task in tasks.values())
    assert any("markets" in (task.get("status_message") or "") for task in tasks.values()) or "11 market files" in answers
    assert source.server.password not in answers
    for path in pipeline.output_dir.rglob("*"):
        assert path.is_dir() or source.server.password.encode() not in path.read_bytes()
