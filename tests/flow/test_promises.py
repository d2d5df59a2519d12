"""What an export once had: VerifyExport and Archive say so too where it has less, also without a database."""

import hashlib

import pytest

DROP = "DELETE FROM stream_ingest.ladder_levels WHERE publish_time < '2026-02-05 11:00+00'"


@pytest.fixture
def lost(pipeline, small):
    """An export that has lost ticks for good: the file was deleted and the partition is gone."""
    assert pipeline.run("ExportAll").returncode == 0
    small.query(DROP)
    pipeline.market("1.101").unlink()
    assert pipeline.run("ExportAll").returncode == 30
    return pipeline


def test_verification_and_archive_stay_red_until_the_loss_is_accepted(lost):
    archive = ("Archive", "--date", "2026-02-07")
    for task in (("VerifyExport",), ("VerifyExport", "--offline"), archive, (*archive, "--offline")):
        result = lost.run(*task)
        assert result.returncode == 30 and "1.101" in result.stderr and "42" in result.stderr, (task, result.stderr)
        assert "--accept-loss" in result.stderr and "Traceback" not in result.stderr
    assert lost.run("ExportMarket", "--market-id", "1.101", "--accept-loss").returncode == 0
    assert lost.run("ExportAll").returncode == 0
    for task in (("VerifyExport",), ("VerifyExport", "--offline"), archive, (*archive, "--offline")):
        assert lost.run(*task).returncode == 0, task
    assert "accepted_losses.csv: market 1.101: " in (lost.output_dir / "verification_report.txt").read_text()


def test_a_checksum_that_was_edited_into_the_index_is_found(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    path, index = pipeline.market("1.101"), pipeline.output_dir / "index.csv"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"2")
    index.write_text(
        index.read_text().replace(hashlib.sha256(before).hexdigest(), hashlib.sha256(path.read_bytes()).hexdigest())
    )
    result = pipeline.run("VerifyExport", "--offline")
    assert result.returncode == 30 and "one of a file that the pipeline wrote (ledger)" in result.stderr


def test_a_damaged_ledger_is_said_and_made_anew(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    before, ledger = pipeline.files(), pipeline.output_dir / ".ledger"
    ledger.write_bytes(ledger.read_bytes()[:-1])
    result = pipeline.run("VerifyExport", "--offline")
    assert result.returncode == 30 and ".ledger: content" in result.stderr
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.run("VerifyExport", "--offline").returncode == 0
    before["verification_report.txt"] = pipeline.files()["verification_report.txt"]
    assert pipeline.files() == before
