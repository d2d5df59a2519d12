"""One tree of errors: all of it in tasks/errors.py, drawn there, and with --debug each with its traceback."""

import ast
import errno
import re
import subprocess
import sys

import pytest

from tasks import errors
from tests.conftest import ROOT

#: No errors: a read that asks to be cut smaller, and an answer that is not to be remembered.
SIGNALS = {"TooManyRows", "_NotComplete"}


def classes(of=errors.ExportError):
    yield of
    for below in of.__subclasses__():
        yield from classes(below)


def test_the_tree_is_drawn_as_it_is():
    drawn = [
        (len(match[1]) // 4, match[2], match[3])
        for match in re.finditer(r"^([│├└─ ]*)(\w+) {2,}(.*)$", errors.__doc__, re.MULTILINE)
    ]
    assert {name for _, name, _ in drawn} == {error.__name__ for error in classes()}
    above = []
    for depth, name, text in drawn:
        above[depth:] = [name]
        error = getattr(errors, name)
        assert [base.__name__ for base in error.__mro__[: depth + 1]] == above[::-1]
        code = re.search(r"\((\d+)\b", text)
        assert error.exit_code == (int(code[1]) if code else error.__mro__[1].exit_code if depth else 30), name


def test_no_other_module_has_errors_of_its_own():
    for path in sorted((ROOT / "tasks").rglob("*.py")):
        found = {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ClassDef)
            and any(
                re.search(r"Error$|Exception$|^[A-Z]\w*(Failed|Damaged|File)$", ast.unparse(base))
                for base in node.bases
            )
        }
        assert path.name == "errors.py" or found <= SIGNALS, path


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_next_step(number):
    assert "Make room" in errors.told(OSError(number, "full", "/data/x"))
    assert "Make room" not in errors.told(PermissionError(errno.EACCES, "no", "/data/x"))


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_the_traceback_of_what_stops_a_run_before_its_first_task(tmp_path, debug):
    run = subprocess.run(
        [sys.executable, "-P", "-m", "tasks", "ExportAll", "--output-dir", str(tmp_path), *["--debug"] * debug],
        env={"POSTGRES_HOST": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 35
    assert ("Traceback (most recent call last)" in run.stderr and "DatabaseError: No connection" in run.stderr) == debug
    assert [line for line in run.stderr.splitlines() if line.startswith("error: No connection to ")]
