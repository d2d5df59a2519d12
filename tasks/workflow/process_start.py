"""How a process of the pipeline starts. It is tuned here, and never on import."""

import contextlib
import gc
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def tuned_start() -> Iterator[None]:
    """Tune this process for an export, and import what it needs within.

    Only for a process that is the pipeline's alone (python -m tasks, luigi --module tasks): it sets signals, the
    environment, the memory allocator and the garbage collector.
    """
    # Ctrl-C while all of this is imported ends the process, without a traceback; nothing has been begun then.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # NumPy's threads for linear algebra, which there is none of, spin when a process starts.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported stays: to look for garbage in it costs a fifth of the start.
    gc.disable()
    from tasks.workflow.process_memory import keep_freed_memory, leave_pandas_out

    keep_freed_memory()
    leave_pandas_out()
    yield
    signal.signal(signal.SIGINT, interrupt)
    # Nor in the workers: a collection would copy every page that they share with the process they were forked from.
    gc.freeze()
    gc.enable()
