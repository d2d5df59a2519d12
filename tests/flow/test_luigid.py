"""Several workers of one luigid on one directory: they split the work and export nothing twice."""

import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi.configuration
import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tasks.storage.layout import Layout
from tasks.workflow import plan
from tasks.workflow.base_task import link
from tests.conftest import ROOT, Pipeline, new_source


@contextlib.contextmanager
def running_luigid(directory: Path, settings: Path | None = None) -> Iterator[str]:
    """Run a luigid on a free port and give its address; its log goes to luigid.log, its state is kept when it ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--state-path", str(directory / "state")] if settings is None else []
    environment = os.environ | ({} if settings is None else {"LUIGI_CONFIG_PATH": str(settings)})
    with open(directory / "luigid.log", "a") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("luigid")), "--port", str(port), "--address", "127.0.0.1", *options],
            stdout=log,
            stderr=log,
            cwd=directory,
            env=environment,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, "luigid has ended"
            with contextlib.suppress(OSError):
                answer(url, "task_list")
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def answer(url: str, call: str, **values: object) -> Any:
    """Return what luigid's API answers."""
    with urllib.request.urlopen(f"{url}/api/{call}?data={urllib.parse.quote(json.dumps(values))}") as response:
        return json.load(response)["response"]


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[str]:
    """A luigid on a free port; its address."""
    with running_luigid(tmp_path) as url:
        yield url


def test_two_workers_split_200_markets_and_export_none_twice(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording(ticks=60_000, markets=200, days=2, skew=0.5), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path / "out", source.environment)
    processes = [pipeline.start("ExportAll", "--debug", "--scheduler-url", luigid) for _ in range(2)]
    seen: set[tuple[str, int]] = set()
    while any(process.poll() is None for process in processes):
        for path in pipeline.output_dir.glob("markets/*.parquet"):
            with contextlib.suppress(FileNotFoundError):
                seen.add((path.name, path.stat().st_ino))
        time.sleep(0.02)
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert len(seen) == len({name for name, _ in seen}), "a market file was replaced: exported twice"
    workers = [error.count("done      ExportMarket") for error in errors]
    assert all(workers) and sum(workers) == plan.GROUPS, workers
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


def test_two_nightlies_share_the_days_and_both_end_well(server, luigid, tmp_path):
    source = new_source(server)
    start = datetime.datetime.combine(
        datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=2), datetime.time(), datetime.UTC
    )
    load(Recording(ticks=60_000, markets=60, days=2, start=start), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path / "out", source.environment)
    processes = [pipeline.start("nightly", "--scheduler-url", luigid) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    for day in (start, start + datetime.timedelta(days=1)):
        name = f"consolidated_ticks_{day:%Y_%m_%d}.csv"
        assert sum(f"{name}: " in error for error in errors) == 1, "a day was written twice"
    alone = Pipeline(tmp_path / "alone", source.environment)
    assert alone.run("nightly").returncode == 0
    assert {name: text for name, text in pipeline.files().items() if "report" not in name} == {
        name: text for name, text in alone.files().items() if "report" not in name
    }


def test_luigid_shows_tasks_progress_messages_and_links_and_no_password(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording.tiny(), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path / "tick export", source.environment)
    good = pipeline.run("ExportAll", "--scheduler-url", luigid)
    assert good.returncode == 0, good.stderr
    tasks = answer(luigid, "task_list")
    assert {task["name"] for task in tasks.values()} == {"ExportAll", "BuildIndex", "BuildMetadata", "ExportMarkets"}
    for task in tasks.values():
        assert (task["status"], task["progress_percentage"]) == ("DONE", 100) and task["status_message"], task
        path = urllib.parse.urlsplit(task["tracking_url"])
        assert path.scheme == "file" and Path(urllib.parse.unquote(path.path)).exists(), task
        assert set(task["params"]) <= {
            "output_dir",
            "format",
            "export_metadata",
            "offline",
            "include_markets_without_ticks",
            "include_markets_without_ladder",
            "group",
        }
    source.query(
        "UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = %s",
        source.query("SELECT max(market_id) FROM stream_ingest.ladder_levels")[0][0],
    )
    other = Pipeline(tmp_path / "other", source.environment)
    plain = other.run("ConsolidateAll", "--scheduler-url", luigid)
    failed = [task_id for task_id, task in answer(luigid, "task_list").items() if task["status"] == "FAILED"]
    reason = answer(luigid, "fetch_error", task_id=failed[0])["error"]
    assert plain.returncode == 30 and "1 market failed" in reason and "Traceback" not in reason
    again = other.run("ConsolidateAll", "--scheduler-url", luigid)
    assert again.returncode == 25, "luigid tries a failed task again after a while; until then it is not done"
    bad = Pipeline(tmp_path / "third", source.environment).run("ConsolidateAll", "--scheduler-url", luigid, "--debug")
    assert bad.returncode == 30, bad.stderr
    seen = json.dumps(
        [
            answer(luigid, call)
            for call in ("task_list", "worker_list", "resource_list", "is_pause_enabled", "is_paused")
        ]
    )
    for task_id, task in answer(luigid, "task_list").items():
        seen += json.dumps(
            [
                answer(luigid, call, task_id=task_id)
                for call in (
                    "fetch_error",
                    "dep_graph",
                    "inverse_dep_graph",
                    "get_task_status_message",
                    "get_task_progress_percentage",
                )
            ]
        )
    errors = [answer(luigid, "fetch_error", task_id=task_id)["error"] for task_id in answer(luigid, "task_list")]
    assert [
        error for error in errors if "1 market failed" in error and "infinity" in error
    ], "the failure is there to see"
    wrong = other.run(
        "ExportAll", "--scheduler-url", luigid, "--debug", POSTGRES_PASSWORD="not " + source.server.password
    )
    assert wrong.returncode == 35, wrong.stderr
    for text in (seen, good.stderr, bad.stderr, wrong.stderr, (tmp_path / "luigid.log").read_text()):
        assert source.server.password not in text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or source.server.password.encode() not in path.read_bytes(), path


def test_luigid_knows_after_a_restart_what_it_knew(tmp_path):
    settings = tmp_path / "luigid.cfg"
    settings.write_text((ROOT / "config" / "luigid.cfg").read_text().replace("/var/lib/tick-export", str(tmp_path)))
    for expected in (set(), {"ExportAll"}):
        with running_luigid(tmp_path, settings) as url:
            assert {task["name"] for task in answer(url, "task_list").values()} == expected
            answer(url, "add_task", task_id="one", worker="w", status="DONE", family="ExportAll", params={})


def test_links_lead_to_a_web_server_if_there_is_one():
    layout = Layout(Path("/data_exports/tick export"))
    assert link(layout, layout.index) == "file:///data_exports/tick%20export/index.csv"
    luigi.configuration.get_config().set("tick_export", "output_url", "http://reports.example/ticks/")
    try:
        assert link(layout, layout.index) == "http://reports.example/ticks/tick%20export/index.csv"
    finally:
        luigi.configuration.get_config().set("tick_export", "output_url", "")


def test_an_output_directory_that_is_not_there_is_made(server, luigid, tmp_path):
    source = new_source(server)
    source.partition("2026-02-05")
    source.message("1.101", "2026-02-05 10:00+00")
    pipeline = Pipeline(tmp_path / "new" / "out", source.environment)
    result = subprocess.run(
        pipeline.command("ConsolidateDayDirect", "--date", "2026-02-05", "--scheduler-url", luigid),
        cwd=tmp_path,
        env=pipeline.full_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(list(pipeline.output_dir.glob("consolidat*"))) == 2
