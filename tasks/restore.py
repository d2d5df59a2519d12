"""Restore: load an export back into PostgreSQL."""

import dataclasses
import logging

import luigi

from tasks.errors import NotVerified
from tasks.postgres import restored_schema
from tasks.postgres.restored_schema import RestoredSchema
from tasks.postgres.server import Server
from tasks.restoring import restoration
from tasks.restoring.restoration import Restored
from tasks.ticks.value_text import counted
from tasks.workflow import findings
from tasks.workflow.base_task import ExportTask, FormatFrom
from tasks.workflow.exit_codes import EXIT_USAGE, determining, stop
from tasks.workflow.parameters import SchemaParameter
from tasks.workflow.progress import Progress

_log = logging.getLogger("tick_export.restore")


class Restore(ExportTask):
    """Load the export into PostgreSQL, into a new or empty schema, and compare the result before the commit."""

    writes = "nothing; the tables are created in the database"
    examples = ("--schema restored", "--schema restored --compare")

    unused_options = frozenset({"format", "export_metadata", "offline", "allow_other_database"})
    format_from = FormatFrom.FILES

    schema = SchemaParameter(description="schema to restore into: a new or empty one")
    compare = luigi.BoolParameter(
        default=False,
        significant=False,
        description="also compare with the recorder's own tables in the same database, row by row, both ways",
    )

    def complete(self) -> bool:
        """Return False: this always runs, and only into an empty schema."""
        if self.offline:
            stop("Restore loads into the database: it cannot be --offline.", EXIT_USAGE)
        with determining():
            restoration.indexed(self.layout)
            with RestoredSchema(findings.server(), self.schema) as schema:
                schema.require_empty()
            if self.compare:
                restored_schema.recorders_tables(self._recorder())
        return False

    def _recorder(self) -> Server:
        """The database, where the restored schema is not looked into."""
        return dataclasses.replace(findings.server(), options=Server.options)

    def work(self) -> None:
        """Restore: load an export back into PostgreSQL."""
        rows = restoration.indexed(self.layout)
        progress = Progress()
        progress.expect(len(rows), sum(row.facts.tick_records for row in rows.values()))
        count = self.showing(progress, progress.count)
        others = restored_schema.recorders_tables(self._recorder()) if self.compare else None
        with RestoredSchema(findings.server(), self.schema) as schema:
            done = restoration.restore(self.layout, rows, schema, others, count)
        text = (
            f"Schema {self.schema} of {findings.server()}: {counted(done.markets, 'market')} with"
            f" {counted(done.ticks, 'tick')} of {counted(done.days, 'day')} restored and equal to the files."
        )
        _log.info("%s", text)
        self._say_more(done)
        self.say_done(text)
        if done.lost:
            raise NotVerified(
                f"The recorder's tables have {counted(done.lost, 'row')} of these markets that the export lacks. Run"
                " VerifyExport, which names them, or ExportAll --recheck-days, which adds them."
            )

    def _say_more(self, done: Restored) -> None:
        if done.without_key:
            _log.warning("Rows share a key, so %s got no primary key.", " and ".join(done.without_key))
        if done.without_metadata:
            _log.warning("%s without a metadata file.", counted(done.without_metadata, "market"))
        if done.lost is not None:
            _log.info(
                "Compared with the recorder's tables: %s only there, %s only in the export.",
                counted(done.lost, "row"),
                counted(done.added or 0, "row"),
            )
