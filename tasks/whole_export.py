"""What the tasks that make something of a whole export have in common."""

import json
import logging
from pathlib import Path
from typing import Any, final

import luigi
import luigi.task

from tasks.day_csv import export_source
from tasks.index import BuildIndex
from tasks.metadata import BuildMetadata
from tasks.storage.atomic_files import replacing
from tasks.storage.file_identity import FileStat, file_checksum
from tasks.workflow.base_task import AllMarketsTask, FormatFrom
from tasks.workflow.exit_codes import determining

_log = logging.getLogger("tick_export.index")


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


class IndexedExportTask(WholeExportTask):
    """Makes files from index.csv and the market files that it lists: made again when the index has changed.

    The index has the checksum of every market file, so nothing new in them is overlooked. A task that reads other files
    too, such as metadata, says so in made_from().
    """

    def made_from(self) -> str:
        """Return what the files are made from, as one hash. Raises FileNotFoundError if there is no index."""
        return file_checksum(self.layout.index)

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.result} is up to date with {self.layout.index.name}"

    @final
    def complete(self) -> bool:
        """Return whether the outputs were made from what there is now, and nobody has touched them since."""
        with determining():
            if self.takes_files_alone:
                export_source.require_export(self.layout)
            try:
                is_made = self._note.read_text(encoding="utf-8") == self._noted()
            except FileNotFoundError:
                is_made = False
            return is_made and all(task.complete() for task in self.requires())

    @final
    def remember(self) -> None:
        """Note what the outputs were made from."""
        self._note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._note) as file:
            file.write(self._noted().encode())

    @property
    def _note(self) -> Path:
        return self.layout.made_from(self.task_family)

    def _noted(self) -> str:
        """Return what stands in the note: what the outputs are made from, and size and time of each."""
        stats = [FileStat.of_path(Path(target.path))[:2] for target in luigi.task.flatten(self.output())]
        return json.dumps([self.made_from(), stats])
