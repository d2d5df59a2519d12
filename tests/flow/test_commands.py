"""The commands of README and docs/, run as they stand, page by page, on an export of the small recording."""

import datetime
import os
import re
import shlex
import subprocess
import sys

import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tests.conftest import ROOT, Pipeline, new_source

_BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_IS_COMMAND = re.compile(r"^(?:\$ |\./|cd |sha256sum |PGOPTIONS=)")
#: What cannot be run here, or is run by another test.
_LEFT_OUT = {
    "./run_pipeline.sh demo": "test_demo.py",
    "./run_pipeline.sh bench": "tests/bench; hours",
    "--scheduler-url": "test_luigid.py starts it as the page says",
    "--spark-master": "there is no cluster; test_consolidate_range.py starts one with --engines",
    "useradd": "changes the machine's users",
    "docker": "there is no Docker; test_operations.py runs the wrappers with one that records",
    "git pull": "there is nothing to pull from",
    "run_pipeline.sh, or luigi": "a drawing",
}
#: Blocks for who receives an archive are run where it lies.
_RECEIVER = "sha256sum -c"


def blocks(page):
    """Return the blocks of commands of a page that are run here."""
    text = (ROOT / page).read_text()
    found = [block for block in _BLOCK.findall(text) if _IS_COMMAND.match(block)]
    return [block for block in found if not any(reason in block for reason in _LEFT_OUT)]


PAGES = [
    page for page in ("README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))) if blocks(page)
]


@pytest.fixture(scope="module")
def project(server, tmp_path_factory):
    """A folder like a checkout of the project, what the names on the pages are here, and a database."""
    source = new_source(server)
    load(Recording.tiny(), server.conninfo(source.name))
    (market_id, day), *_ = source.query(
        "SELECT market_id, date(publish_time AT TIME ZONE 'UTC')::text FROM stream_ingest.ladder_levels"
        " GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2"
    )
    folder = tmp_path_factory.mktemp("checkout") / "project"
    (folder / "published").mkdir(parents=True)
    programs = {
        "run_pipeline.sh": f'exec {shlex.quote(sys.executable)} -P -m tasks "$@"',
        # DuckDB's own program, as far as the page uses it
        "bin/duckdb": (
            f"exec {shlex.quote(sys.executable)} -c \"import duckdb; duckdb.connect().execute(open('$2').read())\""
        ),
    }
    (folder / "bin").mkdir()
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    demo = Pipeline(folder / "data_exports" / "demo", source.environment)
    demo.output_dir.parent.mkdir()
    assert demo.run("ExportAll").returncode == 0
    today = f"{datetime.datetime.now(datetime.UTC):%Y%m%d}"
    names = {
        "/srv/ticks": str(folder / "data_exports"),
        "s3://bucket/prefix": (folder / "published").as_uri(),
        "1.200806927": market_id,
        "1.250763826": market_id,
        "2024-01-15": day,
        "--from 2024-01-01 --to 2024-01-31": f"--from {day} --to {day}",
        "20240115": today,
        "20261122": today,
    }
    return folder, names, source


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(project, page):
    folder, names, source = project
    source.query("DROP SCHEMA IF EXISTS restored CASCADE")
    exported = Pipeline(folder / "data_exports" / "tick_export", source.environment)
    assert exported.run("ExportAll").returncode == 0, "what the pages take for granted"
    assert exported.run("Archive").returncode == 0
    environment = exported.full_environment() | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    # the recorder's tables are in the same database: docs/restoring.md says what to set then
    (folder / "own.cfg").write_text("[tick_export]\ntables_in_two_schemas = restored\n")
    for block in blocks(page):
        if "search_path=restored" in block:
            environment |= {"LUIGI_CONFIG_PATH": str(folder / "own.cfg")}
        commands = "\n".join(line.removeprefix("$ ") for line in block.splitlines() if not re.match(r"\d{4}-", line))
        for name, here in names.items():
            commands = commands.replace(name, here)
        where = folder / "data_exports" if block.startswith(_RECEIVER) else folder
        result = subprocess.run(["bash", "-ec", commands], cwd=where, env=environment, capture_output=True, text=True)
        # yesterday nothing was recorded, and nightly says so
        assert result.returncode == (20 if "nightly" in block else 0), (block, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr


def test_the_pages_are_found_with_their_commands():
    assert sum(len(blocks(page)) for page in PAGES) >= 12 and {"README.md", "docs/operations.md"} <= set(PAGES)
