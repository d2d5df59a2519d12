"""How a process of the pipeline starts. It is tuned here, and never on import."""

import contextlib
import gc
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def tuned_start() -> Iterator[None]:
    """Tune this process for an export; modules are imported within the block.

    Only for a process that belongs to the pipeline (python -m tasks, luigi --module tasks): it sets signals, the
    environment, the memory allocator and the garbage collector.
    """
    # Ctrl-C during the imports ends the process without a traceback; nothing has begun by then.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # NumPy's threads for linear algebra, which we do not use, spin when a process starts.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported modules stay: searching them for garbage takes a fifth of the start.
    gc.disable()
    from tasks.workflow.process_memory import keep_freed_memory, leave_pandas_out

    keep_freed_memory()
    leave_pandas_out()
    yield
    signal.signal(signal.SIGINT, interrupt)
    # Not in the workers either: a collection would copy every page that they share with their parent process.
    gc.freeze()
    gc.enable()
