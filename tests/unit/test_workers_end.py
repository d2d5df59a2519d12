"""An interrupted worker process ends, whatever became of the others."""

import multiprocessing
import os
import signal
import types

from tasks.workflow.exit_codes import EXIT_INTERRUPTED
from tasks.workflow.interrupts import QuietWorker


def test_an_interrupted_worker_waits_for_no_lock_of_a_dead_one():
    context = multiprocessing.get_context("fork")
    results = context.Queue()

    def killed():
        with results._wlock:  # as while it sends its result
            os.kill(os.getpid(), signal.SIGKILL)

    def interrupted():
        with QuietWorker(types.SimpleNamespace(result_queue=results)):
            try:
                raise KeyboardInterrupt
            finally:
                results.put("as Luigi does")

    codes = []
    for target in (killed, interrupted):
        process = context.Process(target=target)
        process.start()
        process.join()
        codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL, EXIT_INTERRUPTED]
