"""Tables without their primary keys: rows that are there twice are exported as they are, and verified as they are."""

import re

import pytest

from tests.conftest import FORMATS, Pipeline, index_of


@pytest.mark.parametrize("format", FORMATS)
def test_rows_that_are_there_twice(pipeline, small, format):
    for table in ("ladder_levels", "traded_volume"):
        small.query(
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT conname FROM pg_constraint WHERE contype = 'p' AND"
            f" conrelid = 'stream_ingest.{table}'::regclass LOOP EXECUTE 'ALTER TABLE stream_ingest.{table} DROP"
            " CONSTRAINT ' || name; END LOOP; END $$"
        )
        small.query(
            f"INSERT INTO stream_ingest.{table} SELECT * FROM stream_ingest.{table} WHERE market_id = '1.101' AND"
            " selection_id = 1"
        )
    options = ("--format", format)
    assert pipeline.run("ExportAll", *options).returncode == 0
    assert index_of(pipeline)["1.101"]["total_tick_records"] == "63"
    for offline in ((), ("--offline",)):
        result = pipeline.run("VerifyExport", *offline)
        assert result.returncode == 0, result.stderr
        report = (pipeline.output_dir / "verification_report.txt").read_text()
        assert [line for line in report.splitlines() if line.startswith("Note: ") and "1.101" in line], report
    before = pipeline.files()
    assert pipeline.run("ExportMarket", "--market-id", "1.101", "--refresh", *options).returncode == 0
    assert pipeline.market("1.101", format).read_bytes() == before[f"markets/marketId=1.101.{format}"]
    assert pipeline.run("ExportAll", "--recheck-days", "366", *options).returncode == 0


def test_received_time_in_the_key_of_traded_volume(pipeline, small, tmp_path):
    """The recorder's first schema: a traded row that is received again is a row more, of the same key."""
    name = small.query(
        "SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = 'stream_ingest.traded_volume'::regclass"
    )[0][0]
    small.query(
        f"ALTER TABLE stream_ingest.traded_volume DROP CONSTRAINT {name}, ADD PRIMARY KEY"
        " (market_id, selection_id, price, publish_time, received_time)"
    )
    receive_again = (
        "INSERT INTO stream_ingest.traded_volume SELECT market_id, selection_id, price, size_traded + %s, publish_time,"
        " received_time + %s * interval '1 second' FROM stream_ingest.traded_volume WHERE market_id IN ('1.101',"
        " '1.102') AND received_time = publish_time + interval '13 milliseconds'"
    )
    small.query(receive_again, 1, 1)
    small.query(receive_again, -1, -1)
    assert pipeline.run("ExportAll").returncode == 0
    rows = {market_id: int(row["total_tick_records"]) for market_id, row in index_of(pipeline).items()}
    assert rows == {"1.101": 24 + 3 * 18, "1.102": 12 + 3 * 9, "1.103": 4}
    assert verified(pipeline) == {"1.101": 36, "1.102": 18}
    for count, advice in enumerate(("--refresh", "--recheck"), 2):  # received once more after the export
        small.query(receive_again, count, count)
        failed = pipeline.run("VerifyExport")
        assert failed.returncode == 30 and "Run ExportMarket --refresh for this market" in failed.stderr, failed.stderr
        if advice == "--refresh":
            for market_id in ("1.101", "1.102"):
                assert pipeline.run("ExportMarket", "--market-id", market_id, "--refresh").returncode == 0
            assert pipeline.run("BuildIndex").returncode == 0
        else:
            for day in ("2026-02-05", "2026-02-06"):
                assert pipeline.run("ConsolidateDay", "--date", day, "--recheck").returncode == 0
        assert verified(pipeline) == {"1.101": 18 * (count + 1), "1.102": 9 * (count + 1)}
    direct = Pipeline(tmp_path / "direct", small.environment)
    for day in ("2026-02-05", "2026-02-06"):
        assert pipeline.run("ConsolidateDay", "--date", day).returncode == 0
        assert direct.run("ConsolidateDayDirect", "--date", day).returncode == 0
        csv = f"consolidated_ticks_{day.replace('-', '_')}.csv"
        lines = (pipeline.output_dir / csv).read_bytes()
        assert lines == (direct.output_dir / csv).read_bytes()
        first = [line for line in lines.decode().splitlines() if ",traded," in line]
        assert len(first) == (18 if day == "2026-02-05" else 9)
        assert all(line.split(",")[0] < line.split(",")[1] for line in first), "the row received first stays"
    assert verified(pipeline) == {"1.101": 72, "1.102": 36}


def verified(pipeline):
    """Verify an export; return how many rows the notes say have the key of another, by market."""
    result = pipeline.run("VerifyExport")
    assert result.returncode == 0, result.stderr
    report = (pipeline.output_dir / "verification_report.txt").read_text()
    notes = re.findall(r"^Note: market (\S+): (\d+) rows have the key of another row", report, re.MULTILINE)
    return {market_id: int(count) for market_id, count in notes}
