"""What all tasks share: the common parameters."""

from pathlib import Path

import luigi

from tasks import run
from tasks.parameters import FormatParameter, SwitchParameter
from tasks.ticks.layout import Layout


class ExportTask(luigi.Task):  # type: ignore[misc]
    """A task on one output directory."""

    output_dir = luigi.Parameter(
        default="data_exports/tick_export", description="directory of the export; made if it does not exist")
    format = FormatParameter(
        default="parquet", description="format of the market files: parquet or jsonl; one directory has one format")
    export_metadata = SwitchParameter(
        "--export-metadata", default=True, description="write marketId=<id>_metadata.json for each market; false switches it off")
    offline = luigi.BoolParameter(
        default=False, description="take the export as it lies on disk, without any database connection")
    allow_other_database = luigi.BoolParameter(
        default=False, description="go on although the database knows none of the markets in index.csv")

    @property
    def layout(self) -> Layout:
        """The paths of the export."""
        return Layout(Path(self.output_dir).absolute(), self.format)

    def say(self, message: str, percent: int | None = None) -> None:
        """Show status and progress of this task in luigid."""
        if self.set_status_message is not None:  # Luigi sets both while the task runs
            self.set_status_message(message)
        if self.set_progress_percentage is not None and percent is not None:
            self.set_progress_percentage(percent)


class AllMarketsTask(ExportTask):
    """A task on all markets of the database."""

    include_markets_without_ticks = luigi.BoolParameter(
        default=False, description="give the markets of public.markets without ticks an empty file and an index row")

    def plan(self) -> run.Plan:
        """Return what is known of database and disk, found out once a process."""
        if self.offline:
            return run.plan_offline(self.layout)
        return run.plan(self.layout, self.include_markets_without_ticks, allow_other_database=self.allow_other_database)
