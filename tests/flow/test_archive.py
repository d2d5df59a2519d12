"""Archive: what everybody's tools read, the same bytes every time, never one that hides new work."""

import concurrent.futures
import dataclasses
import datetime
import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from backports import zstd

from tasks.delivery import archive_file, containers
from tasks.delivery.archive_file import Archive, Member
from tasks.errors import DamagedFile, ExportError, UsageError
from tasks.storage.atomic_files import NewFile
from tasks.storage.layout import Layout
from tasks.verification.export_check import verify
from tests.conftest import Pipeline, fill, new_source

KINDS = containers.KINDS
DATE = ("--date", "2024-01-15")


def nothing(size_bytes: int) -> None:
    """Show no progress."""


def archive_of(pipeline: Pipeline, kind: str) -> Path:
    """Return the path of the archive of 2024-01-15."""
    return pipeline.output_dir.parent / f"tick export_20240115.{kind}"


_ARROW_UNZSTD = (
    "import pyarrow, shutil, sys; shutil.copyfileobj(pyarrow.CompressedInputStream(sys.argv[1], 'zstd'),"
    " sys.stdout.buffer)"
)


def unpacked(kind: str, path: Path, into: Path) -> dict[str, bytes]:
    """Unpack an archive with the ordinary tool, or Python's or Arrow's where there is none; return name and content
    of what came out.
    """
    into.mkdir()
    unzip = "unzip -q" if shutil.which("unzip") else f"'{sys.executable}' -m zipfile -e"
    unzstd = "zstd -dcq" if shutil.which("zstd") else f"'{sys.executable}' -c \"{_ARROW_UNZSTD}\""
    commands = {
        "tar.gz": f"tar -xzf '{path}'",
        "zip": f"{unzip} '{path}' {'' if shutil.which('unzip') else '.'}",
        "tar.zst": f"{unzstd} '{path}' | tar -xf -",
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands[kind]], cwd=into, check=True)
    return {str(file.relative_to(into)): file.read_bytes() for file in into.rglob("*") if file.is_file()}


def by_python(kind: str, path: Path) -> dict[str, bytes]:
    """Return name and content of an archive's members as Python's own modules read them."""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
    with zstd.open(path) if kind == "tar.zst" else open(path, "rb") as file, tarfile.open(fileobj=file) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def put(directory: Path, **contents: bytes) -> list[Member]:
    """Write files; return them as members of an archive."""
    directory.mkdir(exist_ok=True)
    members = []
    for name, content in sorted(contents.items()):
        (directory / name).write_bytes(content)
        members.append(Member(f"top/{name}", directory / name, len(content), hashlib.sha256(content).hexdigest()))
    return members


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


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_cores_changes_nothing(tmp_path, kind):
    text = b"".join(
        b'{"publish_time":%d,"price":%d}\n' % (number * 7919 % 100_003, number % 350) for number in range(200_000)
    )
    members = put(
        tmp_path / "in",
        a=text,
        b=b"",
        c=text[:1000],
        **{"d.parquet": random.Random(52).randbytes(3_000_000), "e": text[::-1]},
    )
    made = []  # with these bytes zlib_ng's own threads make another tar.gz for 5 workers
    for workers in (1, 2, 5):
        archive = Archive(tmp_path / f"{workers}.{kind}", kind)
        archive_file.make(archive, members, nothing, workers)
        made.append(archive.path.read_bytes())
        assert by_python(kind, archive.path) == {member.name: member.path.read_bytes() for member in members}
    assert made[0] == made[1] == made[2]
    assert unpacked(kind, archive.path, tmp_path / "out") == {
        member.name: member.path.read_bytes() for member in members
    }


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
    (lambda layout: layout.market_file("1.101").unlink(), UsageError, "is missing, but index.csv has it"),
    (
        lambda layout: shutil.copy(layout.market_file("1.101"), layout.market_file("1.999")),
        UsageError,
        "index.csv does not know it",
    ),
    (lambda layout: layout.index.unlink(), UsageError, "it has no index.csv"),
    (
        lambda layout: (layout.output_dir / "consolidated_ticks_2026_02_05.csv").write_text("x"),
        DamagedFile,
        "has no consolidation report",
    ),
    (
        lambda layout: (layout.output_dir / "consolidation_report_2026_02_05.txt").write_text("x"),
        DamagedFile,
        "is no report of ours",
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_forgets_is_noticed(tmp_path, kind, monkeypatch):
    members, archive = put(tmp_path / "in", a=b"abc" * 1000, b=b"def"), Archive(tmp_path / f"x.{kind}", kind)
    flush = NewFile.flush_to_disk

    def forget(self):
        flush(self)
        data = bytearray(self.temporary.read_bytes())
        data[len(data) // 3] ^= 0x55
        self.temporary.write_bytes(data)

    monkeypatch.setattr(NewFile, "flush_to_disk", forget)
    with pytest.raises(ExportError, match="not what was written"):
        archive_file.make(archive, members, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_a_library_leaves_out_is_noticed(tmp_path, monkeypatch):
    members, archive = put(tmp_path / "in", a=b"abc" * 1000, b=b"def"), Archive(tmp_path / "x.zip", "zip")
    write = containers.write
    monkeypatch.setattr(containers, "write", lambda kind, sink, files, *rest: write(kind, sink, files[:-1], *rest))
    with pytest.raises(ExportError, match="has 1 members when read back, 2 were written"):
        archive_file.make(archive, members, nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full_ends_it(tmp_path, kind, monkeypatch):
    text = os.urandom(9_000_000)
    members, archive = put(tmp_path / "in", a=text, b=text), Archive(tmp_path / f"x.{kind}", kind)
    write = NewFile.write

    def full(self, data):
        if self.size_bytes + memoryview(data).nbytes > 2_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(NewFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        archive_file.make(archive, members, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_file_that_changes_meanwhile_and_no_room(tmp_path, monkeypatch):
    members, archive = put(tmp_path / "in", a=b"abc" * 1000), Archive(tmp_path / "x.zip", "zip")
    (tmp_path / "in" / "a").write_bytes(b"abd" * 1001)
    with pytest.raises(DamagedFile, match="its SHA-256 is"):
        archive_file.make(archive, members, nothing)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(ExportError, match="Make room"):
        archive_file.make(archive, members, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    with pytest.raises(UsageError):
        Archive.of(Layout(Path("/")), datetime.date(2024, 1, 15), "zip")


def test_large_members_and_large_zips(tmp_path, monkeypatch):
    """With zip's 4 GiB limit moved to 1 MiB."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1 << 20)
    members = put(
        tmp_path / "in",
        a=bytes(1_200_000),
        b=b"b",
        c=os.urandom(1_500_000),
        **{"d.parquet": os.urandom(1_048_000), "e": b"e"},
    )
    archive = Archive(tmp_path / "x.zip", "zip")
    archive_file.make(archive, members, nothing)
    assert by_python("zip", archive.path) == {member.name: member.path.read_bytes() for member in members}
    assert unpacked("zip", archive.path, tmp_path / "out") == {
        member.name: member.path.read_bytes() for member in members
    }


def test_text_in_a_zip_is_compressed_by_the_library_chosen(tmp_path):
    """zipfile offers no public way to bring a compressor: a Python that no longer takes ours would be slow, not
    wrong.
    """
    members = put(tmp_path / "in", a=b"abc" * 1_000_000)
    archive_file.make(Archive(tmp_path / "x.zip", "zip"), members, nothing)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        deflate = containers.ParallelDeflate(pool, 2)
        text = members[0].path.read_bytes()
        wanted = (
            b"".join(deflate.compress(text[start : start + (1 << 19)]) for start in range(0, len(text), 1 << 19))
            + deflate.flush()
        )
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.getinfo("top/a").compress_size == len(wanted)
    assert wanted in (tmp_path / "x.zip").read_bytes() and zlib.decompress(wanted, -15) == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [1, 2, 7, 30])
def test_ctrl_c_ends_it_at_any_piece_and_leaves_nothing(tmp_path, kind, after):
    text = os.urandom(9_000_000)
    members, archive = put(tmp_path / "in", a=text, b=text), Archive(tmp_path / f"x.{kind}", kind)
    pieces = 0

    def count(size_bytes: int) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        archive_file.make(archive, members, count)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_days_made_before_a_refresh_are_told(pipeline, small):
    assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0
    result = pipeline.run("Archive", *DATE)
    assert result.returncode == 0 and "Consolidate them again" not in result.stderr
    small.message("1.101", "2026-02-06 10:00+00")
    result = pipeline.run("Archive", *DATE)
    assert (
        result.returncode == 0 and "consolidated_ticks_2026_02_05.csv. Consolidate them again" in result.stderr
    ), result.stderr
