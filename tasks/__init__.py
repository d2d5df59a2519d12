"""The tasks, by the names that `luigi --module tasks NAME` knows them by."""

import gc
import os
import signal
import sys

from tasks.archive import Archive
from tasks.consolidate import ConsolidateAll, ConsolidateDay, ConsolidateDayDirect
from tasks.export import ExportMarket, ExportMarkets
from tasks.index import BuildIndex, ExportAll
from tasks.metadata import BuildMetadata
from tasks.verify import VerifyExport
from tasks.workflow.configuration import load_configuration
from tasks.workflow.process_memory import keep_freed_memory, leave_pandas_out

# Ctrl-C while all of this is imported ends the process, without a traceback; nothing has been begun then.
_interrupt = signal.getsignal(signal.SIGINT)
if "tasks" in sys.orig_argv and _interrupt is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # NumPy's threads for linear algebra, which there is none of, spin when a process starts
gc.disable()  # what is imported stays: to look for garbage in it costs a fifth of the start

keep_freed_memory()
if "tasks" in sys.orig_argv:  # python -m tasks or luigi --module tasks: nobody else's code is in this process
    leave_pandas_out()

load_configuration()
if "tasks" in sys.orig_argv:
    signal.signal(signal.SIGINT, _interrupt)
gc.freeze()  # nor in the workers: a collection would copy every page that they share with the process they were forked from
gc.enable()

__all__ = [
    "Archive",
    "BuildIndex",
    "BuildMetadata",
    "ConsolidateAll",
    "ConsolidateDay",
    "ConsolidateDayDirect",
    "ExportAll",
    "ExportMarket",
    "ExportMarkets",
    "VerifyExport",
]

#: The tasks that a user asks for, in the order in which the overview lists them.
PUBLIC = (
    "ExportAll",
    "ExportMarket",
    "BuildIndex",
    "BuildMetadata",
    "ConsolidateDay",
    "ConsolidateAll",
    "ConsolidateDayDirect",
    "Archive",
    "VerifyExport",
)
