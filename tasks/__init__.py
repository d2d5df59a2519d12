"""The Luigi tasks, by the names that `luigi --module tasks NAME` knows them by.

Importing this package, or one below it, starts nothing and loads no Luigi: a task is loaded when it is asked for. Where
the process is Luigi's own command, all of them are, and the process is tuned for the work.
"""

import importlib
import sys
from typing import Any

#: Each task that a user asks for, in the order in which the overview lists them, and the module that it is in.
PUBLIC = {
    "ExportAll": "tasks.export_all",
    "ExportMarket": "tasks.export",
    "BuildIndex": "tasks.index",
    "BuildMetadata": "tasks.metadata",
    "BuildStates": "tasks.states",
    "BuildStreams": "tasks.streams",
    "BuildStream": "tasks.streams",
    "BuildRunnerSummary": "tasks.summary",
    "ConsolidateDay": "tasks.consolidate",
    "ConsolidateAll": "tasks.consolidate",
    "ConsolidateDayDirect": "tasks.consolidate_direct",
    "Archive": "tasks.archive",
    "VerifyExport": "tasks.verify",
    "UpgradeExport": "tasks.upgrade",
    "Report": "tasks.report",
    "PlotMarket": "tasks.plot",
    "Publish": "tasks.publish",
    "Fetch": "tasks.fetch",
    "Restore": "tasks.restore",
}


def __getattr__(name: str) -> Any:
    """Return a task by its name, loading all of them with it: Luigi finds tasks among the classes that are loaded."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("tasks.every_task")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def _is_luigi_command() -> bool:
    arguments = " ".join(sys.orig_argv).replace("--module=", "--module ")
    return "luigi" in sys.modules and "--module tasks" in arguments


if _is_luigi_command():  # which only imports this module, and then expects its tasks to be known
    from tasks.workflow.process_start import tuned_start

    with tuned_start():
        importlib.import_module("tasks.every_task")
