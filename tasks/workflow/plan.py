"""What a run has to export: large markets alone, the others in batches or groups."""

import dataclasses
import datetime
import logging
import math
import time
import zlib
from collections.abc import Collection, Iterable, Sequence

import luigi.interface

from tasks.export_directory.directory_scan import OnDisk
from tasks.export_directory.journal import Journal
from tasks.exporting import execution_report, survey
from tasks.exporting.late_rows import markets_with_late_rows
from tasks.exporting.market_reads import Job
from tasks.exporting.survey import Pending, Stored
from tasks.market_files.time_span import DAY_US, Span
from tasks.postgres.database import Database
from tasks.postgres.density import Density
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks.value_text import counted
from tasks.workflow import clocks, findings, run_context
from tasks.workflow.exit_codes import determining
from tasks.workflow.findings import Findings
from tasks.workflow.progress import Progress
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.run")

#: Small markets are exported together. Under luigid each is a task of its own, up to market_nodes of them, run in this
#: many batches. Without luigid, or if there are more, they go in groups by a checksum of their id: under luigid in this
#: many, the same in every process whatever is missing, otherwise in two per worker. Each further group or batch costs
#: 0.1 s of processor time (a process, a connection), each further task 4 ms.
GROUPS = 8
_GROUPS_PER_WORKER = 2
#: A market with more rows is exported alone.
ALONE_ROWS = 300_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run has to export.

    stored, disk: what was found in the database and on disk; pending: the markets to export, and whether the file of
    each will be empty; large: those that are exported alone, the largest first; batched: those with a task of their own
    that are exported in batches of batch_size, in this order; groups: the others by the name of their group; is_of_one:
    whether the plan is for a single market that was asked for.
    """

    stored: Stored
    disk: OnDisk
    pending: dict[str, bool]
    large: tuple[str, ...]
    batched: dict[str, None]
    groups: dict[str, tuple[str, ...]]
    job: Job
    progress: Progress
    started_s: float
    is_of_one: bool

    @property
    def layout(self) -> Layout:
        """Where the files are."""
        return self.job.layout

    @property
    def batch_size(self) -> int:
        """The most markets of a batch."""
        return max(math.ceil(len(self.batched) / GROUPS), 1)

    def market(self, market_id: str) -> Pending:
        """Return what to do for a market. It is created on demand, because very many of them would take much memory. A
        market that is not in this plan is in that of another worker of luigid.
        """
        disk = self.disk
        return Pending(
            market_id,
            self.pending.get(market_id, False),
            disk.files.get(market_id),
            disk.damaged.get(market_id),
            disk.unvouched.get(market_id),
        )

    def any_open(self, market_ids: Iterable[str]) -> bool:
        """Return whether one of the markets is still to be exported: it was neither written since the plan was made nor
        recorded as failed.
        """
        failed = self.failed()
        return any(
            market_id in self.pending and market_id not in failed and not self._is_written(market_id)
            for market_id in market_ids
        )

    def any_failed(self) -> bool:
        """Return whether a market of this plan has failed in this run, or its file cannot be read."""
        return bool(self.disk.unreadable) or not self.pending.keys().isdisjoint(self.failed())

    def failures(self, disk: OnDisk | None = None) -> dict[str, str]:
        """Return why markets could not be exported in this run, for the task that has to report it.

        disk: what is there, if it was scanned again since the plan was made.
        """
        return execution_report.known_failures(self.stored, disk or self.disk) | self.failed()

    def closing_line(self, failed: Collection[str]) -> str:
        """Return what the run did in one line: files, ticks, seconds, place."""
        # under luigid another run may have written some of them
        written = min(len(self.pending.keys() - failed), self.progress.markets)
        duration_s = time.time() - self.started_s
        if not self.pending and not failed:
            return f"No market file had to be written. What is made from them in {self.layout.output_dir} is current."
        failures = f", {counted(len(failed), 'market')} failed" if failed else ""
        return (
            f"Wrote {counted(written, 'market file')} with {counted(self.progress.ticks, 'tick')} in"
            f" {duration_s:,.1f} s to {self.layout.output_dir}{failures}."
            f" More in {self.layout.execution_report.name}."
        )

    def failed(self) -> dict[str, str]:
        """Return why markets failed in this run, by market."""
        return Journal(self.layout.journal_dir).failed_since(run_context.current().started_s)

    def _is_written(self, market_id: str) -> bool:
        before = self.disk.files.get(market_id)
        try:
            now = FileStat.of_path(self.layout.market_file(market_id))
        except OSError:  # or a dangling link
            return False
        return before is None or not now.is_same_file(before)


def plan_all(
    layout: Layout, without_ticks: bool, without_ladder: bool, recheck_days: int, allow_other_database: bool
) -> Plan:
    """Plan the export of all markets.

    without_ticks, without_ladder: include markets without ticks, or with traded rows only; recheck_days: how many days,
    including today, are searched for late rows.
    """
    clocks.compare()
    found = run_context.current().once(findings.look_at_all, layout, allow_other_database)
    stored = found.stored
    for wanted, market_ids in ((without_ticks, stored.events), (without_ladder, stored.traded_only)):
        if wanted:
            stored = dataclasses.replace(stored, refused=stored.with_refused(market_ids))
    trades = stored.trades_not_exported(found.disk.facts)
    if trades and not without_ladder:
        _log.warning("%s", execution_report.about_trades(trades))
    found = dataclasses.replace(found, stored=stored)
    wanted_ids = survey.universe(stored, found.disk, without_ticks, without_ladder)
    today = Span.of_day(datetime.datetime.fromtimestamp(found.started_s, datetime.UTC).date())
    recheck = Span(today.upper_us - recheck_days * DAY_US, today.upper_us) if recheck_days else None
    return _planned(found, wanted_ids, without_ladder=without_ladder, recheck=recheck)


def plan_day(layout: Layout, date: datetime.date, recheck: bool, allow_other_database: bool) -> Plan:
    """Plan the export of the markets with ticks on a UTC day; recheck: search the day for late rows."""
    clocks.compare()
    found = run_context.current().once(findings.look_at_day, layout, date, allow_other_database)
    return _planned(found, found.market_ids or (), recheck=Span.of_day(date) if recheck else None)


def plan_market(
    layout: Layout, market_id: str, refresh: bool, without_ladder: bool, allow_other_database: bool
) -> Plan:
    """Plan the export of one market; refresh: even if its file is complete; without_ladder: even if it has only traded
    rows.
    """
    clocks.compare()
    found = run_context.current().once(findings.look_at_market, layout, market_id, allow_other_database)
    return _planned(found, [market_id], refresh, is_of_one=True, without_ladder=without_ladder)


def plan_offline(layout: Layout) -> Plan:
    """Plan to export nothing: the export is used as it is."""
    return _planned(run_context.current().once(findings.look_offline, layout), ())


def _planned(
    found: Findings,
    market_ids: Iterable[str],
    refresh: bool = False,
    is_of_one: bool = False,
    without_ladder: bool = False,
    recheck: Span | None = None,
) -> Plan:
    pending = dict(survey.pending(found.stored, found.disk, tick_export().settle_us, market_ids, without_ladder))
    if refresh:
        pending |= {market_id: False for market_id in market_ids if market_id in found.disk.files.keys() - pending}
    if recheck is not None:
        pending |= dict.fromkeys(_late(found, market_ids, pending, recheck), False)
    density = Density()
    if pending:
        with determining(), Database(findings.server()) as database:
            density = Density.sampled(database, pending)
    core = luigi.interface.core()
    large = [market_id for market_id in pending if density.rows(market_id) > ALONE_ROWS]
    small = [market_id for market_id in pending if density.rows(market_id) <= ALONE_ROWS]
    batched: list[str] = []
    if not core.local_scheduler and len(pending) <= tick_export().market_nodes:
        batched, small = _dealt(sorted(small, key=density.rows, reverse=True)), []
    groups = _grouped(small, _GROUPS_PER_WORKER * core.workers if core.local_scheduler else GROUPS)
    progress = Progress()
    progress.expect(len(pending), density.total_rows())
    if pending and not is_of_one:  # one that was asked for may turn out not to exist
        _log.info(
            "%s in the database, %s, %d to export to %s.",
            counted(sum(1 for _ in found.stored.with_ladder()), "market"),
            counted(len(found.disk.files), "market file"),
            len(pending),
            found.layout.output_dir,
        )
    return Plan(
        found.stored,
        found.disk,
        pending,
        tuple(sorted(large, key=density.rows, reverse=True)),
        dict.fromkeys(batched),
        groups,
        Job(findings.server(), found.layout, density, found.disk.promise, core.workers, found.tables, progress.count),
        progress,
        found.started_s,
        is_of_one=is_of_one,
    )


def _late(found: Findings, market_ids: Iterable[str], pending: Collection[str], span: Span) -> list[str]:
    """Return the markets with complete files that lack settled rows of a span."""
    settled_us = clocks.now_us() - tick_export().settle_us
    span = Span(span.lower_us, min(span.upper_us, settled_us))
    wanted = [
        market_id
        for market_id in market_ids
        if market_id in found.disk.facts and market_id not in pending
        if found.stored.newest.get(market_id, span.lower_us - 1) >= span.lower_us
    ]
    if not wanted or span.lower_us >= span.upper_us:
        return []
    with determining(), Database(findings.server()) as database:
        late = markets_with_late_rows(database, found.layout, wanted, span)
    _log.info("Late rows: reading %d of %s again.", len(late), counted(len(wanted), "market"))
    return late


def _dealt(market_ids: Sequence[str]) -> list[str]:
    """Return markets, given the largest first, dealt like cards, so that the batches cut from them are alike."""
    return [market_id for first in range(GROUPS) for market_id in market_ids[first::GROUPS]]


def _grouped(market_ids: Iterable[str], number: int) -> dict[str, tuple[str, ...]]:
    """Return markets in at most so many groups, chosen by a checksum of the id, by the group's name, such as 3 of 8."""
    groups: dict[str, list[str]] = {}
    for market_id in market_ids:
        groups.setdefault(f"{zlib.crc32(market_id.encode()) % number + 1} of {number}", []).append(market_id)
    return {group: tuple(names) for group, names in groups.items()}
