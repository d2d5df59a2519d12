"""A worker process that is killed or interrupted, at any moment, holds up no other."""

import multiprocessing
import os
import queue
import signal

import luigi
import luigi.scheduler
import pytest

from tasks.workflow.exit_codes import EXIT_INTERRUPTED
from tasks.workflow.interrupts import QuietWorker
from tasks.workflow.run_worker import RunWorker
from tasks.workflow.worker_results import WorkerResults

_FORK = multiprocessing.get_context("fork")


def _killed_while_it_sends(pipe):
    os.write(pipe.writer.fileno(), (1000).to_bytes(4, "big") + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def _started(results, target):
    process = _FORK.Process(target=target, args=[results.of_process()])
    process.start()
    results.started()
    return process


def test_half_a_result_is_none_and_the_others_arrive():
    results = WorkerResults()
    _started(results, _killed_while_it_sends).join()
    _started(results, lambda pipe: pipe.put("done")).join()
    got = []
    for _ in range(2):
        try:
            got.append(results.get(timeout=0))
        except queue.Empty:
            got.append(None)
    assert sorted(got, key=str) == [None, "done"]
    with pytest.raises(queue.Empty):
        results.get(timeout=0)


def test_a_finished_task_counts_before_the_death_of_its_process():
    results = WorkerResults()
    _started(results, lambda pipe: pipe.put("done")).join()
    results.put("died unexpectedly")
    assert [results.get(timeout=0), results.get(timeout=0)] == ["done", "died unexpectedly"]


class _Killed(luigi.Task):
    def complete(self):
        return False

    def run(self):
        _killed_while_it_sends(multiprocessing.current_process().result_queue)


class _Writes(luigi.Task):
    path = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(self.path)

    def run(self):
        with self.output().open("w") as file:
            file.write("whole")


def test_a_run_goes_on_after_a_worker_died_while_it_reported(tmp_path):
    scheduler = luigi.scheduler.Scheduler()
    ends = [_Writes(str(tmp_path / str(number))) for number in range(5)]
    with RunWorker(scheduler=scheduler, worker_processes=2) as worker:
        for task in [_Killed(), *ends]:
            worker.add(task)
        assert not worker.run()
    assert all(task.complete() for task in ends)
    failed = scheduler.task_list("FAILED", "")
    assert list(failed) == [_Killed().task_id]
    assert "exit code -9" in scheduler.fetch_error(_Killed().task_id)["error"]


def test_an_interrupted_worker_ends_without_a_traceback(capfd):
    def interrupted(pipe):
        with QuietWorker(None):
            try:
                raise KeyboardInterrupt
            finally:
                pipe.put("as Luigi does")

    process = _started(WorkerResults(), interrupted)
    process.join()
    assert process.exitcode == EXIT_INTERRUPTED
    assert not capfd.readouterr().err
