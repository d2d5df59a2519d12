"""One Luigi command line run to its end, with the exit code that it earns."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import luigi.interface
from luigi.cmdline_parser import CmdlineParser
from luigi.retcodes import run_with_retcodes
from luigi.setup_logging import InterfaceLogging
from luigi.task_register import Register

from tasks import run
from tasks.parameters import EXIT_ALREADY_RUNNING, EXIT_INTERRUPTED, EXIT_NOT_RUN

_log = logging.getLogger("tick_export.outcome")


def run_task(name: str, options: Sequence[str]) -> int:
    """Run a task with the options of its command line; return the exit code."""
    arguments = ["--module", "tasks", name, *options]
    try:
        run_with_retcodes(arguments)
    except KeyboardInterrupt:
        _log.error("Interrupted. What is finished stays; the next run goes on from there.")
        return EXIT_INTERRUPTED
    except SystemExit as end:
        code = int(end.code or 0)
        return 0 if code in (EXIT_ALREADY_RUNNING, EXIT_NOT_RUN) and _done_by_others(arguments) else code
    return 0


@contextmanager
def parsed(name: str, options: Sequence[str]) -> Iterator[Any]:
    """Give the task that a command line means, with logging and Luigi's settings as in its run. Wrong options end the process with 2."""
    with CmdlineParser.global_instance(["--module", "tasks", name, *options]) as parser:
        InterfaceLogging.setup(luigi.interface.core())
        yield parser.get_task_obj()


def _done_by_others(arguments: list[str]) -> bool:
    """Tell whether the task that was asked for is complete after all: Luigi calls a run not run whose work others did."""
    with CmdlineParser.global_instance(arguments) as parser:
        if luigi.interface.core().local_scheduler:
            return False
        run.look_again()
        Register.clear_instance_cache()  # a task keeps what it has found out
        return bool(parser.get_task_obj().complete())
