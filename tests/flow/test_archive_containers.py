"""Archives at their limits: disks that forget or are full, what libraries leave out, large members, interrupts."""

import concurrent.futures
import datetime
import errno
import hashlib
import os
import random
import shutil
import signal
import zipfile
import zlib
from pathlib import Path

import pytest

from tasks.delivery import archive_file, containers
from tasks.delivery.archive_file import Archive, Member
from tasks.errors import DamagedFile, ExportError, UsageError
from tasks.storage.atomic_files import NewFile
from tasks.storage.layout import Layout
from tests.flow.archives import KINDS, by_python, nothing, unpacked


def put(directory: Path, **contents: bytes) -> list[Member]:
    """Write files; return them as members of an archive."""
    directory.mkdir(exist_ok=True)
    members = []
    for name, content in sorted(contents.items()):
        (directory / name).write_bytes(content)
        members.append(Member(f"top/{name}", directory / name, len(content), hashlib.sha256(content).hexdigest()))
    return members


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
