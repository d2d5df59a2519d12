"""BuildCatalogue: views for SQL."""

import logging

import luigi

from tasks.day_csv import export_source
from tasks.export_directory import catalogue_sql, index_csv
from tasks.storage.atomic_files import replacing
from tasks.ticks.value_text import counted
from tasks.whole_export import WholeExportTask
from tasks.workflow.exit_codes import determining

_log = logging.getLogger("tick_export.catalogue")


class BuildCatalogue(WholeExportTask):
    """Write catalogue.sql, views for DuckDB over ticks, markets, runners and what else the export has.

    Paths are relative, and a variable says where the export is, so that the same file serves a copy in an object store.
    """

    writes = "catalogue.sql"
    examples = ("--offline",)

    def output(self) -> luigi.LocalTarget:
        """Return the file."""
        return luigi.LocalTarget(str(self.layout.catalogue))

    def complete(self) -> bool:
        """Return whether it says what there is now."""
        with determining():
            if self.takes_files_alone:
                export_source.require_export(self.layout)
            return all(task.complete() for task in self.requires()) and self._is_current()

    def work(self) -> dict[str, str]:
        """Write it; return why markets could not be exported."""
        text = self._text()
        with replacing(self.layout.catalogue) as file:
            file.write(text.encode())
        self.say_done(f"{self.layout.catalogue}: {counted(text.count('CREATE OR REPLACE VIEW'), 'view')}", _log)
        return self.failures()

    def _is_current(self) -> bool:
        try:
            return self.layout.catalogue.read_bytes() == self._text().encode()
        except FileNotFoundError:
            return False

    def _text(self) -> str:
        return catalogue_sql.text(self.layout, index_csv.read(self.layout.index))
