"""Report: report.html and condition.json."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from tasks.condition import export_condition
from tasks.day_csv import export_source
from tasks.errors import ExportError, NotAnExport
from tasks.export_directory.index_csv import Index
from tasks.reporting import page, report_page
from tasks.storage.atomic_files import replacing
from tasks.storage.file_identity import file_checksum
from tasks.storage.file_names import is_metadata, market_of
from tasks.storage.layout import Layout
from tasks.ticks.value_text import counted
from tasks.whole_export import WholeExportTask
from tasks.workflow import judging
from tasks.workflow.exit_codes import determining
from tasks.workflow.progress import PartProgress
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.report")


class Report(WholeExportTask):
    """Write report.html, a page for people, and condition.json: which markets and days are complete, and if
    not, why.
    """

    writes = "report.html, condition.json"
    examples = ("", "--offline --output-dir their_export")

    as_it_lies = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="report on the export as it is, and query the database only for the markets it knows",
    )

    def output(self) -> list[luigi.LocalTarget]:
        """Return page and condition."""
        return [luigi.LocalTarget(str(path)) for path in (self.layout.report_page, self.layout.condition)]

    @property
    def result(self) -> Path:
        """The page."""
        return self.layout.report_page

    @property
    def others_are(self) -> str:
        """What happened to the other markets if some failed."""
        return "in the report"

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.layout.report_page} and {self.layout.condition.name} are up to date with the market files"

    def complete(self) -> bool:
        """Return whether both were made from the current files."""
        with determining():
            if self.takes_files_alone:
                export_source.require_export(self.layout)
            try:
                kept = json.loads(self.layout.report_state.read_text(encoding="utf-8"))
                now = self._state()
                if self.takes_files_alone and (self.offline or kept["without_ticks"]):
                    now["without_ticks"] = kept["without_ticks"]  # only the database knows them
                return bool(kept == now) and all(task.complete() for task in self.requires())
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return False
            except (OSError, NotAnExport):  # cannot be read: with the database, what they say is determined again
                if self.takes_files_alone:
                    raise
                return False

    def work(self) -> Mapping[str, str]:
        """Judge the export, write condition and page; return why market files could not be read."""
        layout, rows = self.layout, export_source.indexed(self.layout)
        expected = sum(facts.tick_records for facts in rows.facts.values())
        progress = PartProgress("market", "judged", len(rows), expected)
        count = self.showing(progress, progress.count)
        unknown = None if self.offline else self._without_ticks(rows)
        judged, failed = judging.judge_export(layout, rows, unknown, count)
        with replacing(layout.condition) as file:
            file.write(export_condition.render(judged))
        with replacing(layout.report_page) as file:
            file.write(report_page.render(layout, rows, judged, _plotted(layout)))
        with replacing(layout.report_state) as file:
            state = self._state() | ({"without_ticks": None} if unknown is None else {})
            file.write(json.dumps(state).encode())
        good = sum(1 for day in judged.days if day.condition == "good")
        text = (
            f"{layout.report_page}: {counted(len(rows), 'market')}, {good:,} of {counted(len(judged.days), 'day')} good"
        )
        self.say_done(text, _log if self.is_asked_for else None)
        known_failures = self.failures()
        return {market_id: reason for market_id, reason in failed.items() if market_id not in known_failures}

    def _without_ticks(self, rows: Index) -> judging.WithoutTicks | None:
        """Return the markets that only the database knows; None if the export is reported on as it is, and the database
        cannot be queried.
        """
        ticks = [moment for facts in rows.facts.values() for moment in (facts.first_tick, facts.last_tick)]
        known = [moment for moment in ticks if moment is not None]
        try:
            return judging.without_ticks(min(known), max(known) + 1, rows) if known else {}
        except ExportError as error:
            if not self.as_it_lies:
                raise
            _log.warning("The report does not say which markets have no ticks: %s", error)
            return None

    @property
    def takes_files_alone(self) -> bool:
        """Whether the export is reported on as it is on disk."""
        return bool(self.offline or self.as_it_lies)

    def _state(self) -> dict[str, Any]:
        """Return what the page is made of, and the checksums of the two files as they are there.

        without_ticks: None if the database was not queried for them.
        """
        layout, made_of = self.layout, hashlib.sha256()
        made_of.update(layout.index.read_bytes())
        with contextlib.suppress(FileNotFoundError), os.scandir(layout.markets_dir) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if is_metadata(entry.name):
                    stat = entry.stat()
                    made_of.update(f"{entry.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        stored: set[str] = set()
        if not self.takes_files_alone:
            stored = self.plan().stored.events.keys() - self.plan().stored.newest.keys()
        today = judging.today()
        return {
            "made_of": made_of.hexdigest(),
            "without_ticks": hashlib.sha256("\n".join(sorted(stored)).encode()).hexdigest(),
            "plotted": sorted(_plotted(layout)),
            "page": page.fingerprint(),
            "below": int(tick_export().day_below_percent),
            # the day that is not over turns into one that is
            "open_day": str(today) if judging.reaches(export_source.indexed(layout).facts.values(), today) else "",
            # VerifyExport compares them too
            "sha256": [file_checksum(path) for path in (layout.condition, layout.report_page)],
        }


def _plotted(layout: Layout) -> set[str]:
    """Return the markets that have a plot."""
    try:
        return {market_of(entry.name) for entry in os.scandir(layout.plots_dir) if entry.name.endswith(".html")} - {""}
    except FileNotFoundError:
        return set()


class ReportedExportTask(WholeExportTask):
    """Makes something from a whole export, and from its report, if it has one."""

    def requires(self) -> Any:
        """Return index, metadata and the report that is there, and with them the exports that are missing."""
        tasks = super().requires()
        with determining():
            is_there = self.layout.report_page.exists()
        return [*tasks, self.clone(Report)] if tasks and is_there else tasks
