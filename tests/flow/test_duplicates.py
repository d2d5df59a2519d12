"""Tables without their primary keys: rows that are there twice are exported as they are, and verified as they are."""

import pytest

from tests.conftest import FORMATS, index_of


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
