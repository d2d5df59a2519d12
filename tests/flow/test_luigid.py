"""Several workers of one luigid on one directory: they split the work and export nothing twice."""

import contextlib
import datetime
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.parse
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
from tests.luigid_process import answer, running_luigid


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


def named(luigid: str, name: str) -> dict[str, dict[str, Any]]:
    """Return the tasks of a name that luigid shows, by id."""
    return {task_id: task for task_id, task in answer(luigid, "task_list").items() if task["name"] == name}


def test_luigid_shows_every_market_and_one_that_fails_fails_alone(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording(ticks=20_000, markets=60, days=2), server.conninfo(source.name))
    ((bad,),) = source.query("SELECT min(market_id) FROM stream_ingest.ladder_levels")
    source.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = %s", bad)
    pipeline = Pipeline(tmp_path / "out", source.environment)
    result = pipeline.run("ExportAll", "--scheduler-url", luigid, "--workers", "2")
    assert result.returncode == 30, result.stderr
    ids = {path.name.split("=")[1].removesuffix(".parquet") for path in pipeline.output_dir.glob("markets/*.parquet")}
    shown = {task["params"]["market_id"]: task["status"] for task in named(luigid, "ExportMarket").values()}
    assert shown == dict.fromkeys(ids, "DONE") | {bad: "FAILED"} and len(ids) > 50
    (failed,) = (task_id for task_id, task in named(luigid, "ExportMarket").items() if task["status"] == "FAILED")
    reason = answer(luigid, "fetch_error", task_id=failed)["error"]
    assert bad in reason and "received_time" in reason
    batches = named(luigid, "ExportMarkets").values()
    assert len(batches) == plan.GROUPS and sum(int(task["params"]["markets"]) for task in batches) == len(shown)
    for task in batches:
        assert task["status"] == "DONE" and task["params"]["first_market"] < task["params"]["last_market"], task
    (all_,) = named(luigid, "ExportAll")
    graph = answer(luigid, "dep_graph", task_id=all_)
    assert set(named(luigid, "ExportMarket")) < set(graph) and graph[failed]["status"] == "FAILED"
    assert [task["status"] for name in ("BuildIndex", "BuildMetadata") for task in named(luigid, name).values()] == [
        "DONE",
        "DONE",
    ]
    alone = Pipeline(tmp_path / "alone", source.environment)
    assert alone.run("ExportAll").returncode == 30
    assert pipeline.files() == alone.files()


def test_very_many_markets_are_shown_in_groups_that_say_what_they_are(server, luigid, tmp_path):
    source = new_source(server)
    load(Recording(ticks=10_000, markets=60, days=2), server.conninfo(source.name))
    settings = tmp_path / "own.cfg"
    settings.write_text("[tick_export]\nmarket_nodes = 20\n")
    pipeline = Pipeline(tmp_path / "out", source.environment)
    result = pipeline.run("ExportAll", "--scheduler-url", luigid, LUIGI_CONFIG_PATH=str(settings))
    assert result.returncode == 0, result.stderr
    assert not named(luigid, "ExportMarket")
    groups = [task["params"] for task in named(luigid, "ExportMarkets").values()]
    ids = {path.name.split("=")[1].removesuffix(".parquet") for path in pipeline.output_dir.glob("markets/*.parquet")}
    assert {group["group"] for group in groups} == {f"{number} of 8" for number in range(1, 9)}
    assert sum(int(group["markets"]) for group in groups) == len(ids)
    assert min(group["first_market"] for group in groups) == min(ids)
    assert max(group["last_market"] for group in groups) == max(ids)


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
    assert {task["name"] for task in tasks.values()} == {
        "ExportAll",
        "BuildIndex",
        "BuildMetadata",
        "ExportMarket",
        "ExportMarkets",
        "Report",
    }
    for task in tasks.values():
        assert (task["status"], task["progress_percentage"]) == ("DONE", 100) and task["status_message"], task
        path = urllib.parse.urlsplit(task["tracking_url"])
        assert path.scheme == "file" and Path(urllib.parse.unquote(path.path)).exists(), task
        assert path.path.endswith("/report.html") or task["name"] in ("BuildIndex", "BuildMetadata"), task
        assert path.fragment in ("", task["params"].get("market_id")), task
        assert set(task["params"]) <= {
            "output_dir",
            "format",
            "export_metadata",
            "offline",
            "include_markets_without_ticks",
            "include_markets_without_ladder",
            "market_id",
            "group",
            "first_market",
            "last_market",
            "markets",
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
    assert again.returncode == 30 and "1 market" in reason, again.stderr
    assert again.stderr.count("infinity") == 1, "the market that failed is tried again, and named"
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


def test_luigid_started_by_hand_as_the_page_says_keeps_its_state_in_the_home_of_its_user(tmp_path):
    page = (ROOT / "docs" / "operations.md").read_text()
    commands = re.search(r"^## luigid$.*?^```\n(.*?)^\./run_pipeline", page, re.MULTILINE | re.DOTALL)[1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shlex.quote(str(Path(sys.executable).with_name("luigid")))
    script = commands.replace("--port 8082", f"--port {port}").replace(".venv/bin/luigid", f"exec {program}")
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            ["bash", "-ec", script], cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"HOME": str(tmp_path)}
        )
    try:
        while "Scheduler starting up" not in (tmp_path / "log").read_text():  # from then on it minds signals
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        answer(f"http://127.0.0.1:{port}", "task_list")
    finally:
        process.terminate()
        process.wait()
    assert [path.name for path in tmp_path.rglob("*.pickle")] == ["luigid.pickle"]
    log = (tmp_path / "log").read_text()
    assert "Saved state in" in log and "Failed saving" not in log, log


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
