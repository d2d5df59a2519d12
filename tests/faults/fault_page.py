"""Writes docs/faults.md: what the faults at every step came to."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.conftest import ROOT
from tests.faults.failpoints import Fault

PAGE = ROOT / "docs" / "faults.md"
#: The kinds of faults, a column each.
_KINDS = ("EIO", "ENOSPC", "EACCES", "error", "kill", "kill worker", "delay")
_HEAD = """\
# Faults

This page is written by `./run_pipeline.sh test --faults`. It starts each task, lets one thing go wrong, and looks at
what is left:

- Nothing half written ever has a final name, neither during the run nor after it.
- The exit code is true: 0 only if everything is done. There is no traceback. A run that ends with 0 in spite of a fault
  did the step again, or did without, as with `metrics.prom`.
- A plain run afterwards completes the rest. All files then have the bytes of an undisturbed run, nothing temporary is
  left over, and no market file that was finished is written again.

**{count:,} different faults** at {steps} steps of {tasks} command lines: {ends}.
All of them ended as promised. The default tests try a tenth of them, always the same.

## What goes wrong

| fault | | tried | how the run ended |
|---|---|---|---|
{kinds}

An error *after* a step means that the step took effect and was reported as failed: an answer that got lost.

## Where

The steps are all calls that change or read something below the directories of the run, and all questions to the
database. A number is how many faults were tried there, over all tasks, before and after the step. `M` is a market,
`D` a date, `N` a number.

{by_step}
## Other attacks

| attack | in `tests/faults` |
|---|---|
| errors of the system from outside, by `strace`, at every file and call | `test_system_errors.py` |
| the power is cut, and what was not flushed is gone (a FUSE file system) | `test_lost_writes.py` |
| the connection is cut, reset or slowed down at 100 points | `test_connections.py` |
| rows are inserted and updated at full speed during the run | `test_writer.py` |
| a silent server; Ctrl-C, `kill`, `systemctl stop` in every wait | `test_waits.py`, `test_waits_of_workers.py` |
| every byte of a market file flipped | `test_walk.py` |
| a full disk from the first write on, and later | `test_full_disk.py`, `test_faults.py` |
| a standby that cancels queries; settings of the server | `test_standby.py`, `test_settings.py` |
| the protections taken out, one by one: the tests notice | `test_protections.py` |
| kills and cuts at random moments, on a database of any size | `python -m tests.faults.random_strikes` |

## What is not survived

- **A disk that loses or changes what it has flushed.** A changed market file is found by its checksum: it is set
  aside and exported again as long as the database has its ticks, and named in every run if not. A network file system
  that confirms a write before it is stored is such a disk.
- **Rows that the database drops before they are exported.** The report warns before partitions are dropped.
- **Clocks that are wrong in the same way here and on the server.** The earlier of both decides what is settled. If
  both are ahead, a day may be taken for over too early.
- **Files that another program changes while they are read.** The next run finds that they differ.
"""
_MEANS = {
    "EIO": "an I/O error",
    "ENOSPC": "no space left",
    "EACCES": "permission denied",
    "error": "the connection to the database is lost",
    "kill": "`kill -9` of all processes of the run",
    "kill worker": "`kill -9` of the worker that takes the step",
    "delay": "the step takes five seconds longer",
}
#: The first words of steps, and what they are.
_CALLS = {
    "create": "A file is created, or opened to be written",
    "write": "A file is written",
    "flush": "A file or directory is flushed to disk",
    "replace": "A file gets its final name",
    "rename": "A file is renamed",
    "remove": "A file is removed",
    "mkdir": "A directory is created",
    "rmdir": "A directory is removed",
    "utime": "A file's time is set",
    "lock": "The directory is locked",
    "stat": "A file's size and time are asked for",
    "scandir": "A directory is listed",
    "listdir": "The names in a directory are listed",
    "read": "A file is opened to be read",
    "connect": "A connection is made",
    "ask": "The database is asked",
    "copy": "Rows are read",
    "commit": "A transaction is committed",
    "roll back": "A transaction is rolled back",
}


def page(ends: Mapping[Fault, str]) -> str:
    """Return the page. ends: how each run with a fault ended."""
    reached = {fault: end for fault, end in ends.items() if end != "not reached"}
    kinds: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    steps: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    endings: dict[str, Counter[str]] = defaultdict(Counter)
    for fault, end in reached.items():
        kinds[fault.kind, fault.when][end] += 1
        call, what = _divided(fault.step)
        steps[call][what][fault.kind] += 1
        endings[fault.step][end] += 1
    by_step = []
    for call, title in _CALLS.items():
        if call in steps:
            used = [kind for kind in _KINDS if any(found[kind] for found in steps[call].values())]
            names = ["lost connection" if kind == "error" else kind for kind in used]
            rows = [
                [f"`{what}`", *(str(found[kind] or "") for kind in used), _told(endings[f"{call} {what}"])]
                for what, found in sorted(steps[call].items())
            ]
            by_step.append(f"### {title}\n\n" + _table(["", *names, "how the run ended"], rows))
    return _HEAD.format(
        count=len(reached),
        steps=sum(len(found) for found in steps.values()),
        tasks=len({fault.task for fault in reached}),
        ends=_told(Counter(reached.values())),
        kinds="\n".join(
            f"| {_MEANS[kind]} | {when} the step | {found.total():,} | {_told(found)} |"
            for (kind, when), found in sorted(
                kinds.items(), key=lambda item: (_KINDS.index(item[0][0]), item[0][1] == "after")
            )
        ),
        by_step="\n".join(by_step),
    )


def listed() -> set[str]:
    """Return the steps on the page as it is."""
    calls = {title: call for call, title in _CALLS.items()}
    found, call = set(), ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("### "):
            call = calls[line[4:]]
        elif line.startswith("| `") and call:
            found.add(f"{call} {line.split('`')[1]}")
        elif line.startswith("## "):
            call = ""
    return found


def _divided(step: str) -> tuple[str, str]:
    """Return a step's call and what it is done to."""
    call = max((call for call in _CALLS if step.startswith(f"{call} ")), key=len)
    return call, step[len(call) + 1 :]


def _table(names: list[str], rows: list[list[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _told(found: Counter[str]) -> str:
    """Return how often which end."""
    return ", ".join(f"{end} ({count:,})" for end, count in sorted(found.items()))
