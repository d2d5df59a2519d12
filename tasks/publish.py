"""Publish: copy an export to an object store or a folder."""

import logging
from collections.abc import Mapping

import luigi

from tasks.day_csv import export_source
from tasks.publishing import publication
from tasks.publishing.place import Place, open_place
from tasks.publishing.transfers import AT_ONCE
from tasks.report import ReportedExportTask
from tasks.workflow.exit_codes import determining
from tasks.workflow.parameters import AddressParameter
from tasks.workflow.progress import TransferProgress

_log = logging.getLogger("tick_export.publish")


class Publish(ReportedExportTask):
    """Copy the export to an object store or a folder: only what has changed, the index last, with a manifest."""

    writes = "nothing; all that it copies goes to --to, and manifest.json beside it"
    examples = ("--to s3://bucket/prefix", "--to file:///mnt/share/export --offline")

    to = AddressParameter(option="--to", description="s3://bucket/prefix, gs://bucket/prefix or file:///folder")
    prune = luigi.BoolParameter(
        default=False, description="remove published objects that the export no longer has; without it they stay"
    )

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "published"

    def _place(self) -> Place:
        return open_place("--to", self.to, AT_ONCE)

    def complete(self) -> bool:
        """Return False: this always runs, and sends nothing if nothing has changed."""
        with determining():
            publication.read_manifest(self._place())
            if self.offline:
                export_source.require_export(self.layout)
        return False

    def work(self) -> Mapping[str, str]:
        """Publish; return why markets could not be exported."""
        sources = publication.sources_of(self.layout)
        progress = TransferProgress(sum(source.size_bytes for source in sources.values()))
        count = self.showing(progress, progress.count_bytes)
        done = publication.publish(self._place(), sources, self.prune, count)
        progress.count(1, 0)
        text = (
            f"{self.to}: publication {done.manifest.publication}, {len(sources):,} objects,"
            f" {len(done.sent):,} sent ({done.sent_bytes:,} bytes), {len(done.removed):,} removed,"
            f" {len(done.manifest.kept):,} kept that the export no longer has"
        )
        self.say_done(text, _log)
        return self.failures()
