"""The base classes of all tasks: on an export, on all markets, on one UTC day."""

import abc
import enum
import logging
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, ParamSpec, final

import luigi
from luigi.parameter import ParameterVisibility

from tasks.day_csv import export_source
from tasks.errors import ExportError, SomeMarketsFailed, is_no_thread, told
from tasks.market_files import formats
from tasks.market_files.time_span import Span
from tasks.storage.layout import Layout
from tasks.ticks.value_text import counted
from tasks.workflow import directory_lock, plan, run_context
from tasks.workflow.exit_codes import EXIT_USAGE, is_debug, stop
from tasks.workflow.parameters import DayParameter, FormatParameter, RecheckDaysParameter, SwitchParameter
from tasks.workflow.plan import Plan
from tasks.workflow.progress import Progress
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.task")
_P = ParamSpec("_P")


class FormatFrom(enum.Enum):
    """How a task knows the format of the market files: from --format, or from the files."""

    OPTION = enum.auto()
    FILES_IF_OFFLINE = enum.auto()
    FILES = enum.auto()


class ExportTask(luigi.Task):
    """A task on one output directory: the template of all others.

    A task defines what it needs (requires), what it writes (output, result), whether that is complete (complete) and
    how to do it (work). Only work() changes anything: run() locks the directory for it and reports its failures.
    """

    #: Parameters that this task inherits, or has for a task that it requires, but does not use itself: on the command
    #: line they are refused.
    unused_options: ClassVar[frozenset[str]] = frozenset()

    #: A task that writes market files uses the option; one that only reads them can see which format they have.
    format_from: ClassVar[FormatFrom] = FormatFrom.OPTION

    #: For the help: what is written below the output directory, and the options of some useful calls.
    writes: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = ()

    output_dir = luigi.Parameter(
        default="data_exports/tick_export", description="directory of the export; created if it does not exist"
    )
    format = FormatParameter(
        default=formats.DEFAULT,
        description=f"format of the market files: {' or '.join(formats.NAMES)}; an export has one format",
    )
    export_metadata = SwitchParameter(
        option="--export-metadata",
        default=True,
        description="write marketId=<id>_metadata.json for each market; false switches it off",
    )
    offline = luigi.BoolParameter(
        default=False, description="use the export as it is on disk, without connecting to a database"
    )
    allow_other_database = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="continue even if the database knows none of the markets in index.csv",
    )

    @property
    def layout(self) -> Layout:
        """The paths of the export, in the format according to format_from."""
        layout = Layout(self._directory, self.format)
        if self.format_from is FormatFrom.FILES or self.format_from is FormatFrom.FILES_IF_OFFLINE and self.offline:
            return export_source.as_it_lies(layout)
        return layout

    @property
    def _directory(self) -> Path:
        try:
            return Path(self.output_dir).absolute()
        except FileNotFoundError:
            stop("The working directory has been deleted. Change to one that exists and start again.", EXIT_USAGE)

    @property
    def result(self) -> Path:
        """What luigid links to when the task is done: its report, or what it writes."""
        return self.layout.output_dir

    @property
    def address(self) -> str:
        """The address of that, as luigid shows it."""
        return link(self.layout, self.result)

    @property
    def is_asked_for(self) -> bool:
        """Whether the user asked for this task, rather than for one that requires it."""
        return self.task_id in run_context.current().asked_for

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed, for the error message."""
        return "done"

    @property
    def up_to_date(self) -> str:
        """The message if the user asked for the task and there is nothing to do."""
        return f"{self.result} is up to date"

    @abc.abstractmethod
    def work(self) -> Mapping[str, str] | None:
        """Do the task; return the markets that could not be included, with the reasons."""

    def remember(self) -> None:
        """Record what complete() will check, once the work is done."""

    @final
    def run(self) -> None:
        """Lock the directory, do the work and, at the very end, fail if markets failed."""
        self.claim()
        failed = self.work()
        self.remember()
        if failed:
            named = "; ".join(f"{market_id!r}: {reason}" for market_id, reason in sorted(failed.items())[:3])
            raise SomeMarketsFailed(
                f"{counted(len(failed), 'market')} failed ({named}{' …' if len(failed) > 3 else ''}), all others are"
                f" {self.others_are}."
            )

    @final
    def claim(self, make: bool = True) -> None:
        """Keep other runs out of the output directory until this process ends; make: create it under luigid, too."""
        directory_lock.claim(Layout(self._directory), make)

    def on_failure(self, exception: BaseException) -> str:
        """Return the text of a failure for luigid and e-mails: one line if it was expected, a traceback for a bug."""
        if (isinstance(exception, (ExportError, OSError)) or is_no_thread(exception)) and not is_debug():
            return told(exception)
        return str(super().on_failure(exception))

    def say(self, message: str, percent: int | None = None) -> None:
        """Show status and progress of this task in luigid."""
        if self.set_status_message is not None:  # Luigi sets both while the task runs
            self.set_status_message(message)
        if self.set_progress_percentage is not None and percent is not None:
            self.set_progress_percentage(percent)

    def showing(self, progress: Progress, count: Callable[_P, None]) -> Callable[_P, None]:
        """Return a function that counts, and shows the progress in luigid. count: a method of progress."""

        def count_and_show(*args: _P.args, **kwargs: _P.kwargs) -> None:
            count(*args, **kwargs)
            self.say(progress.text, progress.percent)

        return count_and_show

    def say_done(self, message: str, log: logging.Logger | None = None) -> None:
        """Show in luigid that this task is done, with a link to its result; log the message too if log is given."""
        if log is not None:
            log.info("%s.", message)
        self.say(message, 100)
        if self.set_tracking_url is not None:
            self.set_tracking_url(self.address)


@ExportTask.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_nothing_to_do(task: ExportTask) -> None:
    if task.is_asked_for:
        _log.info("Nothing to do: %s.", task.up_to_date)


def link(layout: Layout, path: Path) -> str:
    """Return the address of a path in an output directory: below [tick_export] output_url, or on this disk."""
    base = tick_export().output_url
    if not base:
        return path.as_uri()
    return f"{base.rstrip('/')}/{urllib.parse.quote(path.relative_to(layout.output_dir.parent).as_posix())}"


class MarketsTask(ExportTask):
    """A task on markets, optionally including those with traded rows only."""

    include_markets_without_ladder = luigi.BoolParameter(
        default=False,
        description="export the trades of markets that have traded rows but no ladder rows (already dropped)",
    )


class AllMarketsTask(MarketsTask):
    """A task on all markets of the database."""

    include_markets_without_ticks = luigi.BoolParameter(
        default=False, description="write an empty file and an index row for markets of public.markets without ticks"
    )

    recheck_days = RecheckDaysParameter(
        default=0,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="count the rows of the last N days again and refresh the markets with late rows",
    )

    def plan(self) -> Plan:
        """Return the plan of what to export, determined once per run."""
        run = run_context.current()
        if self.offline:
            return run.once(plan.plan_offline, self.layout)
        return run.once(
            plan.plan_all,
            self.layout,
            self.include_markets_without_ticks,
            self.include_markets_without_ladder,
            self.recheck_days,
            self.allow_other_database,
        )


class DayTask(ExportTask):
    """A task on one UTC day."""

    date = DayParameter(description="UTC day, such as 2024-01-15")

    @property
    def span(self) -> Span:
        """The day as a span of time."""
        return Span.of_day(self.date)


class DayMarketsTask(DayTask):
    """A task on the markets with ticks on one UTC day."""

    recheck = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="count the day's rows again and refresh the markets with late rows",
    )

    def plan(self) -> Plan:
        """Return the plan of which of the day's markets to export, determined once per run."""
        return run_context.current().once(
            plan.plan_day, self.layout, self.date, self.recheck, self.allow_other_database
        )

    def day_market_ids(self) -> list[str]:
        """Return the markets with ticks on that day in the database."""
        return sorted(self.plan().stored.newest)

    def kept_market_ids(self) -> list[str]:
        """Return the markets whose files overlap that day."""
        return sorted(market_id for market_id, facts in self.plan().disk.facts.items() if self.span.share(facts))
