"""A published export, as the driver sees it: its days, which of them are made, and the manifest that lists them."""

import datetime
import functools
import hashlib
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.cluster.published_days import DayWork, MadeDay, inputs, metadata_name
from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation import Consolidation
from tasks.day_csv.consolidation_report import Published
from tasks.errors import StoreError
from tasks.export_directory.index_csv import Index, IndexRow
from tasks.market_files.time_span import Span
from tasks.publishing import manifest, publication, retrieval
from tasks.publishing.manifest import Entry, Manifest
from tasks.publishing.place import Place, Stored
from tasks.storage.file_names import market_file_name
from tasks.storage.layout import INDEX, Layout

#: Names of consolidated files and of their reports begin so.
_DAYS = "consolidat"
#: How often the manifest is written, so that a run that is killed has not worked in vain.
_WRITE_S = 60.0


class PublishedExport:
    """An export at its address, as its manifest and its index list it. Raises StoreError."""

    def __init__(self, place: Place, listed: Manifest) -> None:
        self.place = place
        self._objects = listed.objects
        if INDEX not in listed.objects:
            raise StoreError(f"{place.address}: its manifest does not list {INDEX}. Publish again.")
        with tempfile.TemporaryDirectory(prefix="tick-export-index-") as directory:
            self.rows: Index = retrieval.published_index(place, listed, Path(directory))
        for row in self.rows.values():
            entry = self._objects.get(row.file_path)
            if entry is None or entry.checksum != row.facts.checksum:
                raise StoreError(
                    f"{place.address}: {row.file_path} is another one in {manifest.NAME} than in {INDEX}. If Publish is"
                    " running, start again when it has ended; otherwise publish again."
                )
        found = {market_file_name(Path(row.file_path).name) for row in self.rows.values()}
        self.format = next((name.format for name in found if name is not None), "parquet")
        self._days: dict[datetime.date, dict[str, IndexRow]] = {}
        self._reports: dict[tuple[datetime.date, str], Published | None] = {}

    @functools.cached_property
    def _there(self) -> Mapping[str, Stored]:
        return self.place.list(_DAYS)

    def rows_of(self, days: Sequence[datetime.date], suffix: str) -> dict[datetime.date, dict[str, IndexRow]]:
        """Return the rows of the markets with ticks on each of some days.

        Market files of which the index does not say it, nor the report of the day, are fetched for a look.
        """
        unseen = [day for day in days if day not in self._days]
        spans = {day: Span.of_day(day) for day in unseen}
        known = {day: self._listed(day, suffix) for day in unseen}
        to_open = {
            market_id
            for day, span in spans.items()
            for market_id in export_source.undecided(self.rows, span)
            if market_id not in known[day]
        }
        with tempfile.TemporaryDirectory(prefix="tick-export-look-") as directory:
            layout = Layout(Path(directory), self.format)
            names = [self.rows[market_id].file_path for market_id in sorted(to_open)]
            retrieval.bring(self.place, self._objects, layout, names, lambda size_bytes: None)
            for day, span in spans.items():
                self._days[day] = export_source.with_ticks(layout, self.rows, span, known[day])
        return {day: self._days[day] for day in days}

    def _listed(self, day: datetime.date, suffix: str) -> set[str]:
        """Return the markets that a day's report lists as they are now: they have ticks on that day."""
        report = self._report(day, suffix)
        if report is None:
            return set()
        return {
            market_id
            for market_id, made_of in report.inputs.items()
            if market_id in self.rows and self.rows[market_id].facts.checksum == made_of.data
        }

    def _report(self, day: datetime.date, suffix: str) -> Published | None:
        """Return the report of a day if it and the file that it describes are what the manifest lists."""
        if (day, suffix) not in self._reports:
            self._reports[day, suffix] = self._read_report(day, suffix)
        return self._reports[day, suffix]

    def _read_report(self, day: datetime.date, suffix: str) -> Published | None:
        layout = Layout(Path(), self.format)
        names = layout.day_csv(day, suffix).name, layout.day_report(day, suffix).name
        for name in names:
            entry, stored = self._objects.get(name), self._there.get(name)
            if entry is None or stored != Stored(entry.size_bytes, entry.tag):
                return None
        content = self.place.read(names[1])
        if content is None or hashlib.sha256(content).hexdigest() != self._objects[names[1]].checksum:
            return None
        report = consolidation_report.parse(layout.day_report(day, suffix), content)
        if report is None or report.partial or report.file.checksum != self._objects[names[0]].checksum:
            return None
        return report

    def is_made(self, day: datetime.date, suffix: str) -> bool:
        """Return whether a day's file is there and was made from the market files and metadata as they are."""
        rows = self.rows_of([day], suffix)[day]
        report = self._report(day, suffix)
        return bool(rows) and report is not None and report.inputs == inputs(rows, self._objects)

    def work_on(self, day: datetime.date, rows: Mapping[str, IndexRow], wanted: Consolidation) -> DayWork:
        """Return what executors need to make a day."""
        names = [name for market_id, row in rows.items() for name in (row.file_path, metadata_name(market_id))]
        made_of = {name: self._objects[name] for name in names if name in self._objects}
        return DayWork(self.place.address, self.format, rows, made_of, wanted)


class Additions:
    """Days that are added to a published export. The manifest is written now and then, and by write() at the end."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._added: dict[str, Entry] = {}
        self._written_s = time.monotonic()

    def add(self, day: MadeDay, report_name: str) -> None:
        """Add a day whose file is in its place: write its report."""
        self._place.write(report_name, day.report)
        stored = self._place.list(report_name)[report_name]
        with self._lock:
            self._added[day.csv.name] = Entry(day.csv.size_bytes, day.csv.checksum, day.csv.modified_us, day.stored.tag)
            self._added[report_name] = Entry(
                len(day.report), hashlib.sha256(day.report).hexdigest(), day.csv.modified_us, stored.tag
            )
            if time.monotonic() - self._written_s > _WRITE_S:
                self._write()

    def write(self) -> None:
        """Write the manifest with all that was added. It is read again before, so that nothing else in it is lost."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._added:
            before = publication.require_manifest(self._place)
            objects = {**before.objects, **self._added}
            after = before.followed_by(objects, False, {*before.made_there, *self._added})
            if after != before:
                self._place.write(manifest.NAME, after.render())
            self._added.clear()
        self._written_s = time.monotonic()
