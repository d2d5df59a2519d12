"""What the tasks share that make something of a whole export."""

from typing import Any

from tasks.index import BuildIndex
from tasks.metadata import BuildMetadata
from tasks.workflow.base_task import AllMarketsTask, FormatFrom


class WholeExportTask(AllMarketsTask):
    """Makes something of a whole export, which is brought up to date first unless offline."""

    format_from = FormatFrom.FILES_IF_OFFLINE

    @property
    def takes_files_alone(self) -> bool:
        """Whether the export is used as it is on disk, without bringing it up to date."""
        return bool(self.offline)

    def requires(self) -> Any:
        """Return index and metadata, and with them the exports that are missing."""
        if self.takes_files_alone:
            return []
        tasks = [self.clone(BuildIndex)]
        return [*tasks, self.clone(BuildMetadata)] if self.export_metadata else tasks

    def failures(self) -> dict[str, str]:
        """Return why markets could not be exported in this run."""
        return {} if self.takes_files_alone else self.plan().failures()
