"""Markets that have traded rows and no ladder rows: an older installation's, whose ladder partitions were dropped."""

import pytest

from tests.conftest import FORMATS, Pipeline, index_of


@pytest.fixture
def traded(small):
    """The small source with a market of five trades and nothing else."""
    small.market("1.105")
    small.message("1.105", "2026-02-05 10:00+00", prices=(), traded=(2.0, 2.5, 3.0))
    small.message("1.105", "2026-02-05 11:00+00", prices=(), traded=(2.0, 2.5))
    return small


def report_of(pipeline):
    return (pipeline.output_dir / "execution_report.txt").read_text()


def test_they_are_counted_and_named_and_never_given_an_empty_file(pipeline, traded):
    for arguments in ((), (), ("--include-markets-without-ticks",)):
        result = pipeline.run("ExportAll", *arguments)
        assert result.returncode == 0 and "1 market with traded rows and no ladder rows" in result.stderr
        assert "'1.105'" in result.stderr
        assert "1.105" not in index_of(pipeline) and not pipeline.market("1.105").exists()
        assert "Markets with traded rows only, not exported: 1\n" in report_of(pipeline)
    assert "1.104" in index_of(pipeline)
    assert pipeline.run("VerifyExport").returncode == 0
    verified = (pipeline.output_dir / "verification_report.txt").read_text()
    assert "Note: 1 market with traded rows and no ladder rows" in verified and "'1.105'" in verified


@pytest.mark.parametrize("format", FORMATS)
def test_their_trades_are_exported_on_demand_and_refreshed_from_then_on(pipeline, traded, format):
    wanted = ("--format", format, "--include-markets-without-ladder")
    result = pipeline.run("ExportAll", *wanted)
    assert result.returncode == 0 and "no ladder rows" not in result.stderr, result.stderr
    assert index_of(pipeline)["1.105"]["total_tick_records"] == "5"
    assert (pipeline.output_dir / "markets" / "marketId=1.105_metadata.json").exists()
    assert "Nothing to do" in pipeline.run("ExportAll", *wanted).stderr
    assert pipeline.run("VerifyExport").returncode == 0
    traded.message("1.105", "2026-02-05 12:00+00", prices=(), traded=(2.0,))
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    assert index_of(pipeline)["1.105"]["total_tick_records"] == "6"
    assert "not exported: 0" in report_of(pipeline)


def test_one_of_them_is_exported_by_itself(pipeline, traded):
    result = pipeline.run("ExportMarket", "--market-id", "1.105")
    assert result.returncode == 20 and "--include-markets-without-ladder" in result.stderr
    assert pipeline.run("ExportMarket", "--market-id", "1.105", "--include-markets-without-ladder").returncode == 0
    assert pipeline.market("1.105").exists()


def test_an_id_that_is_none_fails_only_where_its_trades_are_wanted(pipeline, traded):
    traded.message("no id", "2026-02-05 10:00+00", prices=(), traded=(2.0,))
    result = pipeline.run("ExportAll")
    assert result.returncode == 0 and "'no id'" in result.stderr
    result = pipeline.run("ExportAll", "--include-markets-without-ladder")
    assert result.returncode == 30 and "'no id'" in result.stderr
    assert index_of(pipeline)["1.105"]["total_tick_records"] == "5"


def test_an_empty_file_that_an_earlier_version_gave_them_is_filled(pipeline, traded):
    traded.query("CREATE TABLE later AS SELECT * FROM stream_ingest.traded_volume WHERE market_id = '1.105'")
    traded.query("DELETE FROM stream_ingest.traded_volume WHERE market_id = '1.105'")
    assert pipeline.run("ExportAll", "--include-markets-without-ticks").returncode == 0
    assert index_of(pipeline)["1.105"]["total_tick_records"] == "0"
    traded.query("INSERT INTO stream_ingest.traded_volume SELECT * FROM later")
    assert "'1.105'" in pipeline.run("ExportAll").stderr
    assert pipeline.run("ExportAll", "--include-markets-without-ladder").returncode == 0
    assert index_of(pipeline)["1.105"]["total_tick_records"] == "5"


@pytest.mark.parametrize("wanted", [(), ("--include-markets-without-ladder",)])
def test_a_day_has_them_with_and_without_an_export_alike(pipeline, traded, tmp_path, wanted):
    traded.message("no id", "2026-02-05 10:00+00", prices=(), traded=(2.0,))
    assert pipeline.run("ExportAll", *wanted).returncode == (30 if wanted else 0)
    direct = Pipeline(tmp_path / "direct", traded.environment)
    assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0
    result = direct.run("ConsolidateDayDirect", "--date", "2026-02-05", *wanted)
    assert result.returncode == (30 if wanted else 0) and ("'no id'" in result.stderr) == bool(wanted), result.stderr
    csv = [(each.output_dir / "consolidated_ticks_2026_02_05.csv").read_bytes() for each in (pipeline, direct)]
    assert csv[0] == csv[1] and csv[1].count(b",1.105,") == (5 if wanted else 0)
