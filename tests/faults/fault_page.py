"""Writes docs/faults.md from what the faults at every step came to."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.faults.failpoints import Fault

_HEAD = """\
# Faults

What was done to the pipeline, and what came of it. `./run_pipeline.sh test --faults` tries every fault below and
writes this page; the default tests try a tenth of them. After each fault:

- nothing half written stands under a final name, during the run or after it;
- the exit code is true: 0 only if everything is done. There is no traceback;
- a plain run completes, with the bytes of an undisturbed run, without leftovers, and without writing a finished
  market file again.

**{count:,} different faults** were tried at {steps} steps of {tasks} tasks: {ends}.

## Faults by kind

| fault | tried | how the run ended |
|---|---|---|
{kinds}

An error *after* a step means that the step took effect and was reported as failed. *kill* kills the run with all its
processes, *kill worker* only the process at the step. *delay* holds the step up for five seconds. At a step with the
database, *error* is a lost connection.

## Faults by step

All faults of a step are tried in the first task of this list that passes it, and one in each other task.

{by_step}
## Other attacks

| attack | in `tests/faults` |
|---|---|
| errors of the system from outside, by `strace`, at every file and call | `test_system_errors.py` |
| the power is cut, and what was not flushed is gone (a FUSE file system) | `test_lost_writes.py` |
| the connection is cut, reset or slowed down at 100 points | `test_connections.py` |
| a silent server; Ctrl-C, `kill`, `systemctl stop` in every wait | `test_waits.py`, `test_waits_of_workers.py` |
| every byte of a market file flipped | `test_walk.py` |
| a full disk from the first write on, and later | `test_full_disk.py`, `test_faults.py` |
| a standby that cancels queries; settings of the server | `test_standby.py`, `test_settings.py` |
| each of ten protections taken out: the tests notice | `test_protections.py` |
| kills and cuts at random moments, on a database of any size | `python -m tests.faults.random_strikes` |

## What is not survived

- **A disk that loses or changes what it has flushed.** Nothing can be written about it in time. A changed market file
  is found by its checksum: it is set aside and exported again as long as the database has its ticks, and named in
  every run if not. A network file system that answers before it has written is such a disk.
- **Rows that the database drops before they are exported.** The report warns before partitions are dropped.
- **A clock that is wrong here and on the server.** What counts as settled is then wrong; the earlier clock is used.
- **Files that another program changes while they are read.** The next run finds that they differ.
"""


def page(ends: Mapping[Fault, str]) -> str:
    """Return the page. ends: how each run with a fault ended."""
    reached = {fault: end for fault, end in ends.items() if end != "not reached"}
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    steps: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for fault, end in reached.items():
        kinds[f"{fault.kind} {fault.when}"][end] += 1
        steps[fault.task][fault.step][end] += 1
    by_step = [
        f"### {task}\n\n| step | faults | how the run ended |\n|---|---|---|\n"
        + "".join(f"| {step} | {found.total()} | {_told(found)} |\n" for step, found in sorted(of_task.items()))
        for task, of_task in steps.items()
    ]
    return _HEAD.format(
        count=len(reached),
        steps=sum(map(len, steps.values())),
        tasks=len(steps),
        ends=_told(Counter(reached.values())),
        kinds="\n".join(f"| {kind} | {found.total():,} | {_told(found)} |" for kind, found in sorted(kinds.items())),
        by_step="\n".join(by_step),
    )


def _told(found: Counter[str]) -> str:
    """Return how often which end."""
    return ", ".join(f"{end} ({count:,})" for end, count in sorted(found.items()))
