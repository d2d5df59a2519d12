"""Temporary files: names that nobody can guess, through no link, removed only when their owner is known to be dead."""

import os
import re
import socket
import subprocess

import pytest

from tasks.export_directory.journal import Failed, Journal
from tasks.storage import atomic_files
from tasks.storage.atomic_files import NewFile, process_name, remove_leftovers, replacing


def test_a_link_with_a_guessed_name_is_not_followed(tmp_path, monkeypatch):
    target, path = tmp_path / "target", tmp_path / "index.csv"
    target.write_text("precious")
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    for name in (f".index.csv.{host}.{os.getpid()}.tmp", f".index.csv.{process_name()}.tmp"):
        (tmp_path / name).symlink_to(target)
    with replacing(path) as file:
        file.write(b"index")
    assert (path.read_text(), target.read_text(), path.is_symlink()) == ("index", "precious", False)
    monkeypatch.setattr(atomic_files.secrets, "token_hex", lambda number: "0" * 12)  # should it be guessed after all
    (tmp_path / f".index.csv.{process_name()}.r000000000000.tmp").symlink_to(target)
    with pytest.raises(FileExistsError):
        NewFile(path)
    assert target.read_text() == "precious"


def test_the_journal_is_not_written_through_a_link(tmp_path):
    target, journal = tmp_path / "target", tmp_path / "journal"
    target.write_text("precious")
    journal.mkdir()
    (journal / f"failed.{process_name()}.jsonl").symlink_to(target)
    with pytest.raises(OSError):
        Journal(journal).failed(Failed("1.1", "why"))
    assert target.read_text() == "precious"


def test_two_at_once_never_have_one_temporary_name(tmp_path):
    with NewFile(tmp_path / "a") as one, NewFile(tmp_path / "a") as other:
        assert one.temporary != other.temporary


def test_what_another_container_of_the_same_name_writes_is_left_alone(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine, other = process_name().rpartition(".")[0], f"{socket.gethostname()}-00000000"
    for host in (mine, other):
        (tmp_path / f".file.{host}.{dead.pid}.r0123.tmp").touch()
    assert remove_leftovers(tmp_path) == [f".file.{mine}.{dead.pid}.r0123.tmp"]
    assert [path.name for path in tmp_path.iterdir()] == [f".file.{other}.{dead.pid}.r0123.tmp"]
