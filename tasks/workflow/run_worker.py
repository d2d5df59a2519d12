"""The worker of a run: it locks the output directory, so that no task has to."""

import contextlib
from collections.abc import Iterator
from typing import Any

import luigi.interface

from tasks.errors import NoScheduler
from tasks.workflow import directory_lock, luigid, run_context, run_metrics
from tasks.workflow.base_task import ExportTask
from tasks.workflow.exit_codes import determining, stop
from tasks.workflow.market_batches import BatchWorker
from tasks.workflow.worker_results import WorkerResults


class RunWorker(BatchWorker):
    """Luigi's worker, which locks the directory where Luigi would take its own lock (no_lock in luigi.cfg).

    It locks the directory, and creates it if necessary, before anything looks at it or at the database. A run that ends
    before its first task (no connection, no such export) removes it again. Under luigid the first task creates it.
    """

    _asked: Any = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._results = WorkerResults()
        self._task_result_queue = self._results  # type: ignore[assignment]

    def add(self, task: Any, multiprocess: bool = False, processes: int = 0) -> bool:
        """Schedule a task and what it needs."""
        if isinstance(task, ExportTask):
            with determining():
                task.claim(make=False)
                if not directory_lock.is_for_lock_alone(task.layout):
                    run_metrics.claimed(task.layout)
                self._asked = task
            run_context.current().asked_for[task.task_id] = task
        with _a_scheduler():
            return bool(super().add(task, multiprocess, processes))

    def _run_task(self, task_id: str) -> None:
        task = self._scheduled_tasks[task_id]
        if isinstance(task, ExportTask):
            with determining():
                task.claim()  # before the fork: the lock is the run's, not a worker process's
                run_metrics.claimed(task.layout)
        super()._run_task(task_id)
        self._results.started()

    def _create_task_process(self, task: Any) -> Any:
        process = super()._create_task_process(task)
        if process.use_multiprocessing:
            process.result_queue = self._results.of_process()
        return process

    def run(self) -> bool:
        """Run everything that is scheduled."""
        with _a_scheduler():
            done = bool(super().run())
        with determining():
            run_context.current().end()
        run_metrics.end_of_bare_luigi(done, self._asked)
        return done


@contextlib.contextmanager
def _a_scheduler() -> Iterator[None]:
    """Stop with one line if luigid is lost during the run. Any other error here is a bug, with a traceback."""
    try:
        yield
    except NoScheduler as error:
        stop(str(error), error.exit_code)


class _Factory(luigi.interface._WorkerSchedulerFactory):
    def create_remote_scheduler(self, url: str) -> luigid.Luigid:
        with _a_scheduler():
            return luigid.connect(url)

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> RunWorker:
        return RunWorker(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)


def use_run_worker() -> None:
    """Make Luigi's command line use this worker: it has no public way to choose one."""
    luigi.interface._WorkerSchedulerFactory = _Factory  # type: ignore[misc]
