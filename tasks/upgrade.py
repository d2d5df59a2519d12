"""UpgradeExport."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tasks.day_csv import export_source
from tasks.errors import DamagedFile
from tasks.export_directory import directory_scan
from tasks.export_directory.directory_scan import OnDisk
from tasks.exporting import file_upgrade
from tasks.ticks.value_text import counted
from tasks.workflow.base_task import ExportTask, FormatFrom
from tasks.workflow.exit_codes import determining

_log = logging.getLogger("tick_export.upgrade")


class UpgradeExport(ExportTask):
    """Write market files of earlier format versions again in today's. Not needed: files of every version are read.

    It works without a database. Each file appears whole in place of the old one, so it can be stopped at any time and
    started again.
    """

    writes = "the market files of earlier versions again, index.csv"
    examples = ("",)

    unused_options = frozenset({"export_metadata", "allow_other_database"})
    format_from = FormatFrom.FILES

    @property
    def result(self) -> Path:
        """The index, which has the new checksums."""
        return self.layout.index

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"all market files in {self.layout.markets_dir} have the current format version"

    def complete(self) -> bool:
        """Return whether every file is of today's version, and the index says so."""
        with determining():
            export_source.require_export(self.layout)
            disk = self._look()
            done = not disk.not_ours(self.layout) and directory_scan.is_indexed(self.layout, disk, {})
            done = done and not file_upgrade.older_files(self.layout, disk.facts)
        return done

    def work(self) -> Mapping[str, str]:
        """Write the files and the index; return what is wrong with those that cannot be upgraded."""
        layout = self.layout
        disk = self._look()
        failed = disk.not_ours(layout)
        older = file_upgrade.older_files(layout, disk.facts)
        for number, market_id in enumerate(older, 1):
            try:
                file_upgrade.upgrade(layout, market_id, disk)
            except DamagedFile as error:
                failed[market_id] = str(error)
            self.say(f"{number:,} of {counted(len(older), 'market file')}", 100 * number // len(older))
        disk = self._look()
        directory_scan.publish_index(layout, disk, directory_scan.index_rows(layout, disk, {}))
        self.say_done(f"{counted(len(older), 'market file')} upgraded")
        _log.info("Upgraded %s in %s.", counted(len(older), "market file"), layout.markets_dir)
        return failed

    @property
    def others_are(self) -> str:
        """What became of the other markets where some failed."""
        return "upgraded"

    def _look(self) -> OnDisk:
        return directory_scan.look_at_disk(self.layout, directory_scan.list_files(self.layout))
