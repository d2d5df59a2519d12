"""The faults at every step of every task: which there are, and what a run makes of one (injected/sitecustomize.py)."""

import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import Pipeline
from tests.faults.hindrances import kill_session
from tests.faults.left_out import is_all_but_failed
from tests.faults.random_strikes import assert_sums, found
from tests.faults.warm_runs import WarmRun, WarmRuns

#: Calls that change something, and their errors; others only ask.
CHANGING = ("create", "write", "flush", "replace", "remove", "mkdir", "utime", "lock")
_DATABASE = ("connect", "ask", "copy", "commit", "roll back")
_ERRORS = ("EIO", "ENOSPC", "EACCES")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A strike at a step; number: at which of its occurrences."""

    task: str
    step: str
    when: str
    kind: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.task}: {self.kind} {self.when} {self.step} (no. {self.number})"


@dataclasses.dataclass(frozen=True)
class Task:
    """A command line, and the directory that it starts from (None: none).

    In an argument, {work} is the directory that the run works in, and {name} a name that no other run has. is_slow:
    whether delays are tried, too. is_done: for what writes no files, whether all of it is there, by that name; fails
    if a part is.
    """

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = dataclasses.field(hash=False)
    start: Path | None = None
    is_slow: bool = False
    is_done: Callable[[str], bool] | None = None

    def command(self, pipeline: Pipeline) -> list[str]:
        """Return the command line of a run."""
        work = pipeline.output_dir.parent
        return [argument.format(work=work, name=_name(work)) for argument in self.arguments]


@dataclasses.dataclass
class Known:
    """What a task does if nothing happens. steps: how often each is passed, by parent and workers together; of_workers:
    those that workers pass; before, after: the files; work: where those after it are.
    """

    steps: dict[str, int]
    of_workers: set[str]
    before: dict[str, str]
    after: dict[str, str]
    work: Path

    def is_whole(self, name: str, checksum: str) -> bool:
        """Return whether a file is as it was before or as it is after an undisturbed run."""
        return checksum in (self.before.get(name), self.after.get(name))


def _name(work: Path) -> str:
    return work.parent.name.lower().replace(" ", "_")


def prepared(task: Task, folder: Path) -> Pipeline:
    """Return the task's pipeline in a new folder."""
    pipeline = Pipeline(folder / "work" / "out", task.environment)
    pipeline.output_dir.parent.mkdir(parents=True)
    if task.start is not None:
        shutil.copytree(task.start, pipeline.output_dir.parent, copy_function=shutil.copy2, dirs_exist_ok=True)
    return pipeline


def undisturbed(task: Task, folder: Path, runs: WarmRuns) -> Known:
    """Run a task and record its steps."""
    pipeline = prepared(task, folder)
    before = found(pipeline.output_dir.parent)
    process = runs.start(pipeline, task.command(pipeline), failpoint(pipeline, folder / "record"))
    said = process.said()
    assert process.returncode == 0, f"{task.name}: {said}"
    assert task.is_done is None or task.is_done(_name(pipeline.output_dir.parent))
    steps, of_workers = recorded(folder / "record")
    return Known(steps, of_workers, before, found(pipeline.output_dir.parent), pipeline.output_dir.parent)


def recorded(record: Path) -> tuple[dict[str, int], set[str]]:
    """Return how often each step was passed, and those that workers passed."""
    steps: dict[str, int] = {}
    of_workers = set()
    for line in record.read_text().splitlines():
        role, step = line.split("\t")
        steps[step] = steps.get(step, 0) + 1
        if role == "worker":
            of_workers.add(step)
    return steps, of_workers


def faults(task: Task, known: Known, walked: set[str]) -> Iterator[Fault]:
    """Yield the faults of a task: all of them at each step that no task before it passes, and one at each other step.
    walked: the steps that tasks before it pass; the task's are added.
    """
    for step in sorted(known.steps):
        of_step = list(_at(task, step, known))
        yield from random.Random(f"{task.name} {step}").sample(of_step, 1) if step in walked else of_step
    walked.update(known.steps)


def _at(task: Task, step: str, known: Known) -> Iterator[Fault]:
    is_changing, is_database = (step.startswith(calls) for calls in (CHANGING, _DATABASE))
    kills = ["kill", *(["kill worker"] if step in known.of_workers else [])]
    errors = ["error"] if is_database else list(_ERRORS) if is_changing else ["EIO", "EACCES"]
    yield from (Fault(task.name, step, "before", kind) for kind in errors + kills)
    if is_changing or is_database:
        yield from (Fault(task.name, step, "after", kind) for kind in errors[:1] + kills)
    if is_changing and known.steps[step] > 2:  # once more, in the middle
        middle = known.steps[step] // 2 + 1
        yield from (Fault(task.name, step, "before", kind, middle) for kind in errors[:1] + kills[:1])
    if task.is_slow and (is_changing or is_database):
        yield Fault(task.name, step, "before", "delay")


def outcome(task: Task, known: Known, fault: Fault, folder: Path, runs: WarmRuns) -> str:
    """Run a task with a fault, then without; return how the first run ended. Fails if anything is not as promised."""
    pipeline = prepared(task, folder)
    work, record = pipeline.output_dir.parent, folder / "record"
    process = runs.start(pipeline, task.command(pipeline), failpoint(pipeline, record, fault))
    seen: dict[tuple[str, str], bytes] = {}
    watcher = threading.Thread(target=_watch, args=(work, known, process, seen))
    watcher.start()
    said = process.said()
    kill_session(process)
    watcher.join()
    code, there = process.returncode, found(work)
    for (name, _), content in seen.items():
        is_in_part = code == 30 and is_all_but_failed(work, name, content, (known.work / name).read_bytes())
        assert is_in_part, f"{fault}: seen under its final name while it was not whole: {name}"
    assert "Traceback" not in said and "Uncaught" not in said, f"{fault}: {said}"
    for name, checksum in there.items():
        is_whole = known.is_whole(name, checksum) or (name, checksum) in seen
        assert is_whole or name.endswith(("index.csv", "condition.json")), f"{fault}: {name} is half written"
    is_done = task.is_done is None or task.is_done(_name(work))
    if code == 0:
        assert there == known.after and is_done, f"{fault}: ended with 0, and not all is done"
    if not Path(f"{record}.struck").exists():
        assert code == 0, f"{fault}: not reached, and ended with {code}: {said}"
        shutil.rmtree(folder)
        return "not reached"
    assert code in _allowed(fault), f"{fault}: ended with {code}: {said}"
    assert code in (0, -9) or said.strip(), f"{fault}: ended with {code} without a word"
    if task.is_done is None or not is_done:
        _complete(task, known, fault, pipeline, runs)
    shutil.rmtree(folder)
    return "killed" if code == -9 else f"exit {code}"


def _allowed(fault: Fault) -> tuple[int, ...]:
    """Return the true exit codes."""
    if fault.kind == "kill":
        return (-9,)
    # to some file systems, "permission denied" means that another process has the lock
    is_lock = fault.kind == "EACCES" and fault.step.startswith("lock")
    return (0, 10, 30, 35) if is_lock else (0, 30, 35)


def _complete(task: Task, known: Known, fault: Fault, pipeline: Pipeline, runs: WarmRuns) -> None:
    """Run a task again after a fault: it completes the rest, and does nothing again that is finished."""
    work = pipeline.output_dir.parent
    done = {
        name: (work / name).stat()
        for name, checksum in found(work).items()
        if name.startswith("out/markets") and checksum == known.after[name]
    }
    last = runs.start(pipeline, task.command(pipeline))
    said = last.said()
    assert last.returncode == 0, f"{fault}: the next run ended with {last.returncode}: {said}"
    assert task.is_done is None or task.is_done(_name(work)), f"{fault}: not all is there after the next run"
    now = found(work)
    assert now == known.after, f"{fault}: after the next run: {_difference(now, known.after)}"
    assert not list(work.rglob("*.tmp")), f"{fault}: left over"
    assert_sums(work)
    for name, stat in done.items():
        now_stat = (work / name).stat()
        is_same = (stat.st_ino, stat.st_mtime_ns) == (now_stat.st_ino, now_stat.st_mtime_ns)
        assert is_same, f"{fault}: {name} was written again"


def failpoint(pipeline: Pipeline, record: Path, fault: Fault | None = None) -> dict[str, Any]:
    """Return what TICK_EXPORT_FAILPOINT says."""
    strike = {} if fault is None else dataclasses.asdict(fault)
    return {"under": str(pipeline.output_dir.parent), "record": str(record)} | strike


def _watch(work: Path, known: Known, process: WarmRun, seen: dict[tuple[str, str], bytes]) -> None:
    """Look at the market files and CSVs as long as the run works; keep what is neither as before nor as afterwards."""
    is_over = False
    while not is_over:
        is_over = process.poll() is not None  # look once more then
        for folder, folders, names in os.walk(work):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder) / name
                if path.suffix in (".parquet", ".jsonl", ".csv", ".bz2") and name != "index.csv" and name[0] != ".":
                    try:
                        content = path.read_bytes()
                    except OSError:
                        continue
                    full, checksum = str(path.relative_to(work)), hashlib.sha256(content).hexdigest()
                    if not known.is_whole(full, checksum):
                        seen[full, checksum] = content
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)


def _difference(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
