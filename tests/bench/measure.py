"""Run commands as a user does, in turn, and measure the whole process tree of each."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
_SAMPLE_S = 0.02
_LOOK_S = 0.1
#: The shared part of forked processes is walked page by page: often enough to see a plateau, seldom enough not to
#: disturb.
_PSS_S = 0.5


class BenchError(Exception):
    """A measurement cannot be made; the text says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do the job.

    Attributes: commands: what runs side by side; the time is from the start of the first to the end of the last.
    facts: told after each run what its output holds (compared between contenders), in a directory that it may have
    written to. writes: the files that it writes elsewhere than in its directory, removed before and after each
    run. prepare: called before each run, not measured. keep_output: leave what was written for the contender that
    comes next. missing: why it cannot run here; then it is listed and not run. is_limit: the figure that the
    others are compared with; without one, the fastest that is not ours.
    """

    name: str
    commands: Sequence[Sequence[str]]
    facts: Callable[[Path], Mapping[str, object]]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    writes: Sequence[Path] = ()
    prepare: Callable[[Path], None] | None = None
    keep_output: bool = False
    missing: str = ""
    ours: bool = False
    is_limit: bool = False
    size: float = 0


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run. Processor seconds are of the commands and all they started; server_cpu_s is PostgreSQL's, None where
    it is not visible.
    """

    contender: str
    round: int
    wall_s: float
    cpu_s: float
    server_cpu_s: float | None
    peak_bytes: int
    output_bytes: int
    facts: Mapping[str, object]


class _Memory(threading.Thread):
    """Watch the memory of process trees: the sum of PSS, which counts a page that n processes share as 1/n in each.

    RSS is read every 20 ms; PSS, which is dear, whenever RSS is higher than it ever was, and every half a second.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._roots = [psutil.Process(pid) for pid in roots]
        self._ended = threading.Event()

    def run(self) -> None:
        tree: list[psutil.Process] = []
        looked = walked = most = 0.0
        while not self._ended.wait(_SAMPLE_S):
            now = time.monotonic()
            if now - looked > _LOOK_S:
                tree, looked = [], now
                for root in self._roots:
                    with contextlib.suppress(psutil.Error):
                        tree += [root, *root.children(recursive=True)]
            resident = sum(self._of(process, "rss") for process in tree)
            if resident > most * 1.01 or now - walked > _PSS_S:
                most, walked = max(most, resident), now
                self.peak_bytes = max(self.peak_bytes, sum(self._of(process, "pss") for process in tree))

    @staticmethod
    def _of(process: psutil.Process, kind: str) -> int:
        with contextlib.suppress(psutil.Error, OSError):
            if kind == "rss":
                return int(process.memory_info().rss)
            full = process.memory_full_info()
            return int(getattr(full, "pss", full.uss))  # macOS has no PSS; USS leaves shared pages out
        return 0

    def stop(self) -> int:
        self._ended.set()
        self.join()
        return self.peak_bytes


def measure_run(contender: Contender, work: Path, number: int, server_cpu: Callable[[], float | None]) -> Sample:
    """Run a contender once in a directory. Raises BenchError when one of its commands fails."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "PG", "LUIGI_"))
    }
    environment |= {"PYTHONPATH": str(ROOT)} | contender.environment
    log = work.with_suffix(".log")
    server_before = server_cpu()
    with open(log, "w+b") as output, contextlib.ExitStack() as unfinished:
        started = time.monotonic()
        processes = []
        for command in contender.commands:
            process = subprocess.Popen(
                command,
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=output,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            unfinished.callback(_end, process)
            processes.append(process)
        memory = _Memory([process.pid for process in processes])
        memory.start()
        cpu_s = 0.0
        for process in processes:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_s += usage.ru_utime + usage.ru_stime
        wall_s = time.monotonic() - started
        peak_bytes = memory.stop()
    failed = [process.returncode for process in processes if process.returncode]
    if failed:
        words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise BenchError(f"{contender.name} ended with exit code {failed[0]}: {' | '.join(words[-3:]) or 'no message'}")
    log.unlink()
    server_after = server_cpu()
    server_cpu_s = None if server_before is None or server_after is None else server_after - server_before
    written = [*work.rglob("*"), *contender.writes]
    output_bytes = sum(path.stat().st_size for path in written if path.is_file())
    return Sample(
        contender.name, number, wall_s, cpu_s, server_cpu_s, peak_bytes, output_bytes, dict(contender.facts(work))
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that an interrupted measurement leaves behind, and all in its group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_in_turn(
    contenders: Sequence[Contender], work: Path, rounds: int, server_cpu: Callable[[], float | None], need_bytes: int
) -> list[Sample]:
    """Run all contenders round by round, one after the other, each into an empty directory that is removed afterwards.

    Raises BenchError when one fails, when the disk has no need_bytes free, or when two did not produce the same rows.
    """
    samples: list[Sample] = []
    able = [contender for contender in contenders if not contender.missing]
    for contender in contenders:
        if contender.missing:
            say(f"  {contender.name}: not available: {contender.missing}")
    for number in range(1, rounds + 1):
        for contender in able:
            require_free(work, need_bytes)
            directory = work / contender.name.replace(" ", "_").replace("/", "_")
            directory.mkdir(exist_ok=contender.prepare is None)
            if contender.prepare:
                contender.prepare(directory)
            _remove(contender.writes)
            sample = measure_run(contender, directory, number, server_cpu)
            samples.append(sample)
            _remove(contender.writes)
            if not contender.keep_output:
                shutil.rmtree(directory)
            say(
                f"  round {number} of {rounds}: {contender.name}: {sample.wall_s:.1f} s, {sample.cpu_s:.1f} CPU s, "
                f"{sample.peak_bytes / 1e6:,.0f} MB"
            )
    return samples


def _remove(files: Sequence[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


def require_same(samples: Sequence[Sample], expected: Mapping[str, object] | None = None) -> None:
    """Raise BenchError unless all samples say the same of what was produced, and that it is what was expected, if
    that is known.
    """
    expected = samples[0].facts if expected is None else expected
    for sample in samples:
        if sample.facts != expected:
            raise BenchError(
                f"{sample.contender} did not produce the same rows: {dict(sample.facts)}, expected {dict(expected)}. "
                "Its time says nothing."
            )


def require_free(directory: Path, need_bytes: int) -> None:
    """Raise BenchError unless the disk of a directory has so many bytes free."""
    free = shutil.disk_usage(directory).free
    if free < need_bytes:
        raise BenchError(
            f"{directory} has {free / 1e9:.1f} GB free, this needs about {need_bytes / 1e9:.1f} GB. "
            "Name another place with --output (and TMPDIR for the database), or fewer --rows."
        )


@contextlib.contextmanager
def work_directory(output: Path) -> Iterator[Path]:
    """Yield a directory for what the contenders write; it is removed at the end, however that comes."""
    work = output / f"work-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def say(text: str) -> None:
    """Tell how far the benchmark is."""
    print(text, file=sys.stderr, flush=True)


def pipeline(*arguments: str) -> list[str]:
    """Return the command line of a task, as run_pipeline.sh starts it."""
    return [sys.executable, "-P", "-m", "tasks", *arguments]
