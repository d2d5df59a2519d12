"""One run: what its tasks share. Found out once, before the first task starts; worker processes inherit it by fork."""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import functools
import gc
import logging
import multiprocessing
import os
import time
import zlib
from collections.abc import Iterable, Iterator

import filelock
import luigi.interface

from tasks.day_csv import export_source
from tasks.day_csv.database_source import runners_between
from tasks.errors import ExportError, is_full_disk, told
from tasks.export_directory import directory_scan
from tasks.export_directory.directory_scan import OnDisk
from tasks.export_directory.journal import Journal
from tasks.exporting import survey
from tasks.exporting.market_export import Job
from tasks.exporting.survey import Pending, Stored
from tasks.market_files.time_span import Span
from tasks.postgres.database import Database
from tasks.postgres.density import Density
from tasks.postgres.server import Server
from tasks.storage.atomic_files import remove_leftovers
from tasks.storage.layout import Layout
from tasks.workflow.exit_codes import EXIT_FAILED, stop
from tasks.workflow.progress import Progress
from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.run")

STARTED_S = time.time()

#: Small markets are exported in groups by a checksum of their id: under luigid in so many, the same in every process
#: whatever is missing; by itself a run makes two a worker. A task more costs 0.1 s of processor time: Luigi, a
#: process, a connection.
GROUPS = 8
_GROUPS_A_WORKER = 2
#: A market of more rows gets a task of its own.
LARGE_ROWS = 300_000

_locks: list[filelock.BaseFileLock] = []
_claimed: list[Layout] = []


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be exported, of one market or of all: large markets one by one, the others in groups.

    pending: the markets that wait, and whether the file of each will be empty.
    """

    stored: Stored
    disk: OnDisk
    pending: dict[str, bool]
    large: tuple[str, ...]
    groups: dict[int, tuple[str, ...]]
    job: Job
    progress: Progress
    started_s: float

    @property
    def layout(self) -> Layout:
        """Where the files are."""
        return self.job.layout

    def market(self, market_id: str) -> Pending:
        """Return what is to be done for a market that waits, made anew each time: very many of them would take much
        memory.
        """
        disk = self.disk
        return Pending(
            market_id,
            self.pending[market_id],
            disk.files.get(market_id),
            disk.damaged.get(market_id),
            disk.unvouched.get(market_id),
        )

    def any_open(self, market_ids: Iterable[str]) -> bool:
        """Tell whether one of the markets still waits: neither written since the plan was made nor recorded as
        failed.
        """
        failed = Journal(self.layout.journal_dir).all_failed()
        return any(
            market_id in self.pending and market_id not in failed and not self._is_written(market_id)
            for market_id in market_ids
        )

    def any_failed(self) -> bool:
        """Tell whether there is a failure that nobody has reported yet: whoever is asked for all markets has to."""
        return bool(self.disk.unreadable) or not self.pending.keys().isdisjoint(
            Journal(self.layout.journal_dir).all_failed()
        )

    def _is_written(self, market_id: str) -> bool:
        before = self.disk.files.get(market_id)
        try:
            now = os.stat(self.layout.market_file(market_id))
        except OSError:  # or a link that leads nowhere
            return False
        return before is None or (now.st_ino, now.st_mtime_ns) != (before.st_ino, before.st_mtime_ns)


@contextlib.contextmanager
def determining() -> Iterator[None]:
    """Turn what goes wrong before the first task starts into one line and the exit code for it."""
    try:
        yield
    except ExportError as error:
        stop(told(error), error.exit_code)
    except OSError as error:
        stop(
            (
                told(error)
                if is_full_disk(error)
                else f"{error.filename or 'The disk'}: {error.strerror or error}. Mend it and start again."
            ),
            EXIT_FAILED,
        )


def server() -> Server:
    """Return the database that the environment names."""
    with determining():
        return Server.from_environment()


@functools.cache
def claim(layout: Layout) -> None:
    """Keep other runs out of the output directory until this process ends; exit 10 if one is in.

    Workers of one luigid share a directory without a lock: it hands no task out twice.
    """
    alone = luigi.interface.core().local_scheduler
    lock = filelock.FileLock(layout.lock)
    try:
        layout.output_dir.mkdir(parents=True, exist_ok=True)
        if alone:
            lock.acquire(timeout=0)
    except filelock.Timeout:
        _log.error("Another run works in %s. Wait until it has ended, then start again.", layout.output_dir)
        raise luigi.interface.PidLockAlreadyTakenExit() from None
    except OSError as error:
        stop(
            f"Cannot write to {layout.output_dir}: {error.strerror}. Mend its permissions or choose another"
            " --output-dir.",
            EXIT_FAILED,
        )
    if alone:
        _locks.append(lock)
        Journal(layout.journal_dir).forget_before(STARTED_S)
    _claimed.append(layout)
    for directory in layout.directories:
        if removed := remove_leftovers(directory):
            _log.info(
                "Removed what a killed process had left in %s: %d files (%s ...).", directory, len(removed), removed[0]
            )


def clear_up() -> None:
    """Remove what this process, interrupted, and its workers leave unfinished."""
    for worker in multiprocessing.active_children():
        worker.join()
    for layout in _claimed:
        for directory in layout.directories:
            remove_leftovers(directory, finished_here=True)


@functools.cache
def plan(
    layout: Layout,
    include_markets_without_ticks: bool = False,
    market_id: str | None = None,
    refresh: bool = False,
    allow_other_database: bool = False,
) -> Plan:
    """Find out what is to be exported: of one market, or of all."""
    settings = tick_export()
    started_s = time.time()
    with determining(), Database(server()) as database:
        claim(layout)
        stats = directory_scan.list_files(layout)
        if market_id is not None:
            stats = {name: stat for name, stat in stats.items() if name == market_id}
        stored, disk = _both(database, None if market_id is None else [market_id], layout, stats)
        if include_markets_without_ticks:
            stored = dataclasses.replace(stored, refused=stored.with_refused(stored.events))
        if not allow_other_database:
            survey.refuse_other_database(database, stored, disk, layout)
        wanted = survey.universe(stored, disk, include_markets_without_ticks) if market_id is None else [market_id]
        pending = dict(survey.pending(stored, disk, settings.settle_us, wanted))
        if refresh and market_id is not None and market_id in stats:
            pending.setdefault(market_id, False)
        density = Density.sampled(database, pending) if pending else Density()
    return _arranged(layout, stored, disk, pending, density, started_s)


@functools.cache
def plan_day(layout: Layout, date: datetime.date, allow_other_database: bool = False) -> Plan:
    """Find out what is to be exported of the markets with ticks on a UTC day. stored speaks of these markets alone."""
    settings = tick_export()
    started_s = time.time()
    with determining(), Database(server()) as database:
        claim(layout)
        stats = directory_scan.list_files(layout)
        runners = runners_between(database, Span.of_day(date))
        stored, disk = _both(database, list(runners.selections), layout, stats)
        stored = dataclasses.replace(stored, refused=runners.refused)
        if not allow_other_database:
            survey.refuse_other_database(database, stored, disk, layout)
        pending = dict(survey.pending(stored, disk, settings.settle_us, runners.selections))
        density = Density.sampled(database, pending) if pending else Density()
    return _arranged(layout, stored, disk, pending, density, started_s)


def _both(
    database: Database, market_ids: list[str] | None, layout: Layout, stats: directory_scan.Stats
) -> tuple[Stored, OnDisk]:
    """Ask the database and, while it works, look at the disk."""
    drop_before_us = time.time_ns() // 1000 - tick_export().warn_partition_us
    with concurrent.futures.ThreadPoolExecutor(1, "disk") as pool:
        disk = pool.submit(directory_scan.look_at_disk, layout, stats)
        return survey.ask_database(database, market_ids, stats, drop_before_us), disk.result()


def _arranged(
    layout: Layout, stored: Stored, disk: OnDisk, pending: dict[str, bool], density: Density, started_s: float
) -> Plan:
    large = sorted(
        (market_id for market_id in pending if density.rows(market_id) > LARGE_ROWS), key=density.rows, reverse=True
    )
    core = luigi.interface.core()
    number = _GROUPS_A_WORKER * core.workers if core.local_scheduler else GROUPS
    groups: dict[int, list[str]] = {}
    for market_id in pending:
        if density.rows(market_id) <= LARGE_ROWS:
            groups.setdefault(zlib.crc32(market_id.encode()) % number, []).append(market_id)
    progress = Progress()
    progress.expect(len(pending), density.total_rows())
    _log.info(
        "%d markets in the database, %d market files, %d to export (%d large ones, the others in %d groups).",
        sum(1 for _ in stored.with_ladder()),
        len(disk.files),
        len(pending),
        len(large),
        len(groups),
    )
    gc.freeze()  # a worker's search for garbage would copy every page that it shares with this process
    return Plan(
        stored,
        disk,
        pending,
        tuple(large),
        {group: tuple(names) for group, names in groups.items()},
        Job(Server.from_environment(), layout, density, disk.promise, core.workers, progress.count),
        progress,
        started_s,
    )


@functools.cache
def plan_offline(layout: Layout) -> Plan:
    """Look at the disk alone: nothing is to be exported."""
    with determining():
        export_source.require_export(layout)
        claim(layout)
        disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
    return _arranged(layout, Stored({}, frozenset(), {}, {}, []), disk, {}, Density(), time.time())


def look_again() -> None:
    """Forget what was found out: the next question is answered from database and disk as they are then."""
    plan.cache_clear()
    plan_day.cache_clear()
    plan_offline.cache_clear()
