"""`./run_pipeline.sh TASK --help`: what a task does and writes, the options that it uses, examples, exit codes."""

import inspect
from typing import Any

import luigi

from tasks.command_line.help_layout import fitted
from tasks.market_files import formats
from tasks.workflow.base_task import ExportTask
from tasks.workflow.parameters import DayParameter

RUN_OPTIONS = """\
  --workers N  processes in parallel, default 1
  --scheduler-url URL  use this luigid; without it, Luigi schedules locally
  --debug  show a traceback for every error, and log the start and end of each task
  --help  this text
"""

EXIT_CODES = """\
exit codes:
  0  all done, or nothing to do
  2  wrong usage
  10  another run works in the directory
  20  the requested data does not exist
  25  a task was not run
  30  a task failed; the others are done
  35  the work could not be determined: no connection, wrong password, missing schema
  40  unexpected error
  130  interrupted
"""

#: What stands for the value of an option, by the whole of its name or its last word.
_VALUES = {
    "days": "DAY,DAY",
    "markets": "ID,ID",
    "to": "ADDRESS",
    "from": "ADDRESS",
    "date": "YYYY-MM-DD",
    "dir": "DIR",
    "id": "ID",
    "rows": "N",
    "gb": "N",
    "master": "URL",
    "day_format": "csv|parquet",
    "recheck_days": "N",
    "format": "|".join(formats.NAMES),
}

_NO_DEFAULT = luigi.Parameter()._default


def task_help(name: str, task: type[ExportTask]) -> str:
    """Return the help of a task: its own options first, then those of all tasks, then those of every run."""
    used = [(key, parameter) for key, parameter in task.get_params() if key not in task.unused_options]
    common = {key for key, _ in ExportTask.get_params()}
    own = "".join(_option(key, parameter) for key, parameter in used if key not in common)
    shared = "".join(_option(key, parameter) for key, parameter in used if key in common)
    needed = "".join(
        f" {_name(key)} {_value(key, parameter)}" for key, parameter in used if parameter._default is _NO_DEFAULT
    )
    parts = [
        inspect.getdoc(task) or "",
        f"Writes, under --output-dir: {task.writes}" if task.writes else "",
        f"usage: ./run_pipeline.sh {name}{needed} [options]",
        own,
        shared,
        RUN_OPTIONS,
        "\n".join(
            ["examples:", *(f"  ./run_pipeline.sh {name}{f' {given}' if given else ''}" for given in task.examples)]
        ),
        EXIT_CODES,
    ]
    return fitted("\n\n".join(part.strip("\n") for part in parts if part))


def _option(key: str, parameter: luigi.Parameter[Any]) -> str:
    default = parameter._default
    told = "" if default is _NO_DEFAULT or default in (False, 0) else parameter.serialize(default).removesuffix(".0")
    if isinstance(parameter, luigi.BoolParameter):
        told = told.lower()
    said = f" (default {told})" if told and "default" not in (parameter.description or "") else ""
    return f"  {f'{_name(key)} {_value(key, parameter)}'.rstrip()}  {parameter.description}{said}\n"


def _name(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _value(key: str, parameter: luigi.Parameter[Any]) -> str:
    if isinstance(parameter, DayParameter):
        return "YYYY-MM-DD"
    if isinstance(parameter, luigi.BoolParameter):
        return "" if parameter.parsing == luigi.BoolParameter.IMPLICIT_PARSING else "true|false"
    values = getattr(parameter, "values", ())
    return "|".join(values) or _VALUES.get(key) or _VALUES.get(key.rsplit("_", 1)[-1], "NAME")
