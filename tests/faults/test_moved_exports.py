"""An export with other time stamps, inodes or places: nothing is exported again.

Copied without times, restored from a tar archive, on a file system that keeps whole seconds, moved.
"""

import os
import shutil
import tarfile

import pytest

from tests.conftest import Pipeline


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
