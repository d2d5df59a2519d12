"""An export with other time stamps, inodes or places: nothing is exported again, or counts as settled too soon.

Copied without times, restored from a tar archive, on a file system that keeps whole seconds, moved.
"""

import datetime
import os
import shutil
import tarfile

import pytest

from tests.conftest import Pipeline, ago, fresh


def whole_seconds(source, target):
    """Copy with the times of a file system that keeps whole seconds."""
    shutil.copytree(source, target)
    for path in [*target.rglob("*"), target]:
        seconds = int(path.stat().st_mtime)
        os.utime(path, (seconds, seconds))


def even_seconds(source, target):
    """Copy with the times of FAT."""
    shutil.copytree(source, target)
    for path in [*target.rglob("*"), target]:
        seconds = int(path.stat().st_mtime) // 2 * 2
        os.utime(path, (seconds, seconds))


def without_times(source, target):
    """Copy as `cp -r` does."""
    shutil.copytree(source, target, copy_function=shutil.copy)
    for path in target.rglob("*"):
        os.utime(path)


def by_tar(source, target):
    """Pack and unpack, whole seconds."""
    with tarfile.open(target.with_suffix(".tar"), "w", format=tarfile.GNU_FORMAT) as packed:
        packed.add(source, target.name)
    with tarfile.open(target.with_suffix(".tar")) as packed:
        packed.extractall(target.parent, filter="tar")


def moved(source, target):
    """Copy with all times, and another inode and path."""
    shutil.copytree(source, target)


def new_inodes(source, target):
    """Give each file another inode, in place."""
    shutil.copytree(source, target)
    for path in [path for path in target.rglob("*") if path.is_file()]:
        copy = path.with_name("copy")
        shutil.copy2(path, copy)
        os.replace(copy, path)


WAYS = [without_times, by_tar, whole_seconds, even_seconds, moved, new_inodes]
DAY = ("--date", "2026-02-05")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_exported_again(request, pipeline, tmp_path, way):
    if way not in WAYS[:3] and not request.config.getoption("--walk"):
        pytest.skip("part of the walk")
    for task in (("ExportAll",), ("ConsolidateDay", *DAY)):
        assert pipeline.run(*task).returncode == 0
    before = pipeline.files()
    other = Pipeline(tmp_path / "other", pipeline.environment)
    way(pipeline.output_dir, other.output_dir)
    stamps = other.stamps()
    for task in (("ExportAll",), ("ConsolidateDay", *DAY), ("VerifyExport",), ("ExportAll",)):
        done = other.run(*task)
        assert done.returncode == 0 and "damaged" not in done.stderr, done.stderr
    assert "Nothing to do" in done.stderr or "current" in done.stderr, done.stderr
    other.output_dir.joinpath("verification_report.txt").unlink()
    assert other.files() == before
    again = {name for name, stamp in other.stamps().items() if stamps.get(name) != stamp}
    assert not {name for name in again if name.startswith(("markets/", "consolidated_"))}, again


@pytest.mark.parametrize("between", [(), ("BuildIndex", "--offline")])
def test_a_copy_without_times_is_not_taken_for_settled(pipeline, small, tmp_path, between):
    """A market is recorded, exported, copied; a late row of its newest message comes. The copy's times say nothing."""
    newest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)
    for day in (ago(1), ago(0)):
        small.partition(day)
    small.message("1.103", newest.isoformat())
    assert pipeline.run("ExportAll").returncode == 0
    written = newest.timestamp() + 600  # ten minutes after its newest tick
    os.utime(pipeline.market("1.103"), (written, written))
    (pipeline.output_dir / "index.csv").unlink()
    assert pipeline.run("BuildIndex", "--offline").returncode == 0  # as if it had been exported then
    copy = Pipeline(tmp_path / "copy", pipeline.environment)
    without_times(pipeline.output_dir, copy.output_dir)
    small.query("UPDATE stream_ingest.traded_volume SET size_traded = 1234 WHERE market_id = '1.103'")
    if between:
        assert copy.run(*between).returncode == 0
    assert copy.run("ExportAll").returncode == 0
    assert copy.files() == fresh(copy)
    assert "Nothing to do" in copy.run("ExportAll").stderr
