"""Errors of the operating system on a file of the export: nothing is set aside or lost, and the run says so."""

import errno
import itertools
import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which injects them, is not installed")

MARKET = "markets/marketId=1.101.parquet"
#: File, calls that fail, error.
CASES = [
    (MARKET, "openat", "EMFILE"),
    (MARKET, "openat", "EACCES"),
    (MARKET, "openat", "ESTALE"),
    (MARKET, "read,pread64", "EIO"),
    (MARKET, "newfstatat", "EACCES"),
    ("index.csv", "openat", "EIO"),
    ("index.csv", "read", "EIO"),
    (".ledger", "read", "EIO"),
    (".lock", "openat", "EACCES"),
    (".lock", "openat", "EIO"),
    (".lock", "flock", "EIO"),
    ("markets/marketId=1.101_metadata.json", "openat", "EIO"),
]


@pytest.mark.parametrize(("name", "calls", "error"), CASES)
def test_an_error_of_the_system_is_no_damage(pipeline, name, calls, error):
    assert pipeline.run("ExportAll").returncode == 0
    before, path = pipeline.files(), pipeline.output_dir / name
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # touched: nothing vouches, it must be read
    strace = ["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "-P", str(path), "-e", f"trace={calls}"]
    strace += ["-e", f"inject={calls}:error={error}"]
    for _ in range(2 if error == "EACCES" else 1):  # in every run while it lasts
        result = subprocess.run(
            [*strace, *pipeline.command("ExportAll")],
            env=pipeline.full_environment(),
            cwd=pipeline.output_dir.parent,
            capture_output=True,
            text=True,
        )
        if "PTRACE" in result.stderr:
            pytest.skip("no process may be traced here")
        assert result.returncode == 30 and "Traceback" not in result.stderr, result.stderr
        assert path.name in result.stderr or name == ".lock" and f"Cannot write to {path.parent}" in result.stderr
        assert os.strerror(getattr(errno, error)) in result.stderr
        if name == ".lock":  # no other error is one of permissions
            assert ("permissions" in result.stderr) == (error == "EACCES"), result.stderr
        assert pipeline.files() == before
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == before


#: All that can be asked of a file, each error that a disk or the system's limits can give, each file that a run reads.
WALK = list(
    itertools.product(
        (
            MARKET,
            "markets/marketId=1.101.jsonl",
            "markets/marketId=1.101_metadata.json",
            "index.csv",
            ".ledger",
            ".journal",
            ".journal/index.sha256",
            ".lock",
        ),
        ("openat", "read,pread64", "newfstatat,fstat,statx", "mmap"),
        ("EIO", "EMFILE", "EACCES", "ESTALE"),
    )
)


def test_no_error_of_the_system_sets_a_file_aside(request, pipeline, small):
    """The whole matrix with --walk, none of it without: then the cases above do."""
    if not request.config.getoption("--walk"):
        pytest.skip("the whole matrix takes --walk")
    struck = failed = 0
    for format in ("parquet", "jsonl"):
        options = ("--format", format)
        shutil.rmtree(pipeline.output_dir, ignore_errors=True)
        assert pipeline.run("ExportAll", *options).returncode == 0
        before, trace = pipeline.files(), pipeline.output_dir.parent / "trace"
        for name, calls, error in WALK:
            if name.endswith((".parquet", ".jsonl")) and not name.endswith(format):
                continue
            path = pipeline.output_dir / name
            os.utime(path)
            strace = ["strace", "-f", "-o", str(trace), "-P", str(path), "-e", f"trace={calls}"]
            result = subprocess.run(
                [*strace, "-e", f"inject={calls}:error={error}", *pipeline.command("ExportAll", *options)],
                env=pipeline.full_environment(),
                cwd=pipeline.output_dir.parent,
                capture_output=True,
                text=True,
            )
            fault = (name, calls, error, result.stderr)
            struck += "(INJECTED)" in trace.read_text(errors="replace")
            failed += result.returncode == 30
            assert result.returncode in (0, 10, 30, 35) and "Traceback" not in result.stderr, fault
            assert pipeline.files() == before, fault
            assert pipeline.run("ExportAll", *options).returncode == 0, fault
            assert pipeline.files() == before, fault
    assert struck > 100 and failed > 20, (struck, failed)
    print(f"{struck} faults struck, {failed} runs ended with 30")
