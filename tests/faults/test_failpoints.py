"""Every step of every task fails, is killed or delayed: nothing is lost or half written, and the next run completes."""

import concurrent.futures
import itertools
import os
import random
import traceback
from collections import Counter

import pytest

from tests.conftest import Pipeline, fill, new_source
from tests.faults import failpoints
from tests.faults.failpoints import Fault, Task

_SEED = 22


@pytest.fixture(scope="module")
def tasks(server, tmp_path_factory):
    """The tasks, and what they start from."""
    folder = tmp_path_factory.mktemp("starts")
    quiet, growing = fill(new_source(server)), fill(new_source(server))

    def made(name, source, *commands):
        pipeline = Pipeline(folder / name / "out", source.environment)
        pipeline.output_dir.parent.mkdir()
        for command in commands:
            result = pipeline.run(*command)
            assert result.returncode == 0, result.stderr
        return pipeline.output_dir.parent

    exported = made("exported", quiet, ("ExportAll",))
    old = made("old", growing, ("ExportAll",))
    growing.message("1.101", "2026-02-05 15:00:00.5+00")
    with_day = made("with day", quiet, ("ExportAll",), ("ConsolidateDay", "--date", "2026-02-05"))
    return [
        Task("ExportAll", ("ExportAll", "--workers", "2"), quiet.environment, is_slow=True),
        Task("refresh", ("ExportAll",), growing.environment, old),
        Task("ConsolidateDay", ("ConsolidateDay", "--date", "2026-02-05"), quiet.environment, is_slow=True),
        Task("day, refreshed", ("ConsolidateDay", "--date", "2026-02-05"), growing.environment, old),
        Task("ConsolidateDayDirect", ("ConsolidateDayDirect", "--date", "2026-02-05"), quiet.environment),
        Task(
            "ConsolidateAll",
            ("ConsolidateAll", "--partition-by-month", "--partition-threshold-gb", "1e-9"),
            quiet.environment,
            exported,
        ),
        Task("Archive", ("Archive",), quiet.environment, with_day),
        Task("VerifyExport", ("VerifyExport",), quiet.environment, with_day),
        Task("BuildIndex", ("BuildIndex",), growing.environment, old),
        Task("BuildMetadata", ("BuildMetadata",), growing.environment),
        Task("BuildStates", ("BuildStates",), quiet.environment, exported),
        Task("BuildStreams", ("BuildStreams",), quiet.environment, exported),
        Task("BuildRunnerSummary", ("BuildRunnerSummary",), quiet.environment, exported),
        Task("BuildCatalogue", ("BuildCatalogue", "--offline"), quiet.environment, exported),
        Task("Report", ("Report", "--offline"), quiet.environment, exported),
    ]


def one_at_each_step_first(wanted):
    """Return the faults in another order."""
    first = {(fault.task, fault.step): (task, fault) for task, fault in reversed(wanted)}
    return [*first.values(), *(pair for pair in wanted if pair != first[pair[1].task, pair[1].step])]


def test_a_fault_at_every_step(request, tmp_path):
    if not request.config.getoption("--faults"):
        pytest.skip("part of --faults")
    knowns, wanted, walked = {}, [], set()
    for task in request.getfixturevalue("tasks"):
        knowns[task.name] = failpoints.undisturbed(task, tmp_path / f"undisturbed {task.name}")
        wanted += [(task, fault) for fault in failpoints.faults(task, knowns[task.name], walked)]
    count = request.config.getoption("--faults-at-most") or len(wanted)
    if count < len(wanted):
        wanted = one_at_each_step_first(random.Random(_SEED).sample(wanted, len(wanted)))[:count]
    wrong, numbers = [], itertools.count()

    def tried(pair):
        task, fault = pair
        try:
            return failpoints.outcome(task, knowns[task.name], fault, tmp_path / f"fault {next(numbers)}")
        except Exception:
            wrong.append(f"{fault}: {traceback.format_exc(limit=-1)}")
            print(wrong[-1])
            return "wrong"

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        ends = {fault: end for (_, fault), end in zip(wanted, pool.map(tried, wanted), strict=True)}
    print(len(ends), Counter(ends.values()))
    assert not wrong, f"{len(wrong)} of {len(ends)} faults:\n" + "\n".join(wrong[:20])
    assert Counter(ends.values())["not reached"] < len(ends) / 10


@pytest.mark.parametrize(
    ("task", "step", "kind"),
    [
        ("ExportAll", "read out/markets/marketId=M_metadata.json", "EACCES"),  # ended with 0 and a false condition
        ("BuildStreams", "stat out/execution_report.txt", "EACCES"),  # a traceback
        ("Report", "read out/.journal/report.state", "EACCES"),  # ended with 0 and forgot which days have no ticks
        ("Report", "read out/index.csv", "EIO"),
    ],
)
def test_what_cannot_be_read_fails_the_task(tasks, tmp_path, task, step, kind):
    (its,) = (each for each in tasks if each.name == task)
    known = failpoints.undisturbed(its, tmp_path / "undisturbed")
    assert step in known.steps
    assert failpoints.outcome(its, known, Fault(task, step, "before", kind), tmp_path / "fault") == "exit 30"
