"""What all tasks share: the common parameters."""

import urllib.parse
from pathlib import Path

import luigi
from luigi.parameter import ParameterVisibility

from tasks.errors import ExportError, told
from tasks.market_files import formats
from tasks.storage.layout import Layout
from tasks.workflow import run
from tasks.workflow.exit_codes import is_debug
from tasks.workflow.parameters import FormatParameter, SwitchParameter
from tasks.workflow.settings import tick_export


class ExportTask(luigi.Task):
    """A task on one output directory."""

    output_dir = luigi.Parameter(
        default="data_exports/tick_export", description="directory of the export; made if it does not exist"
    )
    format = FormatParameter(
        default=formats.DEFAULT,
        description=f"format of the market files: {' or '.join(formats.NAMES)}; one directory has one format",
    )
    export_metadata = SwitchParameter(
        option="--export-metadata",
        default=True,
        description="write marketId=<id>_metadata.json for each market; false switches it off",
    )
    offline = luigi.BoolParameter(
        default=False, description="take the export as it lies on disk, without any database connection"
    )
    allow_other_database = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="go on although the database knows none of the markets in index.csv",
    )

    @property
    def layout(self) -> Layout:
        """The paths of the export."""
        return Layout(Path(self.output_dir).absolute(), self.format)

    @property
    def result(self) -> Path:
        """What luigid links to when the task is done: its report, or else what it writes."""
        return self.layout.output_dir

    def on_failure(self, exception: BaseException) -> str:
        """Return what luigid and e-mails say of a failure: an expected one in its one line, a fault of ours with its
        traceback.
        """
        if isinstance(exception, (ExportError, OSError)) and not is_debug():
            return told(exception)
        return str(super().on_failure(exception))

    def say(self, message: str, percent: int | None = None) -> None:
        """Show status and progress of this task in luigid."""
        if self.set_status_message is not None:  # Luigi sets both while the task runs
            self.set_status_message(message)
        if self.set_progress_percentage is not None and percent is not None:
            self.set_progress_percentage(percent)

    def say_done(self, message: str) -> None:
        """Show in luigid that this task has come to its end, with a link to its result."""
        self.say(message, 100)
        if self.set_tracking_url is not None:
            self.set_tracking_url(link(self.layout, self.result))


def link(layout: Layout, path: Path) -> str:
    """Return the address of a path in an output directory: below [tick_export] output_url, or on this machine's disk."""
    base = tick_export().output_url
    if not base:
        return path.as_uri()
    return f"{base.rstrip('/')}/{urllib.parse.quote(path.relative_to(layout.output_dir.parent).as_posix())}"


class AllMarketsTask(ExportTask):
    """A task on all markets of the database."""

    include_markets_without_ticks = luigi.BoolParameter(
        default=False, description="give the markets of public.markets without ticks an empty file and an index row"
    )

    def plan(self) -> run.Plan:
        """Return what is known of database and disk, found out once a process."""
        if self.offline:
            return run.plan_offline(self.layout)
        return run.plan(self.layout, self.include_markets_without_ticks, allow_other_database=self.allow_other_database)
