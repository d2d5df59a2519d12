"""The Luigi tasks, by the names for `luigi --module tasks NAME`.

Importing this package, or one below it, has no side effects and does not load Luigi: a task is loaded on demand. If the
process is Luigi's own command, all tasks are loaded and the process is tuned.
"""

import importlib
import sys
from typing import Any

#: The tasks for users, in the order of the overview, and the module of each.
PUBLIC = {
    "ExportAll": "tasks.export_all",
    "ExportMarket": "tasks.export",
    "BuildIndex": "tasks.index",
    "BuildMetadata": "tasks.metadata",
    "BuildStates": "tasks.states",
    "BuildStreams": "tasks.streams",
    "BuildStream": "tasks.streams",
    "BuildRunnerSummary": "tasks.summary",
    "BuildCatalogue": "tasks.catalogue",
    "ConsolidateDay": "tasks.consolidate",
    "ConsolidateAll": "tasks.consolidate",
    "ConsolidateRange": "tasks.consolidate_range",
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


if _is_luigi_command():  # it imports only this module, and then expects that all tasks are loaded
    from tasks.workflow.process_start import tuned_start

    with tuned_start():
        importlib.import_module("tasks.every_task")
