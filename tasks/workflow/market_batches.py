"""Batches: markets that luigid shows one by one and that are exported together, in which a market fails alone."""

import abc
import json
from collections.abc import Sequence
from typing import Any

from luigi.task_register import load_task
from luigi.task_status import DONE, FAILED, PENDING, RUNNING
from luigi.worker import Worker

from tasks.workflow.base_task import ExportTask
from tasks.workflow.parameters import MarketIdParameter


class MarketsNode(ExportTask):
    """A task that exports some markets."""

    @abc.abstractmethod
    def market_ids(self) -> tuple[str, ...]:
        """Return the markets to export."""

    @abc.abstractmethod
    def failures(self) -> dict[str, str]:
        """Return why markets of this task failed in this run; a later task reports them."""

    @abc.abstractmethod
    def is_open(self, market_id: str) -> bool:
        """Return whether a market is neither written nor failed."""


class BatchNode(MarketsNode):
    """A task that exports several markets together."""

    #: The markets of a batch; empty in a task that finds its markets itself.
    batched: tuple[str, ...] = ()


class MarketNode(MarketsNode):
    """A task that exports one market, alone or in a batch with others of its kind."""

    #: The class of a batch of these.
    batch_class: type[BatchNode]

    market_id = MarketIdParameter(
        description="Betfair market id, such as 1.200806927",
        # so that Luigi treats it as a parameter with many values in a batch; BatchWorker creates the batch
        batch_method=tuple,
    )

    def batch(self, market_ids: Sequence[str], batch_id: str) -> BatchNode:
        """Return the task that exports markets together, including this one."""
        task: BatchNode = self.clone(
            self.batch_class,
            group=f"batch {batch_id[:8]}",
            first_market=min(market_ids),
            last_market=max(market_ids),
            markets=len(market_ids),
        )
        task.batched = tuple(market_ids)
        return task


class BatchWorker(Worker):
    """Luigi's worker, with batches that have a name of their own and in which markets fail one by one.

    Luigi gives all tasks of a batch the status with which it ends. Here a market that failed in it is FAILED, with its
    reason, and one that was written is DONE even if the batch fails. A task that requires a failed market (the index)
    runs without it: the market is removed from the task's dependencies, and added again for the graph once it has run.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._members: dict[str, dict[str, str]] = {}  # by batch: market id -> task id
        self._consumers: dict[str, dict[str, Any]] = {}  # what the scheduler was told of each task with dependencies
        self._let_go: dict[str, set[str]] = {}  # by task: the dependencies it no longer waits for

    def _get_work_task_id(self, response: Any) -> str | None:
        """Return the task that the scheduler assigns; begin a batch if it assigns several."""
        if response.get("task_id") is not None or "batch_id" not in response:
            return super()._get_work_task_id(response)  # type: ignore[no-any-return]
        module, family, values = (response[key] for key in ("task_module", "task_family", "task_params"))
        market_ids, task_ids = values["market_id"], response["batch_task_ids"]
        first: MarketNode = load_task(module, family, values | {"market_id": market_ids[0]})
        batch = first.batch(market_ids, response["batch_id"])
        self._scheduled_tasks[batch.task_id] = batch
        self._members[batch.task_id] = dict(zip(market_ids, task_ids, strict=True))
        self._add_task_history.append((batch, PENDING, True))
        self._scheduler.add_task(
            worker=self._id,
            task_id=batch.task_id,
            module=batch.task_module,
            family=batch.task_family,
            params=batch.to_str_params(),
            param_visibilities=batch._get_param_visibilities(),
            status=RUNNING,
            batch_id=response["batch_id"],
        )
        return batch.task_id  # type: ignore[no-any-return]

    def _add_task(self, *arguments: Any, **said: Any) -> None:
        """Tell the scheduler that a task is to be run, or how it has ended."""
        task_id, status = said["task_id"], said["status"]
        if said.get("deps"):
            self._consumers[task_id] = said
        elif status in (DONE, FAILED) and task_id in self._consumers:
            said["deps"] = self._consumers[task_id]["deps"]
        task = self._scheduled_tasks.get(task_id)
        if isinstance(task, BatchNode) and task_id in self._members and status in (DONE, FAILED):
            self._end_batch(task, *arguments, **said)
        elif isinstance(task, MarketNode) and status == DONE and (failures := task.failures()):
            self._fail(*failures.popitem(), said)
        else:
            super()._add_task(*arguments, **said)

    def _end_batch(self, batch: BatchNode, *arguments: Any, **said: Any) -> None:
        members, failures = self._members.pop(batch.task_id), batch.failures()
        written = {
            market_id
            for market_id in members
            if said["status"] == FAILED and market_id not in failures and not batch.is_open(market_id)
        }
        apart = {members[market_id] for market_id in {*failures, *written}}
        self._batch_running_tasks[batch.task_id] = [
            self._scheduled_tasks[task_id]
            for task_id in members.values()
            if task_id in self._scheduled_tasks and task_id not in apart
        ]
        super()._add_task(*arguments, **said)
        for market_id, reason in failures.items():
            self._fail(market_id, reason, {"worker": self._id, "task_id": members[market_id], "runnable": None})
        for market_id in written:
            super()._add_task(worker=self._id, task_id=members[market_id], status=DONE, runnable=None)

    def _fail(self, market_id: str, reason: str, said: dict[str, Any]) -> None:
        """Show a market as failed; tasks that require it no longer wait for it. said: about its task, without
        its end.
        """
        task_id = said["task_id"]
        for consumer, first_said in self._consumers.items():
            let_go = self._let_go.setdefault(consumer, set())
            if task_id in first_said["deps"] and task_id not in let_go:
                let_go.add(task_id)
                left = [needed for needed in first_said["deps"] if needed not in let_go]
                self._scheduler.add_task(**first_said | {"deps": left})
        super()._add_task(**said | {"status": FAILED, "expl": json.dumps(f"Market {market_id}: {reason}")})
