"""Rows, ids, roles and encodings out of the ordinary: exported exactly, or reported, and no other market stopped."""

import json
import re

import psycopg2
import pytest

from tests.conftest import Pipeline, index_of, new_source
from tests.flow.exported_rows import rows_in_database, rows_in_file


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
        assert re.search(f"'{market_id}'.* a side other than B and L", report)
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


def test_a_view_in_place_of_a_table_is_told(pipeline, small):
    small.query("ALTER TABLE stream_ingest.traded_volume RENAME TO elsewhere")
    small.query("CREATE VIEW stream_ingest.traded_volume AS SELECT * FROM stream_ingest.elsewhere")
    result = pipeline.run("ExportAll")
    assert (
        result.returncode == 35 and "traded_volume is not a table" in result.stderr and "Traceback" not in result.stderr
    )
