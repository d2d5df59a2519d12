"""The connection is struck at each of 100 points of what a run receives: the next run ends like an undisturbed one."""

import random

import pytest

from tests.conftest import Pipeline
from tests.faults.proxy import StrikingProxy
from tests.faults.random_strikes import found

POINTS = 100


@pytest.fixture(scope="module")
def commands(recorded):
    """The commands that are struck."""
    day = ("--date", recorded.day)
    return {
        "ExportAll": ("ExportAll", "--workers", "2"),
        "ConsolidateDay": ("ConsolidateDay", *day),
        "ConsolidateDayDirect": ("ConsolidateDayDirect", *day),
    }


@pytest.fixture(scope="module")
def undisturbed(recorded, commands, tmp_path_factory):
    """What each command writes, and how many bytes it receives."""
    known = {}

    def undisturbed(task):
        if task not in known:
            pipeline = Pipeline(tmp_path_factory.mktemp("undisturbed") / "out", recorded.environment)
            with StrikingProxy(recorded.server.port) as proxy:
                result = pipeline.run(*commands[task], POSTGRES_PORT=str(proxy.port))
            assert result.returncode == 0, result.stderr
            known[task] = found(pipeline.output_dir), proxy.passed
        return known[task]

    return undisturbed


@pytest.mark.parametrize("strike", StrikingProxy.STRIKES)
@pytest.mark.parametrize("task", ["ExportAll", "ConsolidateDay", "ConsolidateDayDirect"])
def test_a_connection_that_is_struck(is_walk, recorded, commands, undisturbed, tmp_path, task, strike):
    expected, received = undisturbed(task)
    points = range(POINTS) if is_walk else random.Random(f"{task} {strike}").sample(range(POINTS), 1)
    for point in points:
        pipeline = Pipeline(tmp_path / str(point) / "out", recorded.environment)
        pipeline.output_dir.parent.mkdir()
        with StrikingProxy(recorded.server.port, received * point // POINTS, strike) as proxy:
            result = pipeline.run(*commands[task], POSTGRES_PORT=str(proxy.port))
        where = f"{strike} after {received * point // POINTS} of {received} bytes: {result.stderr}"
        assert "Traceback" not in result.stderr and "Uncaught" not in result.stderr, where
        assert result.returncode in ((0,) if strike == "trickle" else (0, 30, 35)), where
        of_a_part = {} if result.returncode == 0 else {"index.csv": "", "condition.json": ""}
        assert {**found(pipeline.output_dir), **of_a_part}.items() <= {**expected, **of_a_part}.items(), where
        if result.returncode == 0:
            assert found(pipeline.output_dir) == expected, where
        last = pipeline.run(*commands[task])
        assert last.returncode == 0, f"{where} {last.stderr}"
        assert found(pipeline.output_dir) == expected, where
        assert not list(pipeline.output_dir.rglob("*.tmp")), where
