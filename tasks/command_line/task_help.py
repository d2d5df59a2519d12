"""`./run_pipeline.sh TASK --help`: what a task does, the options that it uses, and what every run takes."""

import inspect
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

import luigi

from tasks.workflow.base_task import ExportTask

#: As wide as the terminal, within these bounds: longer lines are hard to read, and shorter ones have no room.
_WIDEST, _NARROWEST = 100, 60
_COLUMN, _ROOM_FOR_COLUMNS = 36, 80

RUN_OPTIONS = (
    ("--workers N", "processes in parallel, default 1"),
    ("--scheduler-url URL", "use this luigid; without it, Luigi schedules locally"),
    ("--debug", "show a traceback for every error, and log the start and end of each task"),
    ("--help", "this text"),
)

_EXIT_CODES = (
    "exit codes: 0 all done, 2 wrong usage, 10 another run works in the directory, 20 the requested data does not"
    " exist, 25 not run, 30 a task failed, 35 the work could not be determined, 40 unexpected error, 130 interrupted"
)

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
    "recheck_days": "N",
}


def task_help(name: str, task: type[ExportTask]) -> str:
    """Return the help of a task: its own options first, then those of all tasks, then those of every run."""
    used = [(key, parameter) for key, parameter in task.get_params() if key not in task.unused_options]
    common = {key for key, _ in ExportTask.get_params()}
    own = [_option(key, parameter) for key, parameter in used if key not in common]
    shared = [_option(key, parameter) for key, parameter in used if key in common]
    needed = "".join(
        f" {_name(key)} {_value(key, parameter)}" for key, parameter in used if parameter._default is _NO_DEFAULT
    )
    usage = textwrap.fill(f"usage: ./run_pipeline.sh {name}{needed} [options]", _width(), subsequent_indent=" " * 7)
    parts = [f"{_summary(task)}\n", f"{usage}\n"]
    if own:
        parts.append("\n".join(_rows(own)) + "\n")
    parts += ["\n".join(_rows(shared)) + "\n", "\n".join(_rows(RUN_OPTIONS)) + "\n"]
    parts.append(textwrap.fill(_EXIT_CODES, _width(), subsequent_indent=" " * 12) + "\n")
    return "\n".join(parts)


_NO_DEFAULT = luigi.Parameter()._default


def _width() -> int:
    return min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST)


def _summary(task: type[ExportTask]) -> str:
    return "\n".join(
        textwrap.fill(" ".join(part.split()), _width()) for part in (inspect.getdoc(task) or "").split("\n\n")[:1]
    )


def _option(key: str, parameter: luigi.Parameter[Any]) -> tuple[str, str]:
    default = parameter._default
    told = "" if default is _NO_DEFAULT or default in (False, 0) else parameter.serialize(default)
    if isinstance(parameter, luigi.BoolParameter):
        told = told.lower()
    said = f" (default {told})" if told and "default" not in (parameter.description or "") else ""
    return f"{_name(key)} {_value(key, parameter)}".rstrip(), f"{parameter.description}{said}"


def _name(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _value(key: str, parameter: luigi.Parameter[Any]) -> str:
    if isinstance(parameter, luigi.BoolParameter):
        return "" if parameter.parsing == luigi.BoolParameter.IMPLICIT_PARSING else "BOOL"
    return _VALUES.get(key) or _VALUES.get(key.rsplit("_", 1)[-1], "NAME")


def _rows(options: Iterable[tuple[str, str]]) -> Iterable[str]:
    column = _COLUMN if _width() >= _ROOM_FOR_COLUMNS else 6
    for option, text in options:
        lines = textwrap.wrap(text, _width() - column)
        if len(option) > column - 4:
            yield f"  {option}"
            option = ""
        yield f"  {option:<{column - 2}}{lines.pop(0)}" if option else " " * column + lines.pop(0)
        yield from (" " * column + line for line in lines)
