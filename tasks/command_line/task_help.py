"""`./run_pipeline.sh TASK --help`: what a task does, the options that it uses, and what every run takes."""

import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

import luigi

from tasks.workflow.base_task import ExportTask

_WIDTH = 100
_COLUMN = 36

RUN_OPTIONS = (
    ("--workers N", "processes in parallel, default 1"),
    ("--scheduler-url URL", "use this luigid; without it, Luigi schedules locally"),
    ("--debug", "show a traceback for every error, and log the start and end of each task"),
    ("--help", "this text"),
)

_EXIT_CODES = """\
exit codes: 0 all done, 2 wrong usage, 10 another run works in the directory, 20 the requested data does not exist,
            25 not run, 30 a task failed, 35 the work could not be determined, 40 unexpected error, 130 interrupted
"""


def task_help(name: str, task: type[ExportTask]) -> str:
    """Return the help of a task: its own options first, then those of all tasks, then those of every run."""
    used = [(key, parameter) for key, parameter in task.get_params() if key not in task.unused_options]
    common = {key for key, _ in ExportTask.get_params()}
    own = [_option(key, parameter) for key, parameter in used if key not in common]
    shared = [_option(key, parameter) for key, parameter in used if key in common]
    needed = "".join(
        f" {_name(key)} {_value(key, parameter)}" for key, parameter in used if parameter._default is _NO_DEFAULT
    )
    parts = [f"{_summary(task)}\n", f"usage: ./run_pipeline.sh {name}{needed} [options]\n"]
    if own:
        parts.append("\n".join(_rows(own)) + "\n")
    parts += ["\n".join(_rows(shared)) + "\n", "\n".join(_rows(RUN_OPTIONS)) + "\n", _EXIT_CODES]
    return "\n".join(parts)


_NO_DEFAULT = luigi.Parameter()._default


def _summary(task: type[ExportTask]) -> str:
    return "\n".join(
        textwrap.fill(" ".join(part.split()), _WIDTH) for part in (inspect.getdoc(task) or "").split("\n\n")[:1]
    )


def _option(key: str, parameter: luigi.Parameter[Any]) -> tuple[str, str]:
    default = parameter._default
    said = "" if default is _NO_DEFAULT or default in (False, 0) else f" (default {parameter.serialize(default)})"
    if "default" in (parameter.description or ""):
        said = ""
    return f"{_name(key)} {_value(key, parameter)}".rstrip(), f"{parameter.description}{said}"


def _name(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _value(key: str, parameter: luigi.Parameter[Any]) -> str:
    if isinstance(parameter, luigi.BoolParameter):
        return "" if parameter.parsing == luigi.BoolParameter.IMPLICIT_PARSING else "BOOL"
    last = key.rsplit("_", 1)[-1]
    return {"date": "YYYY-MM-DD", "dir": "DIR", "id": "ID"}.get(last, "N" if last in ("rows", "gb", "days") else "NAME")


def _rows(options: Iterable[tuple[str, str]]) -> Iterable[str]:
    for option, text in options:
        lines = textwrap.wrap(text, _WIDTH - _COLUMN)
        if len(option) > _COLUMN - 4:
            yield f"  {option}"
            option = ""
        yield f"  {option:<{_COLUMN - 2}}{lines[0]}"
        yield from (" " * _COLUMN + line for line in lines[1:])
