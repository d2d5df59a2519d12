"""The demo, as a newcomer runs it: what it prints works, also after its server is gone."""

import os
import re
import subprocess
import sys

import psycopg2
import pytest

from tests.conftest import ROOT


def run(folder, *arguments):
    """Run a command line in a folder without any database of its own; return what came of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "PG"))}
    return subprocess.run(
        [sys.executable, "-P", "-m", "tasks", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "POSTGRES_HOST": "/nowhere"},
        capture_output=True,
        text=True,
        start_new_session=True,
    )


def test_the_demo_leads_on_and_keeps_its_database_if_asked_to(tmp_path):
    result = run(tmp_path, "demo", "--keep")
    assert result.returncode == 0, result.stderr
    stop = result.stdout.splitlines()[-1]
    try:
        assert len(result.stderr.splitlines()) <= 6, result.stderr
        wide = [line for line in result.stdout.splitlines() if len(line) > 80 and not line.startswith("  ")]
        assert wide[:-1] == [], "what is no command fits 80 columns; the last line stops the server"
        commands = re.findall(r"^  \./run_pipeline\.sh (.*)$", result.stdout, re.MULTILINE)
        assert [command.split()[0] for command in commands] == ["ConsolidateDay", "VerifyExport", "Archive"]
        socket, port = re.search(r"^  psql -h (\S+) -p (\d+) -U postgres netbet$", result.stdout, re.MULTILINE).groups()
        connection = psycopg2.connect(host=socket, port=port, user="postgres", dbname="netbet")
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM stream_ingest.ladder_levels")
            assert f"{cursor.fetchone()[0]:,} ladder rows" in result.stdout
        connection.close()
        line = r"^  (POSTGRES_\S.*) \./run_pipeline\.sh (ExportAll.*)$"
        variables, command = re.search(line, result.stdout, re.MULTILINE).groups()
        given = dict(variable.split("=", 1) for variable in variables.split())
        with pytest.MonkeyPatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            again = subprocess.run(
                [sys.executable, "-P", "-m", "tasks", *command.split()],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
        assert again.returncode == 0 and "Nothing to do" in again.stderr, again.stderr
    finally:
        subprocess.run(["/bin/sh", "-c", stop], check=True)
    assert not os.path.exists(socket)
    for command in commands:
        offline = run(tmp_path, *command.split())
        assert offline.returncode == 0, (command, offline.stderr)


def test_the_demo_takes_no_other_option(tmp_path):
    result = run(tmp_path, "demo", "--workers", "2")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
