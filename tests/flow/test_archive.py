"""Archive: what everybody's tools read, the same bytes every time, never one that hides new work."""

import dataclasses
import datetime
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.delivery import archive_file
from tasks.delivery.archive_file import Archive
from tasks.errors import DamagedFile, UsageError
from tasks.storage.layout import Layout
from tasks.verification.export_check import verify
from tests.conftest import Pipeline, fill, new_source
from tests.flow.archives import KINDS, by_python, nothing, unpacked

DATE = ("--date", "2024-01-15")


def archive_of(pipeline: Pipeline, kind: str) -> Path:
    """Return the path of the archive of 2024-01-15."""
    return pipeline.output_dir.parent / f"tick export_20240115.{kind}"


@pytest.fixture(scope="module")
def exported(server, tmp_path_factory) -> Path:
    """The directory of an export, never changed."""
    directory = tmp_path_factory.mktemp("exported") / "tick export"
    result = Pipeline(directory, fill(new_source(server)).environment).run("ExportAll")
    assert result.returncode == 0, result.stderr
    return directory


@pytest.mark.parametrize("kind, format", [("tar.gz", "jsonl"), ("zip", "parquet"), ("tar.zst", "jsonl")])
def test_everybody_reads_it_and_a_second_run_does_nothing(pipeline, small, tmp_path, kind, format):
    result = pipeline.run("Archive", *DATE, "--archive-format", kind, "--format", format)
    assert result.returncode == 0, result.stderr
    path = archive_of(pipeline, kind)
    expected = {f"tick export/{name}": content for name, content in pipeline.files().items()}
    expected["tick export/execution_report.txt"] = (pipeline.output_dir / "execution_report.txt").read_bytes()
    assert unpacked(kind, path, tmp_path / "unpacked") == expected == by_python(kind, path)
    subprocess.run(
        ["sha256sum", "--strict", "-c", f"{path.name}.sha256"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )
    before = path.stat().st_mtime_ns
    again = pipeline.run("Archive", *DATE, "--archive-format", kind, "--format", format)
    assert again.returncode == 0 and "Nothing to do" in again.stderr and path.stat().st_mtime_ns == before
    verdict = verify(Layout(tmp_path / "unpacked" / "tick export", format), None, 0)
    assert verdict.differences == [] and verdict.ticks == small.ticks()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "tick export",
        path.name,
        f"{path.name}.sha256",
        "unpacked",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_give_the_same_bytes(exported, tmp_path, kind, monkeypatch):
    """Other times, modes, umask, time zone, and an order of creation that is another one."""
    copy = tmp_path / "elsewhere" / exported.name
    (copy / "markets").mkdir(parents=True)
    made = []
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    for path in sorted(exported.rglob("*"), reverse=True):
        if path.is_file() and ".journal" not in path.parts and not path.name.startswith("."):
            shutil.copy(path, copy / path.relative_to(exported))
            (copy / path.relative_to(exported)).chmod(0o700)
    for directory, umask in ((exported, 0o022), (copy, 0o077)):
        before = os.umask(umask)
        try:
            layout = Layout(directory)
            archive = dataclasses.replace(
                Archive.of(layout, datetime.date(2024, 1, 15), kind), path=tmp_path / f"{umask}.{kind}"
            )
            archive_file.make(archive, archive_file.members(layout)[0], nothing)
        finally:
            os.umask(before)
        made.append(archive.path.read_bytes())
        assert archive.is_of(archive_file.members(layout)[0])
    assert made[0] == made[1]


@pytest.mark.parametrize("change", ["tick", "metadata", "archive", "checksum file"])
def test_an_archive_hides_no_new_work(pipeline, small, change):
    assert pipeline.run("Archive", *DATE).returncode == 0
    path = archive_of(pipeline, "tar.gz")
    before = path.read_bytes()
    if change == "tick":
        small.message("1.101", "2026-02-06 10:00+00")
    elif change == "metadata":
        small.query("UPDATE public.markets SET market_name = 'new' WHERE market_id = '1.101'")
    elif change == "archive":
        path.write_bytes(before[:-9] + b"x" + before[-8:])
    else:
        path.with_name(f"{path.name}.sha256").unlink()
    result = pipeline.run("Archive", *DATE)
    assert result.returncode == 0 and "read back and compared" in result.stderr, result.stderr
    assert (path.read_bytes() == before) == (change in ("archive", "checksum file"))
    assert (
        path.with_name(f"{path.name}.sha256").read_text()
        == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    )


def test_only_the_export_is_archived(exported):
    sound, _ = archive_file.members(Layout(exported))
    strays = (
        ".lock",
        ".index.csv.host.1.tmp",
        "markets/marketId=1.101.parquet.damaged",
        "verification_report.txt",
        "notes.txt",
    )
    for name in strays:
        (exported / name).write_text("x")
    (exported / "more").mkdir()
    (exported / "consolidation_report_2026_02_05.txt.lnk").symlink_to("/etc/passwd")
    try:
        members, inventory = archive_file.members(Layout(exported))
    finally:
        for name in (*strays, "consolidation_report_2026_02_05.txt.lnk"):
            (exported / name).unlink()
        (exported / "more").rmdir()
    assert members == sound and len(members) == 10
    assert inventory.strays == ["consolidation_report_2026_02_05.txt.lnk", "more", "notes.txt"]
    assert inventory.aside == ["markets/marketId=1.101.parquet.damaged"]


DAMAGE = [
    (
        lambda layout: layout.market_file("1.101").write_bytes(b"x"),
        DamagedFile,
        "has 1 bytes of its own, index.csv says",
    ),
    (
        lambda layout: layout.market_file("1.101").write_bytes(b"x" * layout.market_file("1.101").stat().st_size),
        DamagedFile,
        "its SHA-256 is",
    ),
    (lambda layout: layout.market_file("1.101").unlink(), UsageError, "is missing, but in index.csv"),
    (
        lambda layout: shutil.copy(layout.market_file("1.101"), layout.market_file("1.999")),
        UsageError,
        "is there, but not in index.csv",
    ),
    (lambda layout: layout.index.unlink(), UsageError, "it has no index.csv"),
    (
        lambda layout: (layout.output_dir / "consolidated_ticks_2026_02_05.csv").write_text("x"),
        DamagedFile,
        "no consolidation report",
    ),
    (
        lambda layout: (layout.output_dir / "consolidation_report_2026_02_05.txt").write_text("x"),
        DamagedFile,
        "not a report of this pipeline",
    ),
]


@pytest.mark.parametrize("damage, error, words", DAMAGE)
def test_what_is_not_sound_is_not_archived(exported, tmp_path, damage, error, words):
    layout = Layout(tmp_path / "copy")
    shutil.copytree(exported, layout.output_dir)
    damage(layout)
    with pytest.raises(error, match=words):
        archive_file.make(
            Archive.of(layout, datetime.date(2024, 1, 15), "zip"), archive_file.members(layout)[0], nothing
        )
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_partial_day_is_refused(exported, tmp_path):
    pipeline = Pipeline(tmp_path / "tick export", {})
    shutil.copytree(exported, pipeline.output_dir)
    name = "consolidated_ticks_2026_02_05.csv"
    (pipeline.output_dir / name).write_text("x")
    checksum = hashlib.sha256(b"x").hexdigest()
    report = f"File: {name}, 1 bytes, written 2026-02-05T12:00:00.000000Z, SHA-256 {checksum}\n"
    path = pipeline.output_dir / "consolidation_report_2026_02_05.txt"
    path.write_text(f"PARTIAL DAY: not over\n{report}")
    result = pipeline.run("Archive", *DATE, "--offline")
    assert result.returncode == 2 and "before its day was over" in result.stderr, result.stderr
    path.write_text(report)
    assert pipeline.run("Archive", *DATE, "--offline").returncode == 0
    assert by_python("tar.gz", archive_of(pipeline, "tar.gz"))[f"tick export/{name}"] == b"x"


def test_mistakes_get_one_line(pipeline):
    for arguments, words in (
        ((*DATE, "--archive-format", "rar"), "--archive-format is 'rar', expected tar.gz, zip or tar.zst"),
        (("--date", "yesterday"), "--date is 'yesterday'"),
    ):
        result = pipeline.run("Archive", *arguments)
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr


def test_days_made_before_a_refresh_are_told(pipeline, small):
    assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0
    result = pipeline.run("Archive", *DATE)
    assert result.returncode == 0 and "Consolidate them again" not in result.stderr
    small.message("1.101", "2026-02-06 10:00+00")
    result = pipeline.run("Archive", *DATE)
    assert (
        result.returncode == 0 and "consolidated_ticks_2026_02_05.csv. Consolidate them again" in result.stderr
    ), result.stderr
