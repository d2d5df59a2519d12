"""A disk that is full from the first write on: one line, 30, nothing lost, and the next run completes.

The disk is a small file system in memory, mounted where only the run sees it (unshare).
"""

import shutil
import subprocess

import pytest

from tests.conftest import Pipeline

TASKS = {
    "ExportAll": (),
    "ExportMarket": ("--market-id", "1.101", "--refresh"),
    "BuildIndex": (),
    "BuildMetadata": (),
    "ConsolidateDay": ("--date", "2026-02-05"),
    "ConsolidateAll": (),
    "ConsolidateDayDirect": ("--date", "2026-02-05"),
    "Archive": ("--date", "2026-03-01"),
    "VerifyExport": (),
}
#: Mount the disk, put the export there, fill it up, run; make room, run again, take the result away.
SCRIPT = """
set -e
mount -t tmpfs -o size=16m,nr_inodes=400 none "$1"; export_dir=$2; what=$3; results=$4; shift 4
[ -d "$export_dir" ] && cp -r "$export_dir" "$results.disk/out"
mkdir "$results.disk/filler"
if [ "$what" = files ]; then
    i=0; while true 2>/dev/null >"$results.disk/filler/$i"; do i=$((i+1)); done
else
    cat /dev/zero 2>/dev/null >"$results.disk/filler/zeros" || true
fi
cd "$results.disk"
set +e
"$@" >"$results.out" 2>"$results.err"; echo $? >"$results.code"
cd ..
rm -r "$results.disk/filler"
"$@" >"$results.out2" 2>"$results.err2"; echo $? >"$results.code2"
cp -r "$results.disk" "$results.copy"
"""
QUICK = {("ExportAll", False, "files"), ("ConsolidateDay", True, "bytes"), ("VerifyExport", True, "files")}
CASES = [(task, is_there, what) for task in TASKS for is_there in (False, True) for what in ("files", "bytes")]


@pytest.fixture(autouse=True)
def may_mount():
    """Skip where a user may not mount a file system of their own."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mounts of one's own (unshare -rm) here")


@pytest.mark.parametrize(("task", "is_there", "what"), CASES)
def test_a_disk_full_from_the_first_write_on(request, pipeline, small, tmp_path, task, is_there, what):
    if (task, is_there, what) not in QUICK and not request.config.getoption("--walk"):
        pytest.skip("part of the walk")
    if is_there or task == "VerifyExport":  # of what there was yesterday
        assert pipeline.run("ExportAll").returncode == 0
        if task != "VerifyExport":
            small.message("1.101", "2026-02-05 15:00:00.5+00")
            small.query("INSERT INTO public.runners VALUES ('1.101', 3, 'Three')")
    results = tmp_path / "results"
    disk = Pipeline(tmp_path / "results.disk" / "out", small.environment)
    disk.output_dir.parent.mkdir()
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(disk.output_dir.parent), str(pipeline.output_dir), what]
        + [str(results), *disk.command(task, *TASKS[task])],
        env=disk.full_environment(),
        check=True,
    )
    said, code = (tmp_path / "results.err").read_text(), int((tmp_path / "results.code").read_text())
    assert code == 30 and "Traceback" not in said and "Uncaught" not in said, said
    assert "No space left on device" in said and "Make room" in said and "permissions" not in said, said
    said = (tmp_path / "results.err2").read_text()
    assert int((tmp_path / "results.code2").read_text()) == 0, said
    after = Pipeline(tmp_path / "results.copy" / "out", small.environment)
    assert not list(after.output_dir.rglob("*.tmp"))
    if task != "VerifyExport":
        undisturbed = pipeline.run(task, *TASKS[task])
        assert undisturbed.returncode == 0, undisturbed.stderr
        assert without_reports(after) == without_reports(pipeline)


def without_reports(pipeline):
    """Return the files but for those that carry times."""
    return {
        name: content
        for name, content in pipeline.files().items()
        if not name.endswith((".txt", ".prom", ".sha256", ".tar.gz"))
    }
