"""Small mistakes of a user, and small surprises of a system: one line each, never a traceback."""

import logging
import os
import subprocess
import sys

import pytest

from tasks.workflow.exit_codes import DEBUG_VARIABLE
from tasks.workflow.logs import OneLineFormatter
from tests.conftest import Pipeline


def one_line(result, code):
    """Return the error of a run that ended with a code and one line."""
    assert result.returncode == code and "Traceback" not in result.stderr, result.stderr
    return result.stderr


def test_the_last_day_that_there_is(pipeline):
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        result = pipeline.run(task, "--date", "9999-12-31", "--allow-partial")
        assert "--date is '9999-12-31', expected" in one_line(result, 2)
    one_line(pipeline.run("ConsolidateDayDirect", "--date", "9999-12-30", "--allow-partial"), 20)


def test_the_first_day_that_there_is(pipeline, small):
    small.partition("0001-01-01")
    small.message("1.102", "0001-01-01 10:00+00")
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        assert pipeline.run(task, "--date", "0001-01-01").returncode == 0
        assert {path.name for path in pipeline.output_dir.glob("consolidat*")} == {
            "consolidated_ticks_0001_01_01.csv",
            "consolidation_report_0001_01_01.txt",
        }
    assert pipeline.run("Archive", "--date", "0001-01-01").returncode == 0
    assert (pipeline.output_dir.parent / "tick export_00010101.tar.gz").exists()


@pytest.mark.parametrize("content", [b"[core\n", b"[core]\nworkers=\xff1\n", b"workers=1\n"])
def test_a_broken_configuration_file(pipeline, tmp_path, content):
    path = tmp_path / "own.cfg"
    path.write_bytes(content)
    result = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(path))
    assert f"LUIGI_CONFIG_PATH is {path}, which cannot be read" in one_line(result, 2)


def test_minutes_below_zero(pipeline, tmp_path):
    path = tmp_path / "own.cfg"
    path.write_text("[tick_export]\nsettle_minutes = -5\n")
    result = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(path))
    assert "settle_minutes = -5 in section [tick_export], expected a whole number, 0 or more" in one_line(result, 2)


def test_a_working_directory_that_is_gone(pipeline, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [sys.executable, "-P", "-m", "tasks", "ExportAll", "--output-dir", "out"]
    result = subprocess.run(
        ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *command],
        env=pipeline.full_environment(),
        capture_output=True,
        text=True,
    )
    assert "The working directory has been deleted" in one_line(result, 2)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_no_more_threads(pipeline, after):
    program = f"""
import itertools, runpy, sys, threading
start, number = threading.Thread.start, itertools.count()
def limited(thread):
    if next(number) >= {after}:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = limited
sys.argv = ["tasks", "ExportAll", "--output-dir", {str(pipeline.output_dir)!r}]
runpy.run_module("tasks", run_name="__main__")
"""
    result = subprocess.run(
        [sys.executable, "-P", "-c", program], env=pipeline.full_environment(), capture_output=True, text=True
    )
    assert "not let this user start more" in one_line(result, result.returncode) and result.returncode in (30, 35, 40)


@pytest.mark.parametrize("name", ["line\nbreak", "back\\slash"])
def test_sha256sum_checks_an_archive_whatever_its_name(pipeline, name):
    strange = Pipeline(pipeline.output_dir.with_name(name), pipeline.environment)
    assert strange.run("ExportAll").returncode == 0
    assert strange.run("Archive", "--date", "2026-02-07").returncode == 0
    assert "Nothing to do" in strange.run("Archive", "--date", "2026-02-07").stderr
    checksum_file = f"{name}_20260207.tar.gz.sha256"
    subprocess.run(["sha256sum", "--check", "--strict", checksum_file], cwd=strange.output_dir.parent, check=True)


@pytest.mark.parametrize("debug", [False, True])
def test_a_password_in_the_address_of_luigid_is_not_logged(monkeypatch, debug):
    monkeypatch.setenv(DEBUG_VARIABLE, "1") if debug else monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    address = "http://operator:geheim@luigid:8082"
    try:
        raise ConnectionRefusedError(f"Failed connecting to remote scheduler {address!r}")
    except ConnectionRefusedError:
        record = logging.LogRecord("luigi", logging.WARNING, "", 0, "Wait for %r", (address,), sys.exc_info())
    text = OneLineFormatter().format(record)
    assert text.count("http://operator:***@luigid:8082") >= 2 and "geheim" not in text


def test_an_output_directory_that_is_a_link_to_nowhere(pipeline):
    os.symlink("nowhere", pipeline.output_dir)
    assert "it is a dangling link" in one_line(pipeline.run("ExportAll"), 30)
