"""`./run_pipeline.sh nightly`: yesterday, the day before once more, and missed days, one ConsolidateDay after the
other.

One after the other, because a market that goes on past midnight belongs to two days and must be refreshed once.
"""

import argparse
import datetime
import logging
from collections.abc import Sequence

import luigi.interface

from tasks.command_line.help_layout import fitted
from tasks.condition import export_condition
from tasks.condition.reasons import Condition
from tasks.day_csv import consolidation_report, export_source
from tasks.errors import ExportError, NewerVersion
from tasks.market_files import formats
from tasks.market_files.time_span import Span
from tasks.postgres.database import Database
from tasks.storage.layout import Layout
from tasks.workflow import findings, judging, luigid, run_context, run_metrics
from tasks.workflow.exit_codes import (
    EXIT_ALREADY_RUNNING,
    EXIT_FAILED,
    EXIT_MISSING_DATA,
    EXIT_USAGE,
    determining,
    stop,
)
from tasks.workflow.outcome import parsed, run_task
from tasks.workflow.parameters import MOST_DAYS
from tasks.workflow.pings import ping
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.nightly")

_TASK = "ConsolidateDay"

HELP = f"""\
Consolidates yesterday (UTC): refreshes the market files of that day, their metadata and index.csv, and writes
consolidated_ticks_YYYY_MM_DD.csv with its report. It also counts the rows of the days before yesterday that have a file
(how many days: [tick_export] recheck_days in luigi.cfg), and rebuilds those that received late rows. What is complete
is not touched, so you can run it late, or twice. At the end it writes report.html, a page to look at, and
condition.json, for programs.

usage: ./run_pipeline.sh nightly [--catch-up N] [options of {_TASK}]

  --catch-up N  also write those of the last N days (at most {MOST_DAYS}) that have no file
  --report false  leave report.html and condition.json as they are
  --output-dir DIR  default data_exports/tick_export
  --format {'|'.join(formats.NAMES)}  default {formats.DEFAULT}
  --workers N  processes in parallel, default 1
  --scheduler-url URL  use this luigid; without it, Luigi schedules locally
  --debug  show a traceback for every error
  --help  this text

examples:
  ./run_pipeline.sh nightly --catch-up 3 --workers 2

One day's failure does not stop the others. The exit code is the largest of all days:

  0  all done, or nothing to do
  2  wrong usage
  10  another run works in the directory
  20  a day has no ticks
  25  a day was not run
  30  a day failed: a market, the disk, the connection
  35  the work could not be determined: no connection, wrong password
  40  unexpected error

If yesterday's recording is not good (a gap, or far fewer ticks than on the days before), the last line says so.
[tick_export] condition_exit_code in luigi.cfg sets an exit code for it.

20 means that neither the database nor a market file has a tick of yesterday, or of a day that --catch-up asked for:
the recorder was down, or the platform dropped the day before it was exported. The log names the day. A day without
ticks that is only checked again was reported the night before, and does not count a second time.
"""


def nightly(arguments: Sequence[str]) -> int:
    """Run the days that are due; return the exit code."""
    with run_metrics.recorded("nightly") as recorder:
        try:
            code = _nightly(arguments)
        except SystemExit as end:
            if end.code:
                ping(str(end.code))
            raise
        recorder.end(code)
    ping(str(code))
    return code


def _nightly(arguments: Sequence[str]) -> int:
    yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)
    catch_up, wants_report, options = _parse(arguments)
    with parsed(_TASK, [*options, "--date", str(yesterday)]) as task:
        if task.offline:
            stop(
                "nightly refreshes from the database, so --offline makes no sense. Use ConsolidateDay --offline.",
                EXIT_USAGE,
            )
        layout = task.layout
        ping("start")
        try:
            with determining():
                task.claim()
        except luigi.interface.PidLockAlreadyTakenExit:
            return EXIT_ALREADY_RUNNING
        run_metrics.claimed(layout)
        with determining():  # what is down is told once, not once a day
            luigid.require()
            Database(findings.server()).close()
    missed = days_missing(layout, yesterday, catch_up)
    before = yesterday - datetime.timedelta(days=1)
    recheck = ["--recheck"] if tick_export().recheck_days else []
    again = {before, *_made_before(layout, yesterday, tick_export().recheck_days)}
    codes = {}
    for date in sorted({*missed, *again, yesterday}):
        _log.info("%s (UTC)%s:", date, "" if date == yesterday else ", missed" if date in missed else ", once more")
        run_context.begin()
        codes[date] = run_task(_TASK, [*options, *recheck, "--date", str(date)])
        if codes[date] == EXIT_USAGE:
            return EXIT_USAGE
    condition, is_good = _condition(layout, yesterday) if codes[yesterday] in (0, EXIT_FAILED) else ("", True)
    code = max(code for date, code in codes.items() if code != EXIT_MISSING_DATA or date not in again or date in missed)
    if wants_report and layout.index.exists():
        run_context.begin()
        code = max(code, run_task("Report", [*_shared(layout, options), "--as-it-lies"]))
    if not code and not is_good:
        code = tick_export().condition_exit_code
    _summarise(codes, yesterday, condition)
    return code


def _condition(layout: Layout, date: datetime.date) -> tuple[str, bool]:
    """Return what is to be said of the recording of a day, nothing where all is well; and whether it is good."""
    span = Span.of_day(date)
    try:
        rows = export_source.indexed(layout)
        unknown = judging.without_ticks(span.lower_us, span.upper_us, rows)
        judged = judging.judge_day(layout, rows, date, unknown)
    except (ExportError, OSError) as error:
        return f"condition unknown: {error}", False
    day = judged.day(date)
    return export_condition.told(judged, date), day is None or day.condition == Condition.GOOD


def days_missing(layout: Layout, yesterday: datetime.date, catch_up: int) -> list[datetime.date]:
    """Return those of so many days up to yesterday that have no whole consolidated file."""
    days = [yesterday - datetime.timedelta(days=number) for number in range(catch_up)]
    return [day for day in days if not _is_made(layout, day)]


def _made_before(layout: Layout, yesterday: datetime.date, days: int) -> list[datetime.date]:
    """Return those of so many days before yesterday that have a whole consolidated file: rows may have come late."""
    past = [yesterday - datetime.timedelta(days=number) for number in range(1, days + 1)]
    return [day for day in past if _is_made(layout, day)]


def _is_made(layout: Layout, day: datetime.date) -> bool:
    try:
        published = consolidation_report.read(layout.day_report(day))
    except NewerVersion:
        return False  # the consolidation of that day says so
    return (
        published is not None
        and not published.partial
        and consolidation_report.is_in_place(published, layout.output_dir)
    )


def _shared(layout: Layout, options: Sequence[str]) -> list[str]:
    """Return the options that the report takes too: where the export lies, and which luigid it is made under."""
    shared = ["--output-dir", str(layout.output_dir), "--format", layout.format]
    for option, value in zip(options, [*options[1:], ""]):
        if option.startswith("--scheduler-"):
            shared += [option] if "=" in option else [option, value]
    return shared


def _parse(arguments: Sequence[str]) -> tuple[int, bool, list[str]]:
    """Return --catch-up, --report and the options of the task."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--catch-up", default="0")
    parser.add_argument("--report", nargs="?", const="true", default="true", choices=("true", "false"))
    parser.add_argument("--date")
    parser.add_argument("--help", "-h", action="store_true")
    try:
        own, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        stop(f"{error}. See ./run_pipeline.sh nightly --help.", EXIT_USAGE)
    if own.help:
        print(fitted(HELP), end="")
        raise SystemExit(0)
    if own.date is not None:
        stop(
            f"nightly determines the days itself, found --date {own.date}. For one day: ./run_pipeline.sh {_TASK}"
            f" --date {own.date}.",
            EXIT_USAGE,
        )
    if not (own.catch_up.isascii() and own.catch_up.isdecimal() and 0 <= int(own.catch_up) <= MOST_DAYS):
        stop(f"--catch-up is {own.catch_up!r}, expected a number of days from 0 to {MOST_DAYS}.", EXIT_USAGE)
    return int(own.catch_up), own.report == "true", rest


def _summarise(codes: dict[datetime.date, int], yesterday: datetime.date, condition: str) -> None:
    words = {0: "done", EXIT_MISSING_DATA: "no ticks"}
    text = ", ".join(f"{date} {words.get(code, f'FAILED (exit code {code})')}" for date, code in codes.items())
    if condition:
        text += f". {yesterday}: {condition}"
    (_log.error if any(codes.values()) else _log.warning if condition else _log.info)("nightly: %s.", text)
