"""Publish."""

import logging
from collections.abc import Mapping
from typing import Any

import luigi

from tasks.day_csv import export_source
from tasks.index import BuildIndex
from tasks.metadata import BuildMetadata
from tasks.publishing import publication
from tasks.publishing.place import Place, open_place
from tasks.report import Report
from tasks.storage.layout import Layout
from tasks.workflow.base_task import AllMarketsTask
from tasks.workflow.exit_codes import determining
from tasks.workflow.parameters import AddressParameter
from tasks.workflow.progress import TransferProgress

_log = logging.getLogger("tick_export.publish")


class Publish(AllMarketsTask):
    """Copy the export to an object store or a folder: only what has changed, the index last, with a manifest."""

    to = AddressParameter(option="--to", description="s3://bucket/prefix or file:///folder")
    prune = luigi.BoolParameter(
        default=False, description="remove published objects that the export no longer has; without it they stay"
    )

    @property
    def layout(self) -> Layout:
        """The paths of the export, offline in the format that it has."""
        return export_source.as_it_lies(super().layout) if self.offline else super().layout

    def requires(self) -> Any:
        """Return index, metadata and the report that is there, and with them the exports that are missing."""
        if self.offline:
            return []
        tasks = [self.clone(BuildIndex)]
        if self.export_metadata:
            tasks.append(self.clone(BuildMetadata))
        return [*tasks, self.clone(Report)] if self.layout.report_page.exists() else tasks

    @property
    def others_are(self) -> str:
        """What became of the other markets where some failed."""
        return "published"

    def _place(self) -> Place:
        return open_place("--to", self.to, publication.AT_ONCE)

    def complete(self) -> bool:
        """Return False: this always runs, and sends nothing where nothing changed."""
        with determining():
            publication.read_manifest(self._place())
            if self.offline:
                export_source.require_export(self.layout)
        return False

    def work(self) -> Mapping[str, str] | None:
        """Publish; return why markets could not be exported."""
        sources = publication.sources_of(self.layout)
        progress = TransferProgress(sum(source.size_bytes for source in sources.values()))

        def count(size_bytes: int) -> None:
            progress.count(0, size_bytes)
            self.say(progress.text, progress.percent)

        done = publication.publish(self._place(), sources, self.prune, count)
        progress.count(1, 0)
        text = (
            f"{self.to}: publication {done.manifest.publication}, {len(sources):,} objects,"
            f" {len(done.sent):,} sent ({done.sent_bytes:,} bytes), {len(done.removed):,} removed,"
            f" {len(done.manifest.kept):,} kept that the export no longer has"
        )
        _log.info("%s.", text)
        self.say_done(text)
        return None if self.offline else self.plan().failures()
