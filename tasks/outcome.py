"""One Luigi command line run to its end, with the exit code that it earns."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import luigi.interface
from luigi.cmdline_parser import CmdlineParser
from luigi.retcodes import run_with_retcodes
from luigi.setup_logging import InterfaceLogging
from luigi.task_register import Register

from tasks import run
from tasks.parameters import EXIT_ALREADY_RUNNING, EXIT_NOT_RUN

_log = logging.getLogger("tick_export.outcome")

_WAIT_S = 2
_NOT_RUN_TRIES = 3


def run_task(name: str, options: Sequence[str]) -> int:
    """Run a task with the options of its command line; return the exit code.

    Under luigid, wait for what other workers do of it: Luigi's own worker would leave with "not run".
    """
    arguments = ["--module", "tasks", name, *options]
    not_run = 0
    while (code := _run_once(arguments)) in (EXIT_ALREADY_RUNNING, EXIT_NOT_RUN) and _has_luigid(arguments):
        if _is_complete(arguments):
            return 0
        not_run += code == EXIT_NOT_RUN  # Luigi may say so where another worker had just begun; again and again, it is true
        if not_run == _NOT_RUN_TRIES:
            break
        _log.info("Other workers of luigid are at it: waiting for them.")
        time.sleep(_WAIT_S)
    return code


def _run_once(arguments: list[str]) -> int:
    try:
        run_with_retcodes(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@contextmanager
def parsed(name: str, options: Sequence[str]) -> Iterator[Any]:
    """Give the task that a command line means, with logging and Luigi's settings as in its run. Wrong options end the process with 2."""
    with CmdlineParser.global_instance(["--module", "tasks", name, *options]) as parser:
        InterfaceLogging.setup(luigi.interface.core())
        yield parser.get_task_obj()


def _has_luigid(arguments: list[str]) -> bool:
    with CmdlineParser.global_instance(arguments):
        return not luigi.interface.core().local_scheduler


def _is_complete(arguments: list[str]) -> bool:
    """Tell whether the task is complete by now, whoever did it, and have the next run look anew."""
    run.look_again()
    Register.clear_instance_cache()  # a task keeps what it has found out
    with CmdlineParser.global_instance(arguments) as parser:
        return bool(parser.get_task_obj().complete())
