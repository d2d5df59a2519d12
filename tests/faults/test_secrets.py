"""A password is in the environment, and nowhere else: not in a command line, log, report, page, file or error."""

import contextlib
import resource
import subprocess

import psutil
import pytest

from tests.conftest import Pipeline, ago, fill, new_source, reader
from tests.flow.refusals import refusal

SECRET = "Zb7-geheim"


def command_lines(process: psutil.Process) -> set[str]:
    """Return the command lines of a process and of those below it that have not just ended."""
    lines = set()
    with contextlib.suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                lines.add("\0".join(each.cmdline()))
    return lines


def test_no_task_shows_the_password(server, tmp_path):
    source = fill(new_source(server))
    source.partition(ago(1))
    source.message("1.102", f"{ago(1)} 10:00:00+00")  # nightly makes the CSV of yesterday
    source.message("no id", "2026-02-05 10:00:00+00")  # a market that fails, and is reported
    environment = reader(source) | {"POSTGRES_PASSWORD": SECRET}
    source.query(f"ALTER ROLE {environment['POSTGRES_USER']} PASSWORD '{SECRET}'")
    pipeline = Pipeline(tmp_path / "out", environment)
    seen: set[str] = set()
    for task in (
        ("ExportAll", "--debug", "--workers", "2"),
        ("nightly", "--debug"),
        ("PlotMarket", "--market-id", "1.101"),
        ("Archive", "--debug", "--date", "2026-03-01"),
        ("VerifyExport", "--debug"),
    ):
        process = pipeline.start(*task)
        watched = psutil.Process(process.pid)
        assert watched.rlimit(resource.RLIMIT_CORE) == resource.getrlimit(resource.RLIMIT_CORE)
        said = None
        while said is None:
            seen |= command_lines(watched)
            with contextlib.suppress(subprocess.TimeoutExpired):
                said = process.communicate(timeout=0.05)[1]
        assert process.returncode in (0, 30), said
        assert SECRET not in said
    assert len(seen) > 3 and not [line for line in seen if SECRET in line]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes() or SECRET in path.name] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_HOST", f"postgresql://netbet:{SECRET}@db.example/netbet"),
        ("POSTGRES_HOST", f"postgresql://netbet:{SECRET}/@{SECRET}@db.example/netbet"),
        ("POSTGRES_HOST", f"host=db.example password={SECRET}"),
        ("POSTGRES_PORT", f"5432 password='{SECRET} x'"),
        ("POSTGRES_DB", f"postgresql://netbet:{SECRET}@db.example/netbet"),
        ("POSTGRES_DB", f"dbname=netbet PASSWORD = {SECRET}"),
        ("POSTGRES_USER", f"netbet password={SECRET}"),
        ("PGOPTIONS", f"-c search_path=public password={SECRET}"),
    ],
)
def test_a_connection_string_in_place_of_a_part_is_refused_and_not_shown(source, name, value):
    said = refusal(source.environment | {name: value})
    assert SECRET not in said and f"{name} holds a connection string or a password" in said


def test_the_refusal_is_all_that_is_said(pipeline):
    refused = pipeline.run("ExportAll", POSTGRES_DB=f"postgresql://netbet:{SECRET}@db.example/netbet")
    assert refused.returncode == 35 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert SECRET not in refused.stdout + refused.stderr and "POSTGRES_DB holds a connection string" in refused.stderr
    assert not pipeline.output_dir.exists()
