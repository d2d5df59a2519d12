"""The faults at every step of every task: which there are, and what a run makes of one (injected/sitecustomize.py)."""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import Pipeline
from tests.faults.hindrances import kill_session
from tests.faults.random_strikes import assert_sums, found

_INJECTED = Path(__file__).with_name("injected")
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
    """A command line, and the directory that it starts from (None: none). is_slow: whether delays are tried, too."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = dataclasses.field(hash=False)
    start: Path | None = None
    is_slow: bool = False


@dataclasses.dataclass
class Known:
    """What a task does if nothing happens. steps: how often each is passed, by parent and workers together; of_workers:
    those that workers pass; before, after: the files.
    """

    steps: dict[str, int]
    of_workers: set[str]
    before: dict[str, str]
    after: dict[str, str]


def prepared(task: Task, folder: Path) -> Pipeline:
    """Return the task's pipeline in a new folder."""
    pipeline = Pipeline(folder / "work" / "out", task.environment)
    pipeline.output_dir.parent.mkdir(parents=True)
    if task.start is not None:
        shutil.copytree(task.start, pipeline.output_dir.parent, copy_function=shutil.copy2, dirs_exist_ok=True)
    return pipeline


def undisturbed(task: Task, folder: Path) -> Known:
    """Run a task and record its steps."""
    pipeline = prepared(task, folder)
    before = found(pipeline.output_dir.parent)
    result = pipeline.run(*task.arguments, **_environment(pipeline, folder / "record"))
    assert result.returncode == 0, f"{task.name}: {result.stderr}"
    steps: dict[str, int] = {}
    of_workers = set()
    for line in (folder / "record").read_text().splitlines():
        role, step = line.split("\t")
        steps[step] = steps.get(step, 0) + 1
        if role == "worker":
            of_workers.add(step)
    return Known(steps, of_workers, before, found(pipeline.output_dir.parent))


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


def outcome(task: Task, known: Known, fault: Fault, folder: Path) -> str:
    """Run a task with a fault, then without; return how the first run ended. Fails if anything is not as promised."""
    pipeline = prepared(task, folder)
    work, record = pipeline.output_dir.parent, folder / "record"
    process = pipeline.start(*task.arguments, **_environment(pipeline, record, fault))
    half: list[str] = []
    watcher = threading.Thread(target=_watch, args=(work, known, process, half))
    watcher.start()
    said = process.communicate()[1]
    kill_session(process)
    watcher.join()
    assert not half, f"{fault}: seen under their final names while they were not whole: {half}"
    assert "Traceback" not in said and "Uncaught" not in said, f"{fault}: {said}"
    there = found(work)
    for name, checksum in there.items():
        is_whole = checksum in (known.before.get(name), known.after.get(name))
        assert is_whole or name.endswith(("index.csv", "condition.json")), f"{fault}: {name} is half written"
    if process.returncode == 0:
        assert there == known.after, f"{fault}: ended with 0, and not all is done"
    if not Path(f"{record}.struck").exists():
        assert process.returncode == 0, f"{fault}: not reached, and ended with {process.returncode}: {said}"
        return "not reached"
    allowed = (-9,) if fault.kind == "kill" else (0, 30, 35)
    assert process.returncode in allowed, f"{fault}: ended with {process.returncode}: {said}"
    done = {
        name: (work / name).stat()
        for name in there
        if name.startswith("out/markets") and there[name] == known.after[name]
    }
    last = pipeline.run(*task.arguments)
    assert last.returncode == 0, f"{fault}: the next run ended with {last.returncode}: {last.stderr}"
    assert found(work) == known.after, f"{fault}: after the next run: {_difference(found(work), known.after)}"
    assert not list(work.rglob("*.tmp")), f"{fault}: left over"
    assert_sums(work)
    for name, stat in done.items():
        now = (work / name).stat()
        assert (stat.st_ino, stat.st_mtime_ns) == (now.st_ino, now.st_mtime_ns), f"{fault}: {name} was written again"
    shutil.rmtree(folder)
    return "killed" if process.returncode == -9 else f"exit {process.returncode}"


def _environment(pipeline: Pipeline, record: Path, fault: Fault | None = None) -> dict[str, str]:
    strike = {} if fault is None else dataclasses.asdict(fault)
    failpoint = {"under": str(pipeline.output_dir.parent), "record": str(record)} | strike
    return {"TICK_EXPORT_FAILPOINT": json.dumps(failpoint), "PYTHONPATH": str(_INJECTED)}


def _watch(work: Path, known: Known, process: "subprocess.Popen[str]", half: list[str]) -> None:
    """Look at the market files and CSVs as long as the run works; note those that are not whole."""
    while process.poll() is None:
        for folder, folders, names in os.walk(work):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder) / name
                if path.suffix in (".parquet", ".jsonl", ".csv", ".bz2") and name != "index.csv" and name[0] != ".":
                    try:
                        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
                    except OSError:
                        continue
                    full = str(path.relative_to(work))
                    if checksum not in (known.before.get(full), known.after.get(full)):
                        half.append(full)
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def _difference(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
