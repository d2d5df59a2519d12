"""Run one Luigi command line to its end and return its exit code."""

import contextlib
import io
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import luigi.interface
from luigi.cmdline_parser import CmdlineParser
from luigi.retcodes import run_with_retcodes
from luigi.setup_logging import InterfaceLogging
from luigi.task_register import Register

from tasks.workflow import luigid, run_context, run_metrics
from tasks.workflow.exit_codes import EXIT_ALREADY_RUNNING, EXIT_NOT_RUN, EXIT_USAGE, determining, stop

_log = logging.getLogger("tick_export.outcome")

_WAIT_S = 2
_NOT_RUN_TRIES = 3
#: Options that every task accepts, used or not, because scripts pass them to all tasks. A task that cannot run offline
#: refuses that option itself and says what to do instead.
_ACCEPTED = {"format", "export_metadata", "offline"}
#: Options about the database: useless without one.
_OF_THE_DATABASE = {
    "recheck",
    "recheck_days",
    "include_markets_without_ticks",
    "include_markets_without_ladder",
    "allow_other_database",
}


def run_task(name: str, options: Sequence[str]) -> int:
    """Run a task with the options of its command line; return the exit code.

    Under luigid, wait for the parts that other workers do: Luigi's own worker would end with "not run".
    """
    arguments = ["--module", "tasks", name, *options]
    _check(name, arguments)
    with run_metrics.recorded(name) as recorder:
        code = _run(arguments)
        recorder.end(code)
    return code


def _run(arguments: list[str]) -> int:
    not_run = 0
    while (code := _run_once(arguments)) in (EXIT_ALREADY_RUNNING, EXIT_NOT_RUN) and _has_luigid(arguments):
        if _is_complete(arguments):
            return 0
        # Luigi also reports this while another worker has a batch, or was killed with one, which luigid finds out after
        # a minute; if it does so repeatedly and nobody works, it is true
        not_run += code == EXIT_NOT_RUN and not _is_worked_on(arguments)
        if not_run == _NOT_RUN_TRIES:
            break
        _log.info("Other workers of luigid are doing it. Waiting for them.")
        time.sleep(_WAIT_S)
    return code


def _check(name: str, arguments: list[str]) -> None:
    """Stop with one line if Luigi would print its whole usage, or a traceback, for a wrong option."""
    _refuse_unused(name, arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), CmdlineParser.global_instance(arguments):
            if luigi.interface.core().workers < 1:
                stop(f"--workers is {luigi.interface.core().workers}, expected a whole number above 0.", EXIT_USAGE)
    except SystemExit as end:
        if end.code and (wrong := re.search(r"^\S+: error: (.*)", said.getvalue(), re.MULTILINE)):
            stop(f"{wrong[1]}. See ./run_pipeline.sh {name} --help.", EXIT_USAGE)
        print(said.getvalue(), end="", file=sys.stderr)
        raise
    except ValueError as error:
        option = str(error).split("'")[-2:-1] or ["an option"]
        stop(f"--{option[0].replace('_', '-')} has an invalid value. See ./run_pipeline.sh {name} --help.", EXIT_USAGE)


def _refuse_unused(name: str, arguments: list[str]) -> None:
    """Stop with one line at an option that the task would ignore."""
    given = {argument.split("=")[0] for argument in arguments}
    for key in sorted(_OF_THE_DATABASE if "--offline" in arguments else ()):
        option = key.replace("_", "-")
        if f"--{option}" in given:
            stop(
                f"{name} --offline does not use --{option}, because it connects to no database. Leave one of them out.",
                EXIT_USAGE,
            )
    for key in sorted(getattr(Register.get_task_cls(name), "unused_options", frozenset()) - _ACCEPTED):
        option = key.replace("_", "-")
        if not given.isdisjoint({f"--{option}", f"--{name}-{option}"}):
            stop(f"{name} does not use --{option}. Leave it out; see ./run_pipeline.sh {name} --help.", EXIT_USAGE)


def _run_once(arguments: list[str]) -> int:
    try:
        run_with_retcodes(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@contextlib.contextmanager
def parsed(name: str, options: Sequence[str]) -> Iterator[Any]:
    """Yield the task of a command line, with logging and Luigi's settings as in its run. Wrong options end the process
    with 2.
    """
    arguments = ["--module", "tasks", name, *options]
    _check(name, arguments)
    with CmdlineParser.global_instance(arguments) as parser:
        InterfaceLogging.setup(luigi.interface.core())
        yield parser.get_task_obj()


def _has_luigid(arguments: list[str]) -> bool:
    with CmdlineParser.global_instance(arguments):
        return not luigi.interface.core().local_scheduler


def _is_worked_on(arguments: list[str]) -> bool:
    """Return whether luigid counts on a worker for a task in the same output directory. Stops with one line if there is
    no luigid any more.
    """
    with CmdlineParser.global_instance(arguments) as parser, determining():
        return luigid.is_working_in(str(parser.get_task_obj().output_dir))


def _is_complete(arguments: list[str]) -> bool:
    """Return whether the task is complete by now, whoever did it; forget the answer, so that the next run asks
    again.
    """
    run_context.begin()
    Register.clear_instance_cache()  # tasks cache what they have found out
    with CmdlineParser.global_instance(arguments) as parser:
        return bool(parser.get_task_obj().complete())
