"""Fetch: download a published export."""

import logging

from tasks.publishing import publication, retrieval
from tasks.publishing.place import Place, open_place
from tasks.publishing.retrieval import Wanted
from tasks.publishing.transfers import AT_ONCE
from tasks.workflow.base_task import ExportTask
from tasks.workflow.exit_codes import determining
from tasks.workflow.parameters import AddressParameter, DaysParameter, MarketIdsParameter
from tasks.workflow.progress import TransferProgress

_log = logging.getLogger("tick_export.fetch")


class Fetch(ExportTask):
    """Download a published export, or some days or markets of it, and verify each file."""

    writes = "the files of the published export"
    examples = (
        "--from s3://bucket/prefix --output-dir data_exports/fetched",
        "--from file:///mnt/share/export --days 2024-01-15",
    )

    unused_options = frozenset({"format", "export_metadata", "offline", "allow_other_database"})

    # "from" is a keyword, so it cannot be assigned in the class body, but it can be in the class's namespace.
    locals()["from"] = AddressParameter(
        option="--from", description="s3://bucket/prefix, gs://bucket/prefix or file:///folder"
    )
    markets = MarketIdsParameter(default=(), description="only these markets, such as 1.200806927,1.200806928")
    days = DaysParameter(default=(), description="only markets with ticks around these UTC days, and the days' CSVs")

    @property
    def _address(self) -> str:
        return str(getattr(self, "from"))

    def _place(self) -> Place:
        return open_place("--from", self._address, AT_ONCE)

    def complete(self) -> bool:
        """Return False: this always runs, and downloads nothing if everything is here."""
        with determining():
            retrieval.refuse_other_format(publication.require_manifest(self._place()), self.layout)
        return False

    def work(self) -> None:
        """Fetch the files that are missing or different."""
        place = self._place()
        manifest = publication.require_manifest(place)
        progress = TransferProgress(sum(entry.size_bytes for entry in manifest.objects.values()))
        count = self.showing(progress, progress.count_bytes)
        came = retrieval.fetch(place, manifest, self.layout, Wanted(self.markets, self.days), count)
        progress.count(1, 0)
        what = f"publication {manifest.publication} of {self._address}"
        text = f"{self.layout.output_dir}: {what}, {len(came):,} files downloaded"
        self.say_done(text, _log)
