"""ExportAll and its tasks, as a user runs them, on a real PostgreSQL."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import duckdb
import psycopg2
import pytest

from tasks.errors import DatabaseError
from tasks.postgres import tick_reader
from tasks.postgres.server import Server
from tests.conftest import FORMATS, Pipeline, Source, index_of, new_source


def rows_in_database(source: Source, market_id: str) -> list[tuple]:
    """Return a market's ticks in the order and with the values of the contract, by SQL alone."""
    return source.query(
        """
        SELECT to_char(received_time, 'YYYY-MM-DD HH24:MI:SS.US'), to_char(publish_time, 'YYYY-MM-DD HH24:MI:SS.US'),
               market_id, selection_id,
               CASE side WHEN 'B' THEN 'BACK' ELSE 'LAY' END, price, size, NULL::float8, 'update', level::int,
                   'ladder', NULL::bool,
               level::bigint
          FROM stream_ingest.ladder_levels WHERE market_id = %s
         UNION ALL
        SELECT to_char(received_time, 'YYYY-MM-DD HH24:MI:SS.US'), to_char(publish_time, 'YYYY-MM-DD HH24:MI:SS.US'),
               market_id, selection_id,
               NULL, price, size_traded, size_traded, 'update', NULL, 'traded', NULL,
               dense_rank() OVER (PARTITION BY selection_id, publish_time ORDER BY price) - 1
          FROM stream_ingest.traded_volume WHERE market_id = %s
         ORDER BY 2, 11, 10, 4, 5, 6, 1, 7""",
        market_id,
        market_id,
    )


def rows_in_file(pipeline: Pipeline, market_id: str, format: str) -> list[tuple]:
    """Return a market file's rows as DuckDB reads them."""
    path = pipeline.market(market_id, format)
    source = (
        f"read_parquet('{path}', file_row_number=true)"
        if format == "parquet"
        else (
            f"(SELECT *, row_number() OVER () AS file_row_number FROM read_json('{path}', format='newline_delimited',"
            " columns={received_at: 'TIMESTAMPTZ', publish_time: 'TIMESTAMPTZ', market_id: 'VARCHAR', selection_id:"
            " 'BIGINT', side: 'VARCHAR', price: 'DOUBLE', size: 'DOUBLE', traded_volume: 'DOUBLE', change_type:"
            " 'VARCHAR', level: 'INT', record_type: 'VARCHAR', in_play: 'BOOLEAN', sequence: 'BIGINT'}))"
        )
    )
    return duckdb.execute(f"""
        SET TimeZone = 'UTC';
        SELECT strftime(received_at::timestamp, '%Y-%m-%d %H:%M:%S.%f'), strftime(publish_time::timestamp,
               '%Y-%m-%d %H:%M:%S.%f'),
               market_id, selection_id, side, price, size, traded_volume, change_type, level, record_type, in_play,
                   sequence
          FROM {source} ORDER BY file_row_number""").fetchall()


@pytest.mark.parametrize("format", FORMATS)
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


def test_a_market_without_row_in_markets_is_exported(pipeline, small):
    small.message("1.200", "2026-02-05 10:00+00")
    assert pipeline.run("ExportAll").returncode == 0
    assert index_of(pipeline)["1.200"]["event_id"] == ""
    metadata = json.loads((pipeline.output_dir / "markets" / "marketId=1.200_metadata.json").read_text())
    assert metadata == {
        "marketId": "1.200",
        "eventId": None,
        "eventTypeId": None,
        "marketName": None,
        "marketType": None,
        "marketStartTime": None,
        "marketStatus": None,
        "inPlay": None,
        "numberOfRunners": 0,
        "runners": [],
    }


HOSTILE = ("../../etc/x", "1.2'; DROP TABLE", "", "1.2\n3", "１.２", "%s", "/tmp/x", "1.2.parquet")


def test_hostile_market_ids_are_reported_and_harm_nothing(pipeline, small):
    for market_id in HOSTILE:
        small.message(market_id, "2026-02-05 10:00+00")
    result = pipeline.run("ExportAll")
    assert result.returncode == 30, result.stderr
    assert "Traceback" not in result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.102", "1.103"]
    assert len(list((pipeline.output_dir / "markets").glob("*_metadata.json"))) == 3
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    assert f"Markets failed: {len(HOSTILE)}" in report
    for market_id in HOSTILE:
        assert repr(market_id) in report
    assert [path.name for path in pipeline.output_dir.parent.iterdir()] == [pipeline.output_dir.name]
    assert small.ticks() == 67 + 7 * len(HOSTILE)


def test_a_market_that_cannot_be_read_stops_no_other(pipeline, small):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.102'")
    result = pipeline.run("ExportAll")
    assert result.returncode == 30 and "Traceback" not in result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.103"]
    assert "'1.102': a row has a received_time before" in (pipeline.output_dir / "execution_report.txt").read_text()
    single = pipeline.run("ExportMarket", "--market-id", "1.102")
    assert single.returncode == 30 and "1.102" in single.stderr and "Traceback" not in single.stderr


def test_a_row_without_constraints_is_refused_not_bent(server, tmp_path):
    source = new_source(server)
    source.query("DROP TABLE stream_ingest.ladder_levels")
    source.query(
        "CREATE TABLE stream_ingest.ladder_levels (market_id varchar(32), selection_id bigint, side char(1), level"
        " smallint, price float8, size float8, publish_time timestamptz, received_time timestamptz)"
    )
    values = {
        "1.1": ("B", 0, 2.0),
        "1.2": ("X", 0, 2.0),
        "1.3": ("B", 9, 2.0),
        "1.4": ("B", 0, None),
        "1.5": ("L", -1, 2.0),
        "1.8": (None, 0, 2.0),
        "1.9": ("É", 0, 2.0),
    }
    for market_id, (side, level, price) in values.items():
        source.query(
            "INSERT INTO stream_ingest.ladder_levels VALUES (%s, 1, %s, %s, %s, 5, '2026-02-05 10:00+00', '2026-02-05"
            " 10:00+00')",
            market_id,
            side,
            level,
            price,
        )
    for market_id, selection_id in (("1.6", 1), ("1.6", 2), ("1.7", None)):
        source.query(
            "INSERT INTO stream_ingest.ladder_levels VALUES (%s, %s, 'B', 0, 2, 5, '2026-02-05 10:00+00', '2026-02-05"
            " 10:00+00')",
            market_id,
            selection_id,
        )
    source.query("INSERT INTO stream_ingest.ladder_levels (market_id, selection_id) VALUES ('1.6', 2)")
    pipeline = Pipeline(tmp_path / "out", source.environment)
    result = pipeline.run("ExportAll")
    assert result.returncode == 30
    assert list(index_of(pipeline)) == ["1.1"]
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    assert "Markets failed: 8" in report and "level 9" in report and "level -1" in report
    for market_id in ("1.2", "1.9"):
        assert re.search(f"'{market_id}'.* another side than B and L", report)
    assert re.search(r"'1.8'.* no valid selection_id, level or side", report) and re.search(
        r"'1.4'.* 1 rows have no valid price", report
    )


@pytest.mark.parametrize("empty", ["ladder_levels", "traded_volume", None])
def test_markets_read_together_have_every_value_of_either_table(server, tmp_path, empty):
    source = new_source(server)
    pipeline = Pipeline(tmp_path / "out", source.environment)
    source.partition("2026-02-05")
    markets = [f"1.{number}" for number in range(1, 30)]
    for number, market_id in enumerate(markets):
        source.market(market_id)
        for minute in range(1 + number % 3):
            source.message(market_id, f"2026-02-05 10:{minute}0:00.000001+00", selection_id=number + minute)
    source.query("""
        UPDATE stream_ingest.ladder_levels SET received_time = '1999-12-31 23:59:59.999999+00' WHERE market_id = '1.7';
        UPDATE stream_ingest.ladder_levels SET received_time = '1969-07-20 20:17:40+00', size = 'Infinity',
            price = 0.1::float8 + 0.2
         WHERE market_id = '1.8'""")
    if empty is not None:
        source.query(
            "UPDATE stream_ingest.traded_volume SET received_time = '9999-12-31 23:59:59.999999+00'; TRUNCATE"
            f" stream_ingest.{empty}"
        )
    result = pipeline.run("ExportAll", "--include-markets-without-ladder")
    assert result.returncode == 0, result.stderr
    for market_id in markets:
        found = rows_in_file(pipeline, market_id, "parquet")
        assert found and found == rows_in_database(source, market_id)


def test_a_role_with_select_alone_is_enough(pipeline, small, server):
    server.create_role(f"reader_{small.name}", "secret-of-reader")
    small.query(
        f"GRANT USAGE ON SCHEMA stream_ingest TO reader_{small.name}; GRANT SELECT ON ALL TABLES IN SCHEMA"
        f" stream_ingest, public TO reader_{small.name}"
    )
    result = pipeline.run("ExportAll", POSTGRES_USER=f"reader_{small.name}", POSTGRES_PASSWORD="secret-of-reader")
    assert result.returncode == 0, result.stderr
    assert "secret-of-reader" not in result.stderr + result.stdout
    with pytest.raises(psycopg2.Error):
        small.query(f"SET ROLE reader_{small.name}; DELETE FROM public.markets")


@pytest.mark.parametrize("luigi", [False, True])
def test_mistakes_get_one_line_and_an_exit_code(pipeline, small, luigi):
    cases = [
        (("ExportAll", "--format", "xml"), {}, 2, "--format is 'xml', expected parquet or jsonl"),
        (("ExportMarket", "--market-id", "../x"), {}, 2, "expected a Betfair market id"),
        (("ExportAll", "--export-metadata", "maybe"), {}, 2, "expected true or false"),
        (("ExportAll",), {"POSTGRES_PASSWORD": "geheim-und-falsch"}, 35, "password authentication failed"),
        (("ExportAll",), {"POSTGRES_DB": "nowhere"}, 35, 'database "nowhere" does not exist'),
        (("ExportAll",), {"POSTGRES_DB": "postgres"}, 35, "has no table public.markets"),
        (("ExportAll",), {"POSTGRES_PORT": "1"}, 35, "No connection"),
        (("ExportAll",), {"POSTGRES_PORT": "many"}, 35, "POSTGRES_PORT is 'many'"),
    ]
    for arguments, environment, code, text in cases:
        result = pipeline.run(*arguments, luigi=luigi, **environment)
        assert result.returncode == code, (arguments, result.stderr)
        errors = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        assert len(errors) == 1 and text in errors[0], (arguments, result.stderr)
        assert "Traceback" not in result.stderr and "geheim" not in result.stderr
        assert not pipeline.output_dir.exists()


def test_an_unknown_task_or_option_is_wrong_usage(pipeline):
    assert pipeline.run("ExportEverything").returncode == 2
    assert pipeline.run("ExportAll", "--colour", "red").returncode == 2


def test_an_unwritable_directory(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    pipeline = Pipeline(tmp_path / "file" / "out", small.environment)
    result = subprocess.run(
        pipeline.command("ExportAll"), env=pipeline.full_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 30 and "Cannot write to" in result.stderr and "Traceback" not in result.stderr


def test_the_other_format_and_another_database_are_refused(pipeline, server):
    assert pipeline.run("ExportAll").returncode == 0
    before = pipeline.stamps()
    other_format = pipeline.run("ExportAll", "--format", "jsonl")
    assert other_format.returncode == 2 and "one directory has one format" in other_format.stderr
    other = new_source(server)
    other.partition("2026-02-05")
    other.market("1.900")
    other.message("1.900", "2026-02-05 10:00+00")
    refused = pipeline.run("ExportAll", **other.environment)
    assert refused.returncode == 2 and "knows none of them" in refused.stderr
    assert pipeline.stamps() == before
    assert pipeline.run("ExportAll", "--allow-other-database", **other.environment).returncode == 0
    assert list(index_of(pipeline)) == ["1.101", "1.102", "1.103", "1.900"]


def test_resume_is_accepted_and_help_explains(pipeline):
    result = pipeline.run("ExportAll", "--resume")
    assert result.returncode == 0 and "--resume is not needed" in result.stderr
    for arguments in ((), ("--help",)):
        command = pipeline.command(*arguments)[: 4 + len(arguments)]
        overview = subprocess.run(command, capture_output=True, text=True, env=pipeline.full_environment())
        assert overview.returncode == 0 and "ExportMarket" in overview.stdout and "exit codes" in overview.stdout
    options = pipeline.run("ExportMarket", "--help")
    assert options.returncode == 0 and "--refresh" in options.stdout and "--market-id" in options.stdout


def test_a_misspelt_key_in_the_configuration_is_an_error(pipeline, tmp_path):
    for text, word in (
        ("[tick_export]\nsettle_minute = 3\n", "settle_minute"),
        ("[retcodes]\nnot_run = 3\n", "retcodes"),
    ):
        (tmp_path / "mine.cfg").write_text(text)
        for luigi in (False, True):
            result = pipeline.run("ExportAll", luigi=luigi, LUIGI_CONFIG_PATH=str(tmp_path / "mine.cfg"))
            assert result.returncode == 2 and word in result.stderr and "Traceback" not in result.stderr


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


def test_a_role_that_may_read_the_parents_alone_gets_the_same(pipeline, small, server):
    role = f"parent_{small.name}"
    server.create_role(role, "secret")
    small.query(
        f"""GRANT USAGE ON SCHEMA stream_ingest TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
                    GRANT SELECT ON stream_ingest.ladder_levels, stream_ingest.traded_volume,
                        stream_ingest.market_lifecycle_events TO {role}"""
    )
    with pytest.raises(psycopg2.Error, match="permission denied"):
        small.query(f"SET ROLE {role}; SELECT FROM stream_ingest.ladder_20260205")
    narrow = Pipeline(
        pipeline.output_dir.parent / "narrow",
        small.environment | {"POSTGRES_USER": role, "POSTGRES_PASSWORD": "secret"},
    )
    for arguments in (
        ("ExportAll",),
        ("ConsolidateDay", "--date", "2026-02-05"),
        ("ExportMarket", "--market-id", "1.101", "--refresh"),
        ("VerifyExport",),
    ):
        for where in (pipeline, narrow):
            result = where.run(*arguments)
            assert result.returncode == 0, result.stderr
    written = [
        {name: content for name, content in where.files().items() if "report" not in name}
        for where in (pipeline, narrow)
    ]
    assert written[0] == written[1] and len(written[0]) == 9
    result = narrow.run("ConsolidateDayDirect", "--date", "2026-02-05")
    assert (
        result.returncode == 0
        and narrow.files()["consolidated_ticks_2026_02_05.csv"] == written[0]["consolidated_ticks_2026_02_05.csv"]
    )


def test_selection_ids_of_64_bits(pipeline, small):
    for selection_id in (1, -3, (1 << 39) - 1, 1 << 39, -(1 << 39), (1 << 63) - 1, -(1 << 63)):
        for market_id in ("1.101", "1.105"):
            small.message(market_id, "2026-02-05 15:00:00+00", selection_id=selection_id)
    days = ("--date", "2026-02-05")
    for task in (("ExportAll",), ("ConsolidateDay", *days), ("VerifyExport",)):
        result = pipeline.run(*task)
        assert result.returncode == 0, result.stderr
    for market_id in ("1.101", "1.105"):
        assert rows_in_file(pipeline, market_id, "parquet") == rows_in_database(small, market_id)
    day = pipeline.files()["consolidated_ticks_2026_02_05.csv"]
    assert day.count(b",9223372036854775807,") == 7 * 2
    assert pipeline.run("ConsolidateDayDirect", *days).returncode == 0
    assert pipeline.files()["consolidated_ticks_2026_02_05.csv"] == day


@pytest.mark.parametrize("start", ["infinity", "-infinity", "0044-03-15 BC", "12000-01-01"])
def test_a_start_that_no_calendar_has_is_null(pipeline, small, start):
    small.query("UPDATE public.markets SET market_start_time = %s WHERE market_id = '1.101'", start)
    assert pipeline.run("ExportAll").returncode == 0
    assert (
        json.loads((pipeline.output_dir / "markets" / "marketId=1.101_metadata.json").read_text())["marketStartTime"]
        is None
    )
    assert "Nothing to do" in pipeline.run("ExportAll").stderr


def test_ids_in_markets_that_are_none_are_reported_on_demand(pipeline, small):
    small.market("zzz")
    assert pipeline.run("ExportAll").returncode == 0
    result = pipeline.run("ExportAll", "--include-markets-without-ticks")
    assert result.returncode == 30 and "'zzz'" in result.stderr and "1.104" in index_of(pipeline)


def test_a_market_without_event_is_no_reason_to_write_the_index_again(pipeline, small):
    small.query("ALTER TABLE public.markets ALTER event_id DROP NOT NULL")
    small.query("UPDATE public.markets SET event_id = NULL WHERE market_id = '1.101'")
    assert pipeline.run("ExportAll").returncode == 0
    assert "Nothing to do" in pipeline.run("ExportAll").stderr and index_of(pipeline)["1.101"]["event_id"] == ""


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_the_encoding_of_the_environment_does_not_matter(pipeline, small, encoding):
    small.query("UPDATE public.markets SET market_name = 'Málaga 🐎' WHERE market_id = '1.101'")
    result = pipeline.run("ExportAll", PGCLIENTENCODING=encoding)
    assert result.returncode == 0, result.stderr
    assert "Málaga 🐎" in (pipeline.output_dir / "markets" / "marketId=1.101_metadata.json").read_text(encoding="utf-8")


def test_a_database_without_ticks_gives_an_index_without_rows(source, tmp_path):
    pipeline = Pipeline(tmp_path / "out", source.environment)
    assert pipeline.run("ExportAll").returncode == 0
    assert index_of(pipeline) == {} and "Markets: 0" in (pipeline.output_dir / "execution_report.txt").read_text()
    assert "Nothing to do" in pipeline.run("ExportAll").stderr


def test_a_view_in_place_of_a_table_is_told(pipeline, small):
    small.query("ALTER TABLE stream_ingest.traded_volume RENAME TO elsewhere")
    small.query("CREATE VIEW stream_ingest.traded_volume AS SELECT * FROM stream_ingest.elsewhere")
    result = pipeline.run("ExportAll")
    assert result.returncode == 35 and "traded_volume is no table" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("ExportAll", "--workers", "abc"), "--workers has a value that it cannot take"),
        (
            ("ConsolidateDay", "--date", "2026-02-05", "--workers", "0"),
            "--workers is 0, expected a whole number above 0",
        ),
        (("VerifyExport", "--workers", "-1"), "--workers is -1"),
        (("ExportAll", "--nonsense"), "unrecognized arguments: --nonsense"),
        (("ExportMarket", "--market-id", "1.101", "--offline"), "cannot be --offline"),
        (("BuildIndex", "--offline"), "is no export"),
    ],
)
def test_wrong_options_are_one_line(pipeline, arguments, words):
    result = pipeline.run(*arguments)
    lines = [line for line in result.stderr.splitlines() if line]
    assert result.returncode == 2 and len(lines) == 1 and words in lines[0], result.stderr
    assert not pipeline.output_dir.exists()


@pytest.mark.parametrize(
    "text, words",
    [
        (
            "[tick_export]\nsettle_minutes = soon\n",
            "settle_minutes = soon in section [tick_export], expected a whole number, 0 or more",
        ),
        ("[core]\nworkers = x\n", "workers = x"),
        ("[retcode]\ntask_failed =\n", "task_failed = "),
        ("[core]\nlog_level = LOUD\n", "log_level = LOUD"),
        ("[tick_export]\noutput_url = http://a/%20b\n", "'%' must be followed"),
    ],
)
def test_wrong_values_in_the_configuration_are_one_line(pipeline, tmp_path, text, words):
    (tmp_path / "mine.cfg").write_text(text)
    for luigi in (False, True):
        result = pipeline.run("ExportAll", luigi=luigi, LUIGI_CONFIG_PATH=str(tmp_path / "mine.cfg"))
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_a_configuration_that_is_not_there_is_told(pipeline, tmp_path):
    result = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(tmp_path / "none.cfg"))
    assert result.returncode == 2 and "there is no such file" in result.stderr


def test_an_index_asked_for_by_itself_is_made_and_names_the_market_that_failed(pipeline, small):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.102'")
    result = pipeline.run("BuildIndex")
    assert result.returncode == 30 and "'1.102'" in result.stderr, result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.103"]


@pytest.mark.parametrize("task", ["BuildIndex", "BuildMetadata"])
def test_a_task_with_nothing_to_do_says_so_if_it_was_asked_for(pipeline, task):
    assert pipeline.run("ExportAll").returncode == 0
    result = pipeline.run(task)
    assert result.returncode == 0 and result.stderr.count("Nothing to do: ") == 1, result.stderr
    whole = pipeline.run("ConsolidateAll")
    assert whole.returncode == 0 and "Nothing to do" not in whole.stderr, whole.stderr
