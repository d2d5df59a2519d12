"""Days with trouble: mistakes, partial days, dropped days, damaged and missing files."""

import datetime
import shutil

import pytest

from tasks.day_csv import export_source
from tasks.errors import DamagedFile
from tasks.market_files.time_span import Span
from tasks.storage.layout import Layout
from tests.flow.consolidations import DAY, NEXT, beside, consolidated, report_of


def test_mistakes_get_one_line_and_publish_nothing(pipeline):
    today = datetime.datetime.now(datetime.UTC).date()
    for arguments, code, words in (
        (("ConsolidateDay",), 2, "ConsolidateDay needs --date"),
        (("ConsolidateDay", "--date", "2026-02-30"), 2, "--date is '2026-02-30', expected an existing day"),
        (("ConsolidateDay", "--date", str(today)), 2, "not over yet"),
        (("ConsolidateDayDirect", "--date", str(today + datetime.timedelta(days=1))), 2, "not over yet"),
        (("ConsolidateDay", "--date", DAY, "--chunk-rows", "0"), 2, "--chunk-rows is '0'"),
        (("ConsolidateDay", "--date", "2026-02-07"), 20, "no ticks on 2026-02-07 (UTC)"),
        (("ConsolidateDayDirect", "--date", "2026-02-07"), 20, "no ticks on 2026-02-07 (UTC)"),
        (("ConsolidateDay", "--date", DAY, "--offline"), 2, "is not an export"),
        (("ConsolidateDayDirect", "--date", DAY, "--offline"), 2, "reads the database"),
    ):
        result = pipeline.run(*arguments)
        lines = [line for line in result.stderr.splitlines() if words in line]
        assert result.returncode == code and len(lines) == 1 and "Traceback" not in result.stderr, (
            arguments,
            result.stderr,
        )
        assert not [path for path in pipeline.output_dir.glob("*") if not path.name.startswith(".")]


def test_a_day_that_is_not_over_is_marked_and_done_again(pipeline, small):
    now = datetime.datetime.now(datetime.UTC)
    small.partition(str(now.date()))
    small.message("1.101", str(now.replace(microsecond=0)))
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        for _ in range(2):
            result = pipeline.run(task, "--date", str(now.date()), "--allow-partial")
            assert result.returncode == 0 and "rows written" in result.stderr, result.stderr
            assert report_of(pipeline, str(now.date()))[0].startswith("PARTIAL DAY")


def test_a_day_that_the_platform_has_dropped_is_still_in_the_export(pipeline, small):
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    content = consolidated(pipeline)
    for path in pipeline.output_dir.glob("consolidat*"):
        path.unlink()
    small.query("DROP TABLE stream_ingest.ladder_20260205")
    small.query("DELETE FROM stream_ingest.traded_volume WHERE publish_time < '2026-02-06 00:00+00'")
    direct = beside(pipeline, "direct").run("ConsolidateDayDirect", "--date", DAY)
    assert direct.returncode == 20 and "try ConsolidateDay" in direct.stderr
    assert pipeline.run("ConsolidateDay", "--date", DAY, "--allow-other-database").returncode == 0
    assert consolidated(pipeline) == content


def test_a_bad_market_stops_no_other(pipeline, small):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.103'")
    small.message("no market", f"{DAY} 10:00+00")
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        where = beside(pipeline, task)
        result = where.run(task, "--date", DAY)
        assert result.returncode == 30 and "Traceback" not in result.stderr, result.stderr
        assert len(consolidated(where).splitlines()) == 1 + 42
        warnings = [line for line in report_of(where) if line.startswith("WARNING")]
        assert len(warnings) == 2 and "'1.103'" in warnings[0] and "'no market'" in warnings[1]
    assert consolidated(beside(pipeline, "ConsolidateDay")) == consolidated(where)


def test_a_market_file_that_the_index_does_not_know_yet_is_in_its_day(pipeline, small):
    small.query(
        "DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.101'; DELETE FROM stream_ingest.traded_volume "
        "WHERE market_id = '1.101'"
    )
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    small.message("1.101", f"{DAY} 10:00+00")
    assert pipeline.run("ExportMarket", "--market-id", "1.101").returncode == 0
    small.query(
        "DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.101'; DELETE FROM stream_ingest.traded_volume "
        "WHERE market_id = '1.101'"
    )
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    assert consolidated(pipeline).count(b",1.101,") == 7
    (pipeline.output_dir / "index.csv").unlink()
    for path in pipeline.output_dir.glob("consolidat*"):
        path.unlink()
    small.query("DROP TABLE stream_ingest.ladder_20260205")
    result = pipeline.run("ConsolidateDay", "--date", DAY)
    assert result.returncode == 0 and consolidated(pipeline).count(b",1.101,") == 7, result.stderr


def test_a_day_that_is_in_files_alone_gets_its_metadata(pipeline, small):
    assert pipeline.run("ExportAll", "--export-metadata", "false").returncode == 0
    small.query("DROP TABLE stream_ingest.ladder_20260205")
    small.query("DELETE FROM stream_ingest.traded_volume WHERE publish_time < '2026-02-06 00:00+00'")
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    assert b",MATCH_ODDS_FT,One\n" in consolidated(pipeline)


def test_a_damaged_file_that_spans_the_day_is_one_line_offline(pipeline, small):
    small.partition("2026-02-07")
    small.message("1.101", "2026-02-07 10:00+00")
    assert pipeline.run("ExportAll").returncode == 0
    path = pipeline.market("1.101")
    path.write_bytes(path.read_bytes()[:-9])
    result = pipeline.run("ConsolidateDay", "--date", NEXT, "--offline")
    assert result.returncode == 30 and "Traceback" not in result.stderr and "1.101" in result.stderr, result.stderr


def test_a_market_file_that_is_gone_for_good_is_told_with_what_to_do(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    pipeline.market("1.103").unlink()
    small.query("DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.103'")
    result = pipeline.run("ConsolidateDay", "--date", DAY)
    assert result.returncode == 30 and "missing, but in index.csv" in result.stderr, result.stderr


def test_a_day_does_not_have_an_edited_index_vouch_for_a_damaged_file(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    sound = pipeline.market("1.102").read_bytes()
    pipeline.market("1.102").write_bytes(sound[:100] + bytes([sound[100] ^ 0x80]) + sound[101:])
    index = pipeline.output_dir / "index.csv"
    index.write_bytes(index.read_bytes().replace(b"1.103,30,", b"1.103,31,"))
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.market("1.102").read_bytes() == sound


def test_a_market_file_that_is_replaced_while_its_day_is_made_fails_the_day(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    layout, span = Layout(pipeline.output_dir, "parquet"), Span.of_day(datetime.date.fromisoformat(DAY))
    rows = export_source.with_ticks(layout, export_source.indexed(layout), span)
    source = export_source.ExportSource(layout, rows, span)
    assert sum(len(ticks) for ticks in source.together(range(len(rows))))
    source.reconcile()
    path = pipeline.market("1.101")
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    with pytest.raises(DamagedFile, match="another run has changed it in the meantime"):
        source.reconcile()
