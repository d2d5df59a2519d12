"""Batches of markets in Luigi's scheduler, without a database: what fails is FAILED, what is written is DONE."""

import luigi
import pytest
from luigi.scheduler import Scheduler

from tasks.workflow.market_batches import BatchNode, BatchWorker, MarketNode

MARKETS = ("1.1", "1.2", "1.3", "1.4", "1.5", "1.6")


class World:
    """What the tasks of a test find and leave."""

    written: set[str] = set()
    failed: dict[str, str] = {}
    bad: set[str] = set()
    fatal: str | None = None
    order: list[str] = []


class Node:
    """What both kinds of task do."""

    def failures(self):
        return {market_id: World.failed[market_id] for market_id in self.market_ids() if market_id in World.failed}

    def is_open(self, market_id):
        return market_id not in World.written and market_id not in World.failed

    def complete(self):
        return not any(map(self.is_open, self.market_ids()))

    def work(self):
        World.order.append(self.task_family)
        for market_id in self.market_ids():
            if market_id == World.fatal:
                raise OSError("the connection is lost")
            if market_id in World.bad:
                World.failed[market_id] = "a row of it is bad"
            else:
                World.written.add(market_id)

    def run(self):  # without a directory
        self.work()


class ManyMarkets(Node, BatchNode):
    """A batch."""

    group = luigi.Parameter()
    first_market = luigi.Parameter(significant=False)
    last_market = luigi.Parameter(significant=False)
    markets = luigi.IntParameter(significant=False)

    def market_ids(self):
        return self.batched


class OneOfMany(Node, MarketNode):
    """A market."""

    batch_class = ManyMarkets
    max_batch_size = 3
    large = luigi.BoolParameter(default=False)

    @property
    def batchable(self):
        return not self.large

    def market_ids(self):
        return (self.market_id,)


class Index(luigi.Task):
    """What needs the markets."""

    def requires(self):
        return [OneOfMany(market_id=market_id, large=market_id == "1.6") for market_id in MARKETS]

    def complete(self):
        return False

    def run(self):
        World.order.append("Index")


@pytest.fixture
def statuses(monkeypatch):
    """A function that runs the tasks and returns the status of each market and of the index."""
    for name, value in {"written": set(), "failed": {}, "bad": set(), "fatal": None, "order": []}.items():
        monkeypatch.setattr(World, name, value)

    def run():
        scheduler = Scheduler()
        with BatchWorker(scheduler=scheduler, worker_processes=1) as worker:
            worker.add(Index())
            worker.run()
        tasks = scheduler.task_list()
        (index,) = (task_id for task_id, task in tasks.items() if task["name"] == "Index")
        graph = scheduler.dep_graph(index)
        shown = {task["params"]["market_id"]: task["status"] for task in graph.values() if task["name"] == "OneOfMany"}
        reasons = {
            task["params"]["market_id"]: scheduler.fetch_error(task_id)["error"]
            for task_id, task in tasks.items()
            if task["name"] == "OneOfMany" and task["status"] == "FAILED"
        }
        return shown, tasks[index]["status"], reasons, worker

    return run


def test_all_are_done_by_batches(statuses):
    shown, index, reasons, _ = statuses()
    assert (shown, index, reasons) == (dict.fromkeys(MARKETS, "DONE"), "DONE", {})
    assert sorted(World.order) == ["Index", "ManyMarkets", "ManyMarkets", "OneOfMany"]


@pytest.mark.parametrize("bad", [{"1.2"}, {"1.6"}, {"1.2", "1.3", "1.6"}, set(MARKETS)])
def test_bad_markets_fail_alone_and_the_index_is_made_of_the_others(statuses, bad):
    World.bad = bad
    shown, index, reasons, worker = statuses()
    assert shown == {market_id: "FAILED" if market_id in bad else "DONE" for market_id in MARKETS}
    assert index == "DONE" and World.order[-1] == "Index"
    assert reasons.keys() == bad and all(market_id in reasons[market_id] for market_id in bad)
    history = {(getattr(task, "market_id", ""), status) for task, status, _ in worker._add_task_history}
    assert {market_id for market_id, status in history if status == "FAILED"} == bad
    assert {market_id for market_id, status in history if status == "DONE" and market_id} == set(MARKETS) - bad


def test_of_a_batch_that_comes_to_grief_what_is_written_is_done(statuses):
    World.fatal = "1.2"
    shown, index, reasons, _ = statuses()
    assert {market_id for market_id, status in shown.items() if status == "DONE"} == World.written
    assert {market_id for market_id, status in shown.items() if status == "FAILED"} == set(MARKETS) - World.written
    assert World.written and "1.2" not in World.written and index == "PENDING" and "Index" not in World.order
    assert all("the connection is lost" in reason for reason in reasons.values())
