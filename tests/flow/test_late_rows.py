"""Rows that come late, older than the newest tick of a market that is complete."""

import pytest

from tests.conftest import Pipeline, ago, fresh, index_of


def two_days_ago() -> str:
    """Return a moment of the day before yesterday, before that day's tick of the market."""
    return f"{ago(2)} 09:00+00"


@pytest.fixture
def recorded(small):
    """The small source with a market of the last days."""
    for day in (ago(1), ago(2), ago(3), ago(9)):
        small.partition(f"{day}")
        small.message("1.101", f"{day} 12:00+00")
    return small


@pytest.mark.parametrize(
    ("format", "late"), [("parquet", {"traded": ()}), ("parquet", {"selection_id": 9}), ("jsonl", {"prices": ()})]
)
def test_they_are_found_by_counting(pipeline, recorded, format, late):
    options = ("--format", format)
    assert pipeline.run("ExportAll", *options).returncode == 0
    before = index_of(pipeline)
    recorded.message("1.101", two_days_ago(), **late)
    assert "Nothing to do" in pipeline.run("ExportAll", *options).stderr, "what the README says of the default"
    assert "Nothing to do" in pipeline.run("ExportAll", "--recheck-days", "2", *options).stderr, "today and yesterday"
    result = pipeline.run("ExportAll", "--recheck-days", "3", *options)
    assert result.returncode == 0 and "Late rows: reading 1 of 1 market again" in result.stderr, result.stderr
    changed = {market_id for market_id, row in index_of(pipeline).items() if row != before[market_id]}
    assert changed == {"1.101"}
    assert pipeline.files() == fresh(pipeline, "fresh", *options)
    assert "Nothing to do" in pipeline.run("ExportAll", "--recheck-days", "30", *options).stderr
    assert pipeline.run("VerifyExport").returncode == 0


def test_trades_that_came_late_do_not_hide_behind_a_dropped_ladder(pipeline, recorded):
    assert pipeline.run("ExportAll").returncode == 0
    ticks = int(index_of(pipeline)["1.101"]["total_tick_records"])
    recorded.query("DELETE FROM stream_ingest.ladder_levels WHERE publish_time::date = %s", ago(2))
    assert "Nothing to do" in pipeline.run("ExportAll", "--recheck-days", "5").stderr
    recorded.message("1.101", two_days_ago(), prices=())
    assert pipeline.run("ExportAll", "--recheck-days", "5").returncode == 0
    assert int(index_of(pipeline)["1.101"]["total_tick_records"]) == ticks + 3


@pytest.mark.parametrize("days", ["-1", "367", "many"])
def test_a_wrong_number_of_days(pipeline, days):
    result = pipeline.run("ExportAll", "--recheck-days", days)
    assert result.returncode == 2 and "--recheck-days is" in result.stderr and "Traceback" not in result.stderr


def test_nightly_consolidates_a_day_anew(pipeline, recorded, tmp_path):
    def rows_of(day):
        return (pipeline.output_dir / f"consolidated_ticks_{day.replace('-', '_')}.csv").read_text().count("\n") - 1

    assert pipeline.run("nightly", "--catch-up", "3").returncode == 0
    assert [rows_of(ago(number)) for number in (1, 2, 3)] == [7, 7, 7]
    recorded.message("1.101", f"{ago(3)} 09:00+00")
    recorded.message("1.101", two_days_ago())
    none = tmp_path / "none.cfg"
    none.write_text("[tick_export]\nrecheck_days = 0\n")
    assert pipeline.run("nightly", LUIGI_CONFIG_PATH=str(none)).returncode == 0
    assert [rows_of(ago(number)) for number in (1, 2, 3)] == [7, 7, 7]
    assert pipeline.run("nightly").returncode == 0
    assert [rows_of(ago(number)) for number in (1, 2, 3)] == [7, 14, 14]
    stamps = pipeline.stamps()
    assert pipeline.run("nightly").returncode == 0
    assert pipeline.stamps() == stamps
    direct = Pipeline(tmp_path / "direct", pipeline.environment)
    assert direct.run("ConsolidateDayDirect", "--date", ago(3)).returncode == 0
    name = f"consolidated_ticks_{ago(3).replace('-', '_')}.csv"
    assert direct.files()[name] == pipeline.files()[name]
