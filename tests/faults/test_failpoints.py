"""Every step of every task fails, is killed or delayed: nothing is lost or half written, and the next run completes."""

import concurrent.futures
import itertools
import json
import os
import shutil
import tarfile
import traceback
import zlib
from collections import Counter

import pytest

from tests.conftest import ROOT, Pipeline, fill, new_source
from tests.faults import failpoints, fault_page
from tests.faults.failpoints import Fault, Task
from tests.faults.warm_runs import INJECTED, warm_runs

_SEED = 22
#: So many different faults are to be tried with --faults.
_AT_LEAST = 1000


@pytest.fixture(scope="module")
def tasks(server, tmp_path_factory):
    """The tasks, and what they start from."""
    folder = tmp_path_factory.mktemp("starts")
    quiet, growing = fill(new_source(server)), fill(new_source(server))

    def made(name, source, *commands):
        pipeline = Pipeline(folder / name / "out", source.environment)
        (pipeline.output_dir.parent / "published").mkdir(parents=True)  # Publish wants a folder that is there
        for command in commands:
            result = pipeline.run(*[word.format(work=pipeline.output_dir.parent) for word in command])
            assert result.returncode == 0, result.stderr
        return pipeline.output_dir.parent

    exported = made("exported", quiet, ("ExportAll",))
    published = made("published", quiet, ("ExportAll",), ("Publish", "--to", "file://{work}/published"))
    shutil.rmtree(published / "out")
    empty = new_source(server, schema=False)
    counts = [
        quiet.query(f"SELECT count(*) FROM stream_ingest.{table}")[0][0] for table in ("ladder_levels", "traded_volume")
    ]

    def is_restored(name):
        if not empty.query(f"SELECT 1 FROM pg_class WHERE relnamespace::regnamespace::text = '{name}'"):
            return False
        for table, count in zip(("ladder_levels", "traded_volume"), counts, strict=True):
            assert empty.query(f"SELECT count(*) FROM {name}.{table}") == [(count,)]
        return True

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
        Task("PlotMarket", ("PlotMarket", "--offline", "--market-id", "1.101"), quiet.environment, exported),
        Task(
            "ConsolidateRange",
            ("ConsolidateRange", "--offline", "--from", "2026-02-05", "--to", "2026-02-06", "--workers", "2"),
            quiet.environment,
            exported,
        ),
        Task("UpgradeExport", ("UpgradeExport", "--offline"), quiet.environment, of_version_1(folder / "version 1")),
        Task("Publish", ("Publish", "--offline", "--to", "file://{work}/published"), quiet.environment, with_day),
        Task("Fetch", ("Fetch", "--from", "file://{work}/published"), quiet.environment, published),
        Task("Restore", ("Restore", "--schema", "{name}"), empty.environment, exported, is_done=is_restored),
    ]


def of_version_1(folder):
    """Unpack an export of format version 1."""
    with tarfile.open(ROOT / "tests" / "golden" / "0.1.0_parquet.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    (folder / "parquet").rename(folder / "out")
    return folder


@pytest.fixture(scope="module")
def runs():
    """What starts runs."""
    with warm_runs() as started:
        yield started


@pytest.fixture(scope="module")
def knowns(tasks, runs, tmp_path_factory):
    """What each task does undisturbed, by its name."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {task.name: failpoints.undisturbed(task, folder / task.name, runs) for task in tasks}


def test_a_warm_run_takes_the_steps_of_any_other(tasks, knowns, tmp_path):
    for name in ("ConsolidateDay", "Report"):
        (task,) = (each for each in tasks if each.name == name)
        pipeline, record = failpoints.prepared(task, tmp_path / name), tmp_path / f"record of {name}"
        environment = {
            "TICK_EXPORT_FAILPOINT": json.dumps(failpoints.failpoint(pipeline, record)),
            "PYTHONPATH": str(INJECTED),
        }
        assert pipeline.run(*task.command(pipeline), **environment).returncode == 0
        assert failpoints.recorded(record)[0].keys() == knowns[name].steps.keys()


def test_a_fault_at_every_step(request, tasks, knowns, runs, tmp_path):
    walked = set()
    wanted = [(task, fault) for task in tasks for fault in failpoints.faults(task, knowns[task.name], walked)]
    is_all = request.config.getoption("--faults")
    if not is_all:
        # by what each is, not by its place: how often a step is passed differs a little from run to run
        wanted = [(task, fault) for task, fault in wanted if zlib.crc32(f"{_SEED} {fault}".encode()) % 10 == 0]
    wrong, numbers = [], itertools.count()

    def tried(pair):
        task, fault = pair
        try:
            return failpoints.outcome(task, knowns[task.name], fault, tmp_path / f"fault {next(numbers)}", runs)
        except Exception:
            wrong.append(f"{fault}: {traceback.format_exc(limit=-1)}")
            print(wrong[-1])
            return "wrong"

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1) as pool:
        ends = {fault: end for (_, fault), end in zip(wanted, pool.map(tried, wanted), strict=True)}
    print(len(ends), Counter(ends.values()))
    assert not wrong, f"{len(wrong)} of {len(ends)} faults:\n" + "\n".join(wrong[:20])
    reached = Counter(end == "not reached" for end in ends.values())
    assert reached[True] < len(ends) / 10
    if is_all:
        assert reached[False] >= _AT_LEAST
        fault_page.PAGE.write_text(fault_page.page(ends))


def test_the_page_lists_the_steps(knowns):
    steps = {step for known in knowns.values() for step in known.steps}
    missing = steps - fault_page.listed()
    # which steps a run takes depends a little on which worker is faster
    assert len(missing) < len(steps) / 20, f"run ./run_pipeline.sh test --faults: {sorted(missing)}"


@pytest.mark.parametrize(
    ("task", "step", "kind"),
    [
        ("ExportAll", "read out/markets/marketId=M_metadata.json", "EACCES"),  # ended with 0 and a false condition
        ("BuildStreams", "stat out/execution_report.txt", "EACCES"),  # a traceback
        ("Report", "read out/.journal/report.state", "EACCES"),  # ended with 0 and forgot which days have no ticks
        ("Report", "read out/index.csv", "EIO"),
        ("Archive", "stat out/report.html", "EACCES"),  # a traceback
        ("PlotMarket", "read out/plots/marketId=M.html", "EACCES"),  # a traceback
        # ended with 0, and what the database lists without ticks was missing for good
        ("ExportAll", "ask known_markets.without_ticks for judging.without_ticks", "error"),
        ("ConsolidateDay", "ask database.newest for judging.without_ticks", "error"),
    ],
)
def test_what_cannot_be_read_fails_the_task(tasks, knowns, runs, tmp_path, task, step, kind):
    (its,) = (each for each in tasks if each.name == task)
    assert step in knowns[task].steps
    assert (
        failpoints.outcome(its, knowns[task], Fault(task, step, "before", kind), tmp_path / "fault", runs) == "exit 30"
    )
