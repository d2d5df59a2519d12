"""ExportAll and its tasks, as a user runs them, on a real PostgreSQL."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import duckdb
import pytest

from tasks.errors import DatabaseError
from tasks.postgres import tick_reader
from tasks.postgres.server import Server
from tests.conftest import BY_HAND, Pipeline, index_of
from tests.flow.exported_rows import rows_in_database, rows_in_file


@pytest.mark.parametrize("format", BY_HAND)
def test_every_row_is_there_and_a_second_run_writes_nothing(pipeline, small, format):
    first = pipeline.run("ExportAll", "--format", format)
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in (pipeline.output_dir / "markets").iterdir()) == sorted(
        f"marketId={market}{end}" for market in ("1.101", "1.102", "1.103") for end in (f".{format}", "_metadata.json")
    )
    for market_id in ("1.101", "1.102", "1.103"):
        assert rows_in_file(pipeline, market_id, format) == rows_in_database(small, market_id)
    index = index_of(pipeline)
    assert list(index) == ["1.101", "1.102", "1.103"]
    assert sum(int(row["total_tick_records"]) for row in index.values()) == small.ticks()
    assert index["1.101"] | {"file_size_bytes": "", "checksum": ""} == {
        "market_id": "1.101",
        "event_id": "30",
        "first_tick_timestamp": "2026-02-05T10:00:00.123000Z",
        "last_tick_timestamp": "2026-02-05T12:00:00.123000Z",
        "total_tick_records": "42",
        "total_messages": "3",
        "file_path": f"markets/marketId=1.101.{format}",
        "file_size_bytes": "",
        "checksum": "",
    }
    for row in index.values():
        content = (pipeline.output_dir / row["file_path"]).read_bytes()
        assert row["checksum"] == hashlib.sha256(content).hexdigest() and int(row["file_size_bytes"]) == len(content)
    before = pipeline.stamps()
    second = pipeline.run("ExportAll", "--format", format)
    assert second.returncode == 0 and "Nothing to do" in second.stderr
    assert pipeline.stamps() == before


def test_metadata_and_report(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    metadata = json.loads((pipeline.output_dir / "markets" / "marketId=1.101_metadata.json").read_text())
    assert list(metadata.items()) == [
        ("marketId", "1.101"),
        ("eventId", "30"),
        ("eventTypeId", None),
        ("marketName", "A v B"),
        ("marketType", "MATCH_ODDS_FT"),
        ("marketStartTime", "2026-02-05T12:00:00.000000Z"),
        ("marketStatus", "CLOSED"),
        ("inPlay", True),
        ("numberOfRunners", 2),
        (
            "runners",
            [
                {"selectionId": 1, "runnerName": "One", "handicap": None},
                {"selectionId": 2, "runnerName": "Two", "handicap": None},
            ],
        ),
    ]
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    for line in (
        "Markets: 3",
        "Total tick records: 67",
        "Total messages (distinct publish_time): 7",
        "Markets new: 3",
        "Markets failed: 0",
        "Period: 2026-02-05T10:00:00.123000Z to 2026-02-06T02:30:00.000000Z",
    ):
        assert line in report.splitlines(), report


def test_workers_and_bare_luigi_give_the_same_bytes(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    for number, arguments in enumerate([{"luigi": False}, {"luigi": True}]):
        other = Pipeline(pipeline.output_dir.parent / f"other{number}", small.environment)
        result = other.run("ExportAll", "--workers", "2", **arguments)
        assert result.returncode == 0, result.stderr
        assert other.files() == pipeline.files()


def test_markets_without_ticks_get_an_empty_file_on_demand(pipeline):
    assert pipeline.run("ExportAll", "--include-markets-without-ticks").returncode == 0
    row = index_of(pipeline)["1.104"]
    assert (row["total_tick_records"], row["total_messages"], row["first_tick_timestamp"], row["event_id"]) == (
        "0",
        "0",
        "",
        "30",
    )
    assert duckdb.execute(f"SELECT count(*) FROM '{pipeline.market('1.104')}'").fetchall() == [(0,)]
    before = pipeline.stamps()
    assert "Nothing to do" in pipeline.run("ExportAll", "--include-markets-without-ticks").stderr
    assert "Nothing to do" in pipeline.run("ExportAll").stderr
    assert pipeline.stamps() == before


def test_an_empty_file_fills_when_ticks_come(pipeline, small):
    assert pipeline.run("ExportAll", "--include-markets-without-ticks").returncode == 0
    small.message("1.104", "2026-02-06 10:00+00")
    assert pipeline.run("ExportAll").returncode == 0
    assert index_of(pipeline)["1.104"]["total_tick_records"] == "7"


def test_metadata_can_be_left_out(pipeline):
    assert pipeline.run("ExportAll", "--export-metadata", "false").returncode == 0
    assert not list((pipeline.output_dir / "markets").glob("*.json"))
    assert index_of(pipeline)["1.101"]["event_id"] == "30"
    assert pipeline.run("ExportAll").returncode == 0
    assert len(list((pipeline.output_dir / "markets").glob("*.json"))) == 3


def test_one_market_alone_and_an_unknown_one(pipeline):
    assert pipeline.run("ExportMarket", "--market-id", "1.102").returncode == 0
    assert [path.name for path in (pipeline.output_dir / "markets").iterdir()] == ["marketId=1.102.parquet"]
    unknown = pipeline.run("ExportMarket", "--market-id", "1.999")
    assert unknown.returncode == 20 and "1.999 has no ticks" in unknown.stderr
    assert pipeline.run("BuildIndex").returncode == 0
    assert list(index_of(pipeline)) == ["1.101", "1.102", "1.103"]


def test_a_market_that_cannot_be_read_stops_no_other(pipeline, small):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.102'")
    result = pipeline.run("ExportAll")
    assert result.returncode == 30 and "Traceback" not in result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.103"]
    assert "'1.102': a row has a received_time before" in (pipeline.output_dir / "execution_report.txt").read_text()
    single = pipeline.run("ExportMarket", "--market-id", "1.102")
    assert single.returncode == 30 and "1.102" in single.stderr and "Traceback" not in single.stderr


def test_an_export_offline_gets_its_index_back(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    before = pipeline.files()
    copy = Pipeline(pipeline.output_dir.parent / "copy", {"POSTGRES_PORT": "1"})
    shutil.copytree(pipeline.output_dir, copy.output_dir)
    (copy.output_dir / "index.csv").unlink()
    result = copy.run("BuildIndex", "--offline")
    assert result.returncode == 0, result.stderr
    assert copy.files() == before


@pytest.mark.parametrize("luigi", [False, True])
def test_pandas_is_not_loaded_in_any_process_of_an_export(pipeline, small, luigi):
    for hour in (21, 22):
        result = pipeline.run("ExportAll", "--workers", "2", luigi=luigi, PYTHONPROFILEIMPORTTIME="1")
        assert result.returncode == 0
        assert re.search(r"\| +pyarrow$", result.stderr, re.M) and "pandas.core" not in result.stderr
        small.message("1.101", f"2026-02-06 {hour}:59:59+00")


def test_who_uses_the_tasks_in_a_program_of_theirs_finds_pandas_as_ever():
    program = "import tasks, pyarrow, pandas; print(pyarrow.array(pandas.Series([1.0, float('nan')])).null_count)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "1\n"


def test_a_server_that_ends_every_question_is_one_line_not_a_refused_market(small, monkeypatch):
    monkeypatch.setattr(tick_reader, "KEEP_FREED_MEMORY", "SELECT pg_sleep(3600)")
    server = Server.from_environment(small.environment | {"PGOPTIONS": "-c statement_timeout=50"})
    with pytest.raises(DatabaseError, match=r"A query on .* failed: .*statement timeout \(.*\)\.$"):
        tick_reader.TickReader(server)


def test_a_database_without_ticks_gives_an_index_without_rows(source, tmp_path):
    pipeline = Pipeline(tmp_path / "out", source.environment)
    assert pipeline.run("ExportAll").returncode == 0
    assert index_of(pipeline) == {} and "Markets: 0" in (pipeline.output_dir / "execution_report.txt").read_text()
    assert "Nothing to do" in pipeline.run("ExportAll").stderr


def test_an_index_asked_for_by_itself_is_made_and_names_the_market_that_failed(pipeline, small):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.102'")
    result = pipeline.run("BuildIndex")
    assert result.returncode == 30 and "'1.102'" in result.stderr, result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.103"]
