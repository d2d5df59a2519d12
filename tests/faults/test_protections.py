"""Each protection is taken out of a copy of the product; then the tests that stand for it must fail."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

#: A run that takes so many times as long as usual hangs.
_HANGS = 20


@dataclasses.dataclass(frozen=True)
class Protection:
    """A protection: where it is, the text that makes it, what that becomes, and tests that must notice."""

    name: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...]


LOST = "tests/faults/test_lost_writes.py::test_what_a_finished_run_has_written_survives"
PROTECTIONS = [
    Protection(
        "a file is flushed before it gets its name",
        "tasks/storage/atomic_files.py",
        "        _flush_to_disk(self.temporary)\n",
        "        pass\n",
        (LOST,),
    ),
    Protection(
        "a directory is flushed after a rename",
        "tasks/storage/atomic_files.py",
        "    _flush_to_disk(directory)\n",
        "    pass\n",
        (LOST,),
    ),
    Protection(
        "a file gets its name when it is whole",
        "tasks/storage/atomic_files.py",
        '        self.temporary = path.with_name(f".{path.name}.{process_name()}.r{secrets.token_hex(6)}.tmp")\n',
        "        self.temporary = path\n        path.unlink(missing_ok=True)\n",
        ("tests/faults/test_faults.py", "-k", "killed_again"),
    ),
    Protection(
        "the directory is locked",
        "tasks/workflow/directory_lock.py",
        "            lock.acquire(timeout=0)\n",
        "            pass\n",
        ("tests/faults/test_faults.py", "-k", "ten_at_once"),
    ),
    Protection(
        "ladder and trades are of one snapshot",
        "tasks/postgres/session.py",
        'if self._may_write else "REPEATABLE READ"',
        'if self._may_write else "READ COMMITTED"',
        ("tests/faults/test_writer.py",),
    ),
    Protection(
        "an unknown checksum is not vouched for",
        "tasks/export_directory/directory_scan.py",
        "if ledger.knows(market_id, found.checksum) or",
        "if True or",
        ("tests/flow/test_vouching.py",),
    ),
    Protection(
        "a refresh keeps the ticks of the file",
        "tasks/ticks/tick_arrays.py",
        "        if not len(older):\n            return self.sorted()\n",
        "        return self.sorted()\n",
        ("tests/flow/test_lasting.py", "tests/flow/test_promises.py"),
    ),
    Protection(
        "a file that is vouched for was not touched",
        "tasks/export_directory/ledger.py",
        "        if kept[:_TOUCHED_BYTES] != stat.packed()[:_TOUCHED_BYTES]:\n",
        "        if not kept:\n",
        ("tests/flow/test_vouching.py",),
    ),
    Protection(
        "a file is the one that was looked at",
        "tasks/storage/file_identity.py",
        "        return self._replace(st_ctime_ns=other.st_ctime_ns) == other\n",
        "        return True\n",
        ("tests/flow/test_consolidate_trouble.py", "-k", "replaced"),
    ),
    Protection(
        "a silent server is given up",
        "tasks/postgres/waiting.py",
        "            elif silent_s >= wait.server.silence_timeout_s:\n",
        "            elif False:\n",
        ("tests/faults/test_waits.py", "-k", "falls_silent"),
    ),
    Protection(
        "kill is heard like Ctrl-C",
        "tasks/workflow/interrupts.py",
        "    signal.signal(signal.SIGTERM, interrupt)\n",
        "",
        ("tests/faults/test_faults.py", "-k", "ctrl_c_and_kill"),
    ),
]


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda protection: protection.name.replace(" ", "-"))
def test_tests_notice_that_it_is_missing(request, tmp_path, protection):
    text = (ROOT / protection.file).read_text()
    assert text.count(protection.text) == 1, f"{protection.file} has changed: name the text that makes it now"
    if not request.config.getoption("--faults"):
        pytest.skip("part of --faults")
    copy = tmp_path / "copy"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "data_exports", "__pycache__", "*_cache")
    )
    began_s = time.monotonic()
    code, summary = run(copy, protection)
    assert code == 0, f"{protection.tests} fail as it is: {summary}"
    if " skipped" in summary and " passed" not in summary:
        pytest.skip(f"its tests cannot run here: {summary}")
    usual_s = time.monotonic() - began_s
    (copy / protection.file).write_text(text.replace(protection.text, protection.without))
    code, summary = run(copy, protection, _HANGS * usual_s)
    assert code in (1, 2), f"nothing in {protection.tests} notices that it is missing: {summary}"


def run(copy, protection, hangs_s=None):
    """Run the tests in a copy; return the exit code (1 if they hang) and the last lines: the skips and the sum."""
    output = copy.with_suffix(".log")
    with open(output, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "-rs", "--tb=no", *protection.tests, "-p", "no:cacheprovider"],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            stdout=file,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        code = process.wait(hangs_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        code = 1
    return code, " ".join(output.read_text().splitlines()[-2:])
