"""metrics.prom: true after every way a run can end, whole at every moment, and what the alert rules need."""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import filelock
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tasks.metrics import exposition
from tests.conftest import ROOT, ago, index_of

PROMTOOL = shutil.which("promtool")


def metrics(pipeline):
    """Return the samples of metrics.prom by name and label, read by the official parser."""
    text = (pipeline.output_dir / "metrics.prom").read_text()
    return {
        (sample.name.removeprefix("tick_export_"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_after_a_good_run_it_says_what_the_export_is(pipeline):
    before = time.time()
    assert pipeline.run("ExportAll").returncode == 0
    found, rows = metrics(pipeline), index_of(pipeline)
    assert found["markets", ""] == len(rows) == 3
    assert found["ticks", ""] == sum(int(row["total_tick_records"]) for row in rows.values())
    assert found["bytes", ""] == sum(int(row["file_size_bytes"]) for row in rows.values())
    assert found["last_exit_code", "ExportAll"] == 0
    assert before <= found["last_start_timestamp_seconds", "ExportAll"]
    assert found["last_start_timestamp_seconds", "ExportAll"] < found["last_success_timestamp_seconds", "ExportAll"]
    assert [found["last_run_markets", outcome] for outcome in ("exported", "failed", "unchanged")] == [3, 0, 0]
    assert found["last_run_ticks", ""] == found["ticks", ""]
    assert found["newest_tick_timestamp_seconds", ""] == 1770345000.0  # 02:30 on the second day
    assert pipeline.run("ExportAll").returncode == 0
    again = metrics(pipeline)
    assert [again["last_run_markets", outcome] for outcome in ("exported", "failed", "unchanged")] == [0, 0, 3]
    assert again["last_success_timestamp_seconds", "ExportAll"] > found["last_success_timestamp_seconds", "ExportAll"]
    text = (pipeline.output_dir / "metrics.prom").read_text()
    for name in ("tick_export_condition_markets", "tick_export_dates_by_condition"):
        assert f'{name}{{condition="good"}}' in text, name


def test_after_a_failed_run_the_last_success_stays(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    good = metrics(pipeline)
    small.query(
        "INSERT INTO stream_ingest.ladder_levels SELECT 'bad id', 1, 'B', 0, 2, 2, t, t FROM (VALUES"
        " (timestamptz '2026-02-05 10:00+00')) AS v(t)"
    )
    assert pipeline.run("ExportAll").returncode == 30
    failed = metrics(pipeline)
    assert failed["last_exit_code", "ExportAll"] == 30 and failed["last_run_markets", "failed"] == 1
    for name in ("last_success_timestamp_seconds",):
        assert failed[name, "ExportAll"] == good[name, "ExportAll"]
    assert failed["last_end_timestamp_seconds", "ExportAll"] > good["last_end_timestamp_seconds", "ExportAll"]


def test_without_a_database_it_says_35(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    good = metrics(pipeline)
    assert pipeline.run("ExportAll", POSTGRES_PORT="1").returncode == 35
    found = metrics(pipeline)
    assert found["last_exit_code", "ExportAll"] == 35 and found["ticks", ""] == good["ticks", ""]
    assert found["last_success_timestamp_seconds", "ExportAll"] == good["last_success_timestamp_seconds", "ExportAll"]


def test_a_killed_run_has_begun_and_not_ended(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    good = metrics(pipeline)
    with contextlib.closing(small.server.connect(small.name)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE public.markets IN ACCESS EXCLUSIVE MODE")  # the run waits here
        process = pipeline.start("ExportAll")
        while (
            metrics(pipeline)["last_start_timestamp_seconds", "ExportAll"]
            == good["last_start_timestamp_seconds", "ExportAll"]
        ):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    found = metrics(pipeline)
    assert found["last_start_timestamp_seconds", "ExportAll"] > found["last_end_timestamp_seconds", "ExportAll"]
    assert found["last_exit_code", "ExportAll"] == 0 and found["markets", ""] == good["markets", ""]


def test_a_run_that_finds_another_one_there_writes_nothing(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    before = (pipeline.output_dir / "metrics.prom").read_bytes()
    with filelock.FileLock(pipeline.output_dir / ".lock"):
        assert pipeline.run("ExportAll").returncode == 10
    assert (pipeline.output_dir / "metrics.prom").read_bytes() == before


def test_a_full_disk_leaves_the_old_one_whole(tmp_path, monkeypatch):
    path = tmp_path / "metrics.prom"
    exposition.write(path, {("last_exit_code", "ExportAll"): 0.0})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tasks.storage.atomic_files._flush_to_disk", full)
    with pytest.raises(OSError):
        exposition.write(path, {("last_exit_code", "ExportAll"): 30.0})
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["metrics.prom"]


def test_a_metrics_file_that_cannot_be_written_changes_no_exit_code(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    (pipeline.output_dir / "metrics.prom").unlink()
    (pipeline.output_dir / "metrics.prom").mkdir()
    result = pipeline.run("ExportAll")
    assert result.returncode == 0 and "metrics.prom is left as it was: Is a directory" in result.stderr


def test_bare_luigi_leaves_metrics_too(pipeline):
    assert pipeline.run("ExportAll", "--local-scheduler", luigi=True).returncode == 0
    assert metrics(pipeline)["last_exit_code", "ExportAll"] == 0


def test_a_verification_and_a_market_at_risk(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.run("VerifyExport").returncode == 0
    assert metrics(pipeline)["last_verification_success", ""] == 1
    index = pipeline.output_dir / "index.csv"
    index.write_text(index.read_text().replace("1.101,30", "1.101,31"))
    assert pipeline.run("VerifyExport").returncode == 30
    found = metrics(pipeline)
    assert found["last_verification_success", ""] == 0 and found["unexported_old_markets", ""] == 0
    # a market with ticks in an old partition, of which no file can be made
    small.market("1.109")
    small.message("1.109", "2026-02-05 10:00:00+00")
    small.query("ALTER TABLE stream_ingest.traded_volume DROP CONSTRAINT traded_volume_pkey")
    small.query("UPDATE stream_ingest.traded_volume SET publish_time = 'infinity' WHERE market_id = '1.109'")
    assert pipeline.run("ExportAll").returncode == 30
    found = metrics(pipeline)
    assert found["last_run_markets", "failed"] == 1 and found["unexported_old_markets", ""] == 1
    assert found["oldest_unexported_partition_timestamp_seconds", ""] == 1770249600.0  # 2026-02-05


class Asked(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked for."""

    paths: list[str] = []
    status = 200

    def do_GET(self):
        self.paths.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def pinged():
    """A server that is pinged; its address."""
    Asked.paths = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/check"
    server.shutdown()
    server.server_close()


def test_nightly_pings_at_start_and_end_and_a_dead_ping_fails_nothing(source, tmp_path, pinged):
    from tests.conftest import Pipeline

    day = ago(1)
    source.partition(day)
    source.market("1.1")
    for hour in range(3):
        source.message("1.1", f"{day} 0{hour}:00:00+00")
    settings = tmp_path / "ping.cfg"
    settings.write_text(f"[tick_export]\nping_url = {pinged}\n")
    pipeline = Pipeline(tmp_path / "out", source.environment)
    assert pipeline.run("nightly", LUIGI_CONFIG_PATH=str(settings)).returncode == 0
    assert Asked.paths == ["/check/start", "/check/0"]
    found = metrics(pipeline)
    assert found["last_exit_code", "nightly"] == 0 and found["last_exit_code", "ConsolidateDay"] == 0
    Asked.paths.clear()
    failed = pipeline.run("nightly", LUIGI_CONFIG_PATH=str(settings), POSTGRES_PORT="1")
    assert failed.returncode == 35 and Asked.paths == ["/check/start", "/check/35"]
    settings.write_text("[tick_export]\nping_url = http://127.0.0.1:1/dead\n")
    dead = pipeline.run("nightly", LUIGI_CONFIG_PATH=str(settings))
    assert dead.returncode == 0 and "The ping of ping_url (start) failed" in dead.stderr


def test_every_metric_in_the_rules_and_on_the_dashboard_exists():
    rules = yaml.safe_load((ROOT / "config/prometheus/alerts.yml").read_text())
    dashboard = json.loads((ROOT / "config/grafana/dashboard.json").read_text())
    texts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    texts += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for text in texts for name in re.findall(r"tick_export_\w+", text)}
    assert named and {name.removeprefix("tick_export_") for name in named} <= exposition.METRICS.keys()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is in Debian's package prometheus")
def test_each_alert_fires_for_what_it_is_for():
    result = subprocess.run(
        [PROMTOOL, "test", "rules", "alerts_test.yml"], cwd=ROOT / "config/prometheus", capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    tried = (ROOT / "config/prometheus/alerts_test.yml").read_text()
    for rule in re.findall(r"alert: (\w+)", (ROOT / "config/prometheus/alerts.yml").read_text()):
        assert tried.count(f"alertname: {rule}") >= 1, rule


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is in Debian's package prometheus")
def test_what_a_run_writes_passes_promtool(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    result = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=(pipeline.output_dir / "metrics.prom").read_text(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
