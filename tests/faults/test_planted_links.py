"""Links that somebody has planted in the output directory: nothing outside it is written to or removed, and archives
hold nothing that leads out of it.
"""

import shutil
import stat
import tarfile
from pathlib import PurePosixPath

import pytest

DAY = ("--date", "2026-02-05")
TASKS = [("ExportAll",), ("ConsolidateDay", *DAY), ("Archive", "--date", "2026-03-01"), ("VerifyExport",)]
OTHERS = [("BuildStates",), ("BuildStreams",), ("BuildRunnerSummary",), ("PlotMarket", "--market-id", "1.101")]


def run_all(pipeline, tasks):
    """Run tasks; return their exit codes."""
    codes = []
    for task in tasks:
        done = pipeline.run(*task)
        assert "Traceback" not in done.stderr, done.stderr
        codes.append(done.returncode)
    return codes


def tree(directory):
    """Return every path below a directory, and what it is."""
    return {
        path.relative_to(directory): path.read_bytes() if path.is_file() else stat.S_IFMT(path.lstat().st_mode)
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize("exists", [True, False])
def test_links_at_final_names_are_replaced_not_followed(request, pipeline, small, tmp_path, exists):
    if not exists and not request.config.getoption("--walk"):
        pytest.skip("part of the walk")
    tasks = TASKS + OTHERS * request.config.getoption("--walk")
    assert set(run_all(pipeline, tasks)) == {0}
    before, outside = pipeline.files(), tmp_path / "outside"
    outside.mkdir()
    planted = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(planted) > 15
    for number, path in enumerate(planted):
        target = outside / str(number)
        if exists:
            target.write_bytes(b"precious")
        path.unlink()
        path.symlink_to(target)
    expected = tree(outside)
    assert run_all(pipeline, tasks[:1]) == [0] and tree(outside) == expected
    for path in pipeline.output_dir.rglob("*.damaged"):  # the links at the names of market files
        path.unlink()
    codes = run_all(pipeline, tasks)
    assert tree(outside) == expected
    if not request.config.getoption("--walk"):  # a states file that is none is named, and left alone
        assert codes == [0] * len(tasks)
        now = pipeline.files()
        assert {name: now[name] for name in before if "report" not in name} == {
            name: content for name, content in before.items() if "report" not in name
        }
        assert not [path for path in tmp_path.rglob("*") if path.is_symlink() and path.parent.name != ".journal"]


@pytest.mark.parametrize("name", [".lock", "markets", ".journal", "streams", "states", "plots"])
def test_a_link_in_place_of_a_directory_or_the_lock_harms_nothing_behind_it(request, pipeline, tmp_path, name):
    """A folder may be moved to another disk by a link, so links to folders are followed: what lies there stays."""
    if name not in (".lock", "states") and not request.config.getoption("--walk"):
        pytest.skip("part of the walk")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (outside / ".precious.tmp").write_text("precious")
    if name == "plots":
        assert pipeline.run("ExportAll").returncode == 0
    pipeline.output_dir.mkdir(exist_ok=True)
    (pipeline.output_dir / name).symlink_to(outside / "precious" if name == ".lock" else outside)
    task = {"streams": "BuildStreams", "states": "BuildStates", "plots": "PlotMarket"}.get(name, "ExportAll")
    options = ["--market-id", "1.101"] if name == "plots" else []
    codes = run_all(pipeline, [(task, *options), ("ExportAll",), ("VerifyExport",)])
    stray = name in ("markets", "states")
    assert codes == ([30] * 3 if name == ".lock" else [0, 0, 30 if stray else 0])
    if stray:
        report = (pipeline.output_dir / "verification_report.txt").read_text()
        assert report.count("DIFFERENCE") == 1 and f"{name}/precious" in report, report
    for path in (outside / "precious", outside / ".precious.tmp"):
        assert path.read_text() == "precious"


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_an_archive_holds_no_way_out(pipeline, tmp_path, where):
    assert pipeline.run("ExportAll").returncode == 0
    moved = tmp_path / "moved"  # a market file by way of a link, and all of them
    if where == "outside":
        shutil.move(pipeline.output_dir / "markets", moved)
        (pipeline.output_dir / "markets").symlink_to(moved)
    else:
        pipeline.market("1.101").rename(moved)
        pipeline.market("1.101").symlink_to(moved)
    (pipeline.output_dir / "consolidation_report_2026_02_06.txt.lnk").symlink_to("/etc/passwd")
    (pipeline.output_dir / "etc").symlink_to("/etc")
    done = pipeline.run("Archive", "--date", "2026-03-01")
    archive = tmp_path / f"{pipeline.output_dir.name}_20260301.tar.gz"
    if where == "inside":
        assert done.returncode == 30 and "marketId=1.101.parquet: has no bytes of its own" in done.stderr
        assert not archive.exists()
        return
    assert done.returncode == 0, done.stderr
    assert "not in the archive: consolidation_report_2026_02_06.txt.lnk, etc.\n" in done.stderr
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
    assert len(members) == 10 and sum("/markets/" in member.name for member in members) == 6
    for member in members:
        path = PurePosixPath(member.name)
        assert member.isfile() and not path.is_absolute() and ".." not in path.parts
        assert path.parts[0] == pipeline.output_dir.name
