"""What counts as damage, who vouches for a file, and what stays red until somebody mends it."""

import hashlib
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import BY_HAND, FORMATS

DROP = "DELETE FROM stream_ingest.ladder_levels WHERE publish_time < '2026-02-05 11:00+00'"


def change_a_digit(path):
    """Change one digit of a size, as somebody would who leaves no other trace: page checksums are right."""
    if path.suffix == ".jsonl":
        content = bytearray(path.read_bytes())
        place = content.index(b'"size":', len(content) // 2) + len(b'"size":')
        content[place] = ord("7") if content[place] != ord("7") else ord("8")
        path.write_bytes(content)
    else:
        table = pq.read_table(path, use_threads=False)
        place = table.column_names.index("size")
        sizes = table["size"].to_pylist()
        sizes[len(sizes) // 2] += 1.0
        forged = table.set_column(place, table.schema.field(place), pa.array(sizes))
        pq.write_table(forged, path, compression="zstd", write_page_checksum=True)


@pytest.mark.parametrize("format", BY_HAND)
def test_a_changed_digit_is_mended_from_the_database(pipeline, format):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    before = pipeline.files()
    change_a_digit(pipeline.market("1.101", format))
    result = pipeline.run("ExportAll", "--format", format)
    assert result.returncode == 0 and "kept as" in result.stderr
    after = pipeline.files()
    assert after.pop(f"markets/marketId=1.101.{format}.damaged") != before[f"markets/marketId=1.101.{format}"]
    assert after == before


@pytest.mark.parametrize("index", ["as it was", "gone", "edited"])
@pytest.mark.parametrize("format", BY_HAND)
def test_a_changed_digit_that_nobody_can_mend_stays_red_until_the_file_is_back(pipeline, small, format, index):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    small.query(DROP)
    before, path, index_csv = pipeline.files(), pipeline.market("1.101", format), pipeline.output_dir / "index.csv"
    change_a_digit(path)
    if index == "gone":
        index_csv.unlink()
    elif index == "edited":
        index_csv.write_bytes(index_csv.read_bytes().replace(b",30,", b",31,"))
    for task in ("ExportAll", "ExportAll", "BuildIndex"):
        result = pipeline.run(task, "--format", format)
        assert result.returncode == 30 and "1.101" in result.stderr, result.stderr
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        assert checksum not in index_csv.read_text(), "nobody vouches for it"
    for aside in path.parent.glob("*.damaged*"):
        aside.unlink()
    path.write_bytes(before[f"markets/{path.name}"])
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    assert pipeline.files() == before


def test_ticks_that_are_put_back_end_it(pipeline, small, tmp_path):
    assert pipeline.run("ExportAll").returncode == 0
    path, kept = pipeline.market("1.101"), tmp_path / "backup"
    shutil.copy(path, kept)
    small.query(DROP)
    path.unlink()
    assert pipeline.run("ExportAll").returncode == pipeline.run("ExportAll").returncode == 30
    shutil.copy(kept, path)
    assert pipeline.run("ExportAll").returncode == 0
    assert path.read_bytes() == kept.read_bytes()


@pytest.mark.parametrize("state", ["gone", "cut", "changed"])
def test_the_operator_accepts_a_loss(pipeline, small, state):
    assert pipeline.run("ExportAll").returncode == 0
    small.query(DROP)
    path = pipeline.market("1.101")
    if state == "gone":
        path.unlink()
    elif state == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        change_a_digit(path)
    assert pipeline.run("ExportAll").returncode == 30
    result = pipeline.run("ExportMarket", "--market-id", "1.101", "--accept-loss")
    assert result.returncode == 0 and "accepted" in result.stderr, result.stderr
    assert pipeline.run("ExportAll").returncode == 0
    record = (pipeline.output_dir / "accepted_losses.csv").read_text().splitlines()[1]
    assert record.split(",")[1:3] == ["1.101", "42"]
    assert "Losses accepted" in (pipeline.output_dir / "execution_report.txt").read_text()
    assert pipeline.run("VerifyExport", "--offline").returncode == 0


def test_an_older_version_out_of_a_backup_is_ours_and_grows_again(pipeline, small, tmp_path):
    assert pipeline.run("ExportAll").returncode == 0
    path, kept = pipeline.market("1.101"), tmp_path / "backup"
    shutil.copy(path, kept)
    small.message("1.101", "2026-02-05 21:30+00")
    assert pipeline.run("ExportAll").returncode == 0
    newest = path.read_bytes()
    small.query(DROP)
    shutil.copy(kept, path)
    result = pipeline.run("ExportAll")
    assert result.returncode == 0 and path.read_bytes() == newest, result.stderr


@pytest.mark.parametrize("format", FORMATS)
def test_an_index_and_a_ledger_that_are_gone_are_rebuilt_from_files_that_the_database_confirms(pipeline, format):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    before = pipeline.files()
    for name in ("index.csv", ".ledger"):
        (pipeline.output_dir / name).unlink()
    shutil.rmtree(pipeline.output_dir / ".journal")
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    assert pipeline.files() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may read; tests/faults injects the error")
def test_a_file_that_may_not_be_read_is_left_alone(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    path = pipeline.market("1.101")
    path.chmod(0)
    for _ in range(2):
        result = pipeline.run("ExportAll")
        assert result.returncode == 30 and "Permission denied" in result.stderr
    path.chmod(0o644)
    assert pipeline.run("ExportAll").returncode == 0


def test_a_pipe_with_a_market_files_name_hangs_nothing(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    before, path = pipeline.files(), pipeline.market("1.101")
    path.unlink()
    os.mkfifo(path)
    assert pipeline.run("ExportAll").returncode == 0
    path.with_name(f"{path.name}.damaged").unlink()
    assert pipeline.files() == before


def test_rows_that_share_a_key_are_kept_and_no_damage(pipeline, small):
    """In a table without its primary key. The seed's uniqueness is restored where ticks are consolidated."""
    small.query("ALTER TABLE stream_ingest.traded_volume DROP CONSTRAINT traded_volume_pkey")
    small.query(
        "INSERT INTO stream_ingest.traded_volume SELECT * FROM stream_ingest.traded_volume WHERE market_id = '1.101'"
    )
    assert pipeline.run("ExportAll").returncode == 0
    assert pq.read_metadata(pipeline.market("1.101")).num_rows == 42 + 18
    assert pipeline.run("VerifyExport").returncode == 0
    assert "18 rows have the key of another row" in (pipeline.output_dir / "verification_report.txt").read_text()
    assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0
    report = (pipeline.output_dir / "consolidation_report_2026_02_05.txt").read_text()
    assert "Duplicates removed: 18" in report
