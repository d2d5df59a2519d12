"""The power is cut, and what was not flushed is gone: nothing half written stands under a final name, the next run
completes, and what a finished run has written is there.
"""

import contextlib
import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Pipeline
from tests.faults.random_strikes import assert_sums, found

TASKS = {
    "ExportAll": (),
    "ConsolidateDay": ("--date", "2026-02-05"),
    "ConsolidateAll": ("--partition-by-month", "--partition-threshold-gb", "1e-9"),
    "BuildStreams": (),
    "Archive": (),
}
#: Cuts per task that are tried by default.
_CUTS = 2


class Disk:
    """A file system that loses writes, mounted again after each power cut with what has survived."""

    def __init__(self, folder: Path) -> None:
        self.mountpoint, self._state = folder / "disk", folder / "state"
        self.mountpoint.mkdir()
        self._log = folder / "changes"

    @contextlib.contextmanager
    def mounted(self, cut_at=-1, some=None, ignored=""):
        """Mount it; at the end of the block the power is cut, unless that has happened already."""
        options = ["--state", str(self._state), "--cut-at", str(cut_at)]
        options += ["--some", str(some)] if some is not None else []
        options += ["--ignored", ignored] if ignored else []
        with open(self._log, "w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.lost_writes", str(self.mountpoint), *options],
                stdout=log,
                cwd=Path(__file__).parents[2],
            )
        try:
            while not self.mountpoint.is_mount():
                assert process.poll() is None
            yield
        finally:
            while (
                subprocess.run(["umount", str(self.mountpoint)], capture_output=True).returncode
                and process.poll() is None
            ):
                pass
            process.wait()

    def clear(self) -> None:
        """Empty it."""
        self._state.unlink()

    @property
    def changes(self) -> int:
        """How many changes there were until the last cut."""
        return int(self._log.read_text())


@pytest.fixture
def disk(tmp_path):
    """A disk, or a skip that says what is missing."""
    if importlib.util.find_spec("mfusepy") is None:
        pytest.skip("no mfusepy here: python -m pip install mfusepy")
    if subprocess.run([sys.executable, "-c", "import mfusepy"], capture_output=True).returncode:
        pytest.skip("no libfuse here: apt install libfuse3-3")
    disk = Disk(tmp_path)
    try:
        with disk.mounted():
            pass
    except AssertionError:
        pytest.skip("no FUSE file system can be mounted here (/dev/fuse, and the right to mount)")
    return disk


@pytest.fixture
def expected(small, tmp_path):
    """What a task writes if nothing happens."""

    def expected(task):
        undisturbed = Pipeline(tmp_path / "undisturbed" / "out", small.environment)
        undisturbed.output_dir.parent.mkdir()
        result = undisturbed.run(task, *TASKS[task])
        assert result.returncode == 0, result.stderr
        return found(undisturbed.output_dir.parent)

    return expected


@pytest.fixture
def pipeline(disk, small):
    """The pipeline on the disk."""
    return Pipeline(disk.mountpoint / "out", small.environment)


@pytest.mark.parametrize("task", TASKS)
def test_what_a_finished_run_has_written_survives(disk, expected, pipeline, task):
    files = expected(task)
    with disk.mounted():
        assert pipeline.run(task, *TASKS[task]).returncode == 0
    with disk.mounted():
        assert found(disk.mountpoint) == files


@pytest.mark.parametrize("ignored", ["files", "directories"])
def test_without_a_flush_it_would_be_lost(disk, expected, pipeline, ignored):
    files = expected("ExportAll")
    with disk.mounted(ignored=ignored):
        assert pipeline.run("ExportAll").returncode == 0
    with disk.mounted():
        assert found(disk.mountpoint) != files


@pytest.mark.parametrize("task", TASKS)
def test_a_power_cut_at_any_moment(request, disk, expected, pipeline, task):
    files = expected(task)
    with disk.mounted():
        assert pipeline.run(task, *TASKS[task]).returncode == 0
    changes = disk.changes
    cuts = [(cut_at, some) for cut_at in range(changes) for some in (None, cut_at)]
    if not request.config.getoption("--walk"):
        cuts = random.Random(task).sample(cuts, _CUTS)
    for cut_at, some in cuts:
        where = f"cut at {cut_at} of {changes}, {'nothing' if some is None else 'some'} survived"
        disk.clear()
        with disk.mounted(cut_at, some):
            result = pipeline.run(task, *TASKS[task])
            assert "Traceback" not in result.stderr, f"{where}: {result.stderr}"
            assert result.returncode, f"{where}: unnoticed"
        with disk.mounted():
            assert found(disk.mountpoint).items() <= files.items(), f"{where}: half written"
            result = pipeline.run(task, *TASKS[task])
            assert result.returncode == 0, f"{where}: {result.stderr}"
            assert found(disk.mountpoint) == files, where
            assert not list(disk.mountpoint.rglob("*.tmp")), where
            assert_sums(disk.mountpoint)
