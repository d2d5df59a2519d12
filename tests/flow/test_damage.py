"""Damaged, lost and edited files: kept aside and mended, or a failure in every run."""

import os
import shutil

import pytest

from tests.conftest import FORMATS, index_of


def cut(path):
    """Cut the file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_lines(path):
    """Cut the file after a whole line, if it has lines."""
    content = path.read_bytes()
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:-2]) if path.suffix == ".jsonl" else content[:-1])


def junk(path):
    """Overwrite the file with junk of the same size."""
    path.write_bytes(b"x" * path.stat().st_size)


def other_market(path):
    """Replace the file by another market's."""
    shutil.copyfile(str(path).replace("1.101", "1.102"), path)


def emptied(path):
    """Cut the file to nothing."""
    path.write_bytes(b"")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("damage", [cut, cut_lines, junk, other_market, emptied])
def test_a_damaged_file_is_kept_aside_and_mended(pipeline, format, damage):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    before = pipeline.files()
    path = pipeline.market("1.101", format)
    damage(path)
    damaged = path.read_bytes()
    result = pipeline.run("ExportAll", "--format", format)
    assert result.returncode == 0, result.stderr
    assert "1.101" in result.stderr and "damaged" in result.stderr
    after = pipeline.files()
    assert after.pop(f"markets/marketId=1.101.{format}.damaged") == damaged
    assert after == before
    damage(path)
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    assert pipeline.files()[f"markets/marketId=1.101.{format}.damaged.2"] == damaged


@pytest.mark.parametrize("damage", [cut, junk, os.unlink])
def test_ticks_that_no_one_can_give_back_end_with_30(pipeline, small, damage):
    assert pipeline.run("ExportAll").returncode == 0
    small.query(
        "DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.101' AND publish_time < '2026-02-05 11:00+00'"
    )
    damage(pipeline.market("1.101"))
    result = pipeline.run("ExportAll")
    assert result.returncode == 30 and "1.101" in result.stderr and "has had 42 ticks" in result.stderr, result.stderr
    assert int(index_of(pipeline)["1.101"]["total_tick_records"]) == 34
    for _ in range(2):
        result = pipeline.run("ExportAll")
        assert result.returncode == 30 and "has had 42 ticks" in result.stderr, "in every run until they are back"


def test_a_file_of_a_market_that_is_gone_from_the_database(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.query("DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.103'")
    pipeline.market("1.103").unlink()
    result = pipeline.run("ExportAll")
    assert result.returncode == 30 and "1.103" in result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.102"] and not pipeline.market("1.103").exists()


def test_a_deleted_file_and_a_lost_index_row_are_mended(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    before = pipeline.files()
    pipeline.market("1.102").unlink()
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == before
    index = pipeline.output_dir / "index.csv"
    for content in (
        b"".join(index.read_bytes().splitlines(keepends=True)[:-1]),
        b"",
        b"not,an,index\n",
        index.read_bytes() * 2,
        b"\xff\xfe",
    ):
        index.write_bytes(content)
        result = pipeline.run("ExportAll")
        assert result.returncode == 0, result.stderr
        assert pipeline.files() == before
    index.unlink()
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == before


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("to", ["/nonexistent", "itself"])
def test_a_link_that_leads_nowhere_hides_no_other_file(pipeline, format, to):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    before = pipeline.files()
    path = pipeline.market("1.102", format)
    path.unlink()
    path.symlink_to(path.name if to == "itself" else to)
    result = pipeline.run("ExportAll", "--format", format)
    assert result.returncode == 0 and "kept as" in result.stderr, result.stderr
    assert path.with_name(f"{path.name}.damaged").is_symlink()
    assert {name: content for name, content in pipeline.files().items() if not name.endswith(".damaged")} == before
    stranger = pipeline.market("1.999", format)
    stranger.symlink_to(to)
    result = pipeline.run("ExportAll", "--format", format)
    assert (
        result.returncode == 30 and "1.999" in result.stderr and list(index_of(pipeline)) == ["1.101", "1.102", "1.103"]
    ), result.stderr


def test_a_market_file_that_is_a_directory_is_kept_aside(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    before = pipeline.files()
    pipeline.market("1.101").unlink()
    pipeline.market("1.101").mkdir()
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == before and pipeline.market("1.101").with_name("marketId=1.101.parquet.damaged").is_dir()


def test_a_damaged_file_whose_ticks_nobody_has_never_becomes_an_empty_one(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.query("DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.103'")
    cut(pipeline.market("1.103"))
    (pipeline.output_dir / "index.csv").unlink()
    result = pipeline.run("ExportAll")
    assert result.returncode == 30 and "1.103" in result.stderr, result.stderr
    assert list(index_of(pipeline)) == ["1.101", "1.102"] and not pipeline.market("1.103").exists()


@pytest.mark.parametrize("task", ["ExportAll", "BuildIndex"])
def test_an_index_that_somebody_has_edited_is_made_anew(pipeline, task):
    assert pipeline.run("ExportAll").returncode == 0
    before, index = pipeline.files(), pipeline.output_dir / "index.csv"
    row = index.read_bytes().splitlines()[2]
    for edited in (
        row.replace(row[-64:], b"0" * 64),
        row.replace(b",34,", b",33,"),
        row.replace(b"1.102,30,", b"1.102,31,"),
    ):
        index.write_bytes(index.read_bytes().replace(row, edited))
        result = pipeline.run(task)
        assert result.returncode == 0 and pipeline.files() == before, result.stderr
    stamps = pipeline.stamps()
    assert pipeline.run(task).returncode == 0
    assert pipeline.stamps() == stamps


def test_a_deleted_report_is_made_again(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    (pipeline.output_dir / "execution_report.txt").unlink()
    assert pipeline.run("ExportAll").returncode == 0
    assert "Markets: 3" in (pipeline.output_dir / "execution_report.txt").read_text()


@pytest.mark.parametrize("line", ["{}", "[]", "3", '{"market_id": "1.101", "reason": "x", "more": 1}', "{"])
def test_records_of_another_version_are_left_out(pipeline, line):
    assert pipeline.run("ExportAll").returncode == 0
    for kind in ("written", "failed"):
        (pipeline.output_dir / ".journal" / f"{kind}.there.1.jsonl").write_text(line + "\n")
    result = pipeline.run("ExportAll")
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
