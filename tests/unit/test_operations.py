"""What an operator installs from config/ and reads in docs/operations.md fits the pipeline."""

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import luigi.scheduler
import pytest
from luigi.task_register import Register

import tasks
import tasks.every_task
from tests.conftest import ROOT

DOCKER = ROOT / "config" / "docker"
MANUAL = (ROOT / "docs" / "operations.md").read_text()
FOR_ALL = {"--workers", "--scheduler-url", "--debug", "--help", "--resume"}


def installed() -> dict[Path, str]:
    """Return the text of every file in config/ that an operator installs, and of the manual."""
    folders = (ROOT / "config").rglob("*")
    return {
        path: path.read_text()
        for path in (*folders, ROOT / "docs" / "operations.md")
        if path.is_file() and path.name != "constraints.txt"
    }


def test_every_command_exists_and_has_the_options_that_are_named():
    commands = 0
    for path, text in installed().items():
        for name, rest in re.findall(r"run_pipeline\.sh ([A-Za-z]\w+)([^`|>\n]*)", text):
            if name in ("Archive", "VerifyExport") and name not in tasks.PUBLIC:
                continue
            assert name in {*tasks.PUBLIC, "nightly"}, (path, name)
            parameters = Register.get_task_cls("ConsolidateDay" if name == "nightly" else name).get_params()
            known = (
                FOR_ALL
                | {f"--{parameter.replace('_', '-')}" for parameter, _ in parameters}
                | ({"--catch-up"} if name == "nightly" else set())
            )
            assert set(re.findall(r"--[a-z][a-z-]+", rest)) <= known, (path, name, rest)
            commands += 1
    assert commands > 10


def test_every_file_that_the_manual_names_is_there():
    named = set(re.findall(r"config/[A-Za-z_./-]*[a-z]", MANUAL))
    assert {"config/crontab", "config/logrotate", "config/luigid.cfg", "config/docker/Dockerfile"} <= named
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_exit_code_is_in_the_manual():
    for code in (2, 10, 20, 25, 30, 35, 40, 130):
        assert f"\n| {code} |" in MANUAL, code


@pytest.mark.parametrize("code", [0, 30])
def test_the_crontab_lines_print_nothing_but_a_failure(tmp_path, code):
    wrapper = tmp_path / "run_pipeline.sh"
    wrapper.write_text(f"#!/bin/sh\necho the last line $1\nexit {code}\n")
    wrapper.chmod(0o755)
    lines = [line for line in (ROOT / "config" / "crontab").read_text().splitlines() if re.match(r"[\d*]", line)]
    assert len(lines) == 2
    for line in lines:
        assert "%" not in line and len(line) < 999, "cron ends a command at % and at 999 characters"
        command = (
            line.split(" ", 5)[5]
            .replace("/opt/tick-export", str(tmp_path))
            .replace("/var/log/tick-export", str(tmp_path))
        )
        result = subprocess.run(
            ["env", "-i", "PATH=/usr/bin:/bin", "/bin/sh", "-c", command], capture_output=True, text=True
        )
        task = command.split()[1]
        expected = [] if code == 0 else [f"{task} ended with exit code 30:", f"the last line {task}"]
        assert result.stdout.splitlines() == expected and not result.stderr


def test_luigid_reads_every_key_of_its_settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "config" / "luigid.cfg")
    known = {name for name, _ in luigi.scheduler.scheduler.get_params()}
    assert parser.sections() == ["scheduler"] and set(parser["scheduler"]) <= known
    lines = (ROOT / "config" / "luigid.cfg").read_text().splitlines()
    assert all(before.startswith("#") for before, line in zip(lines, lines[1:]) if re.match(r"\w+ =", line))


def test_the_image_gets_what_it_copies_and_no_more():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    text = (DOCKER / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for word in line.split()[:-1]]
    assert ignored[0] == "*" and {word.split("/")[0] for word in copied} == kept
    assert all((ROOT / word).exists() for word in copied)
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(set(bases)) == 1 and re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0]), "one base, pinned"
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["10001"]


def test_the_direct_wrapper_starts_the_container_and_shows_no_password(tmp_path):
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 20\n')
    docker.chmod(0o755)
    environment = {
        "PATH": f"{docker.parent}:{os.environ['PATH']}",
        "POSTGRES_PASSWORD": "secret 1",
        "POSTGRES_DB": "other",
    }
    wrapper = DOCKER / "run_consolidate_direct_docker.sh"
    (tmp_path / ".env").write_text("POSTGRES_HOST=localhost\n")
    result = subprocess.run(
        [wrapper, "2026-02-16", "--chunk-rows", "1000"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 20, result.stderr  # of the container
    assert result.stdout.split("\n") == [
        "run",
        "--rm",
        "--init",
        "--network",
        "netbet_default",
        "--user",
        f"{os.getuid()}:{os.getgid()}",
        "-e",
        "POSTGRES_HOST=netbet-postgres",
        "-v",
        f"{tmp_path}/.env:/opt/tick-export/.env:ro",
        "-e",
        "POSTGRES_DB",
        "-e",
        "POSTGRES_PASSWORD",
        "-v",
        f"{tmp_path}/data_exports:/data_exports",
        "tick-export",
        "ConsolidateDayDirect",
        "--date",
        "2026-02-16",
        "--output-dir",
        "/data_exports",
        "--chunk-rows",
        "1000",
        "",
    ]
    for arguments in ([], ["--help"]):
        result = subprocess.run([wrapper, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 2 and "no day given" in result.stderr and not result.stdout


def test_the_export_wrapper_is_exportall_by_its_old_name(tmp_path):
    project = tmp_path / "a project"
    (project / "config" / "docker").mkdir(parents=True)
    (project / "run_pipeline.sh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    wrapper = project / "config" / "docker" / "run_export_tick_data.sh"
    wrapper.write_text((DOCKER / "run_export_tick_data.sh").read_text())
    for path in (wrapper, project / "run_pipeline.sh"):
        path.chmod(0o755)
    given = "--format jsonl --resume --include-markets-without-ticks"
    result = subprocess.run([wrapper, *shlex.split(given)], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.split() == ["ExportAll", *given.split()], result.stderr


def test_the_entry_point_of_the_image_answers_with_the_help():
    text = (DOCKER / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "-P", "-m", "tasks"]\nCMD ["--help"]' in text
    result = subprocess.run(
        [sys.executable, "-P", "-m", "tasks", "--help"],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "nightly" in result.stdout, result.stderr
