"""The base class of tasks that write the database's metadata or states of markets into small files."""

import abc
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.export_directory.described_files import DescribedFiles
from tasks.postgres.database import Database
from tasks.ticks.value_text import counted
from tasks.workflow import findings, run_context
from tasks.workflow.base_task import ExportTask
from tasks.workflow.exit_codes import determining

_log = logging.getLogger("tick_export.metadata")


class DescribedMarketsTask(ExportTask):
    """Writes a small file for each of some markets if it differs from the database."""

    #: What the log and luigid call one of the files.
    file_kind: ClassVar[str]

    @abc.abstractmethod
    def files(self, database: Database) -> DescribedFiles[Any]:
        """Return the files of the markets."""

    def complete(self) -> bool:
        """Return whether every file agrees with the database; without a database, there is nothing to do."""
        if self.offline:
            return True
        with determining(), Database(findings.server()) as database:
            files = self.files(database)
            is_complete = files.are_current()
        if is_complete:
            run_context.current().at_end(files.remember)
        return is_complete

    def work(self) -> Mapping[str, str]:
        """Write what is missing or has changed; return the markets whose file could not be made, and why."""
        written = 0
        with Database(findings.server()) as database:
            files = self.files(database)
            for count in files.write():
                written += count
                self.say(f"{counted(written, self.file_kind)} written")
        self.say_done(f"{counted(written, self.file_kind)} written", _log)
        return files.failed
