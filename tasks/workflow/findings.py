"""What the database and the disk hold at the start of a run: for all markets, one, those of a day, or the disk only."""

import concurrent.futures
import dataclasses
import datetime
import time
from collections.abc import Sequence

from tasks.day_csv import export_source
from tasks.day_csv.database_source import runners_between
from tasks.export_directory import directory_scan
from tasks.export_directory.directory_scan import OnDisk, Stats
from tasks.exporting import survey
from tasks.exporting.survey import Stored
from tasks.market_files.time_span import Span
from tasks.postgres.database import Database
from tasks.postgres.server import Server
from tasks.postgres.source_tables import SourceTables
from tasks.storage.layout import Layout
from tasks.workflow.exit_codes import determining
from tasks.workflow.settings import tick_export


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found. market_ids: the requested markets, None for all; started_s: when the search began, seconds since
    1970; tables: where the recorder's tables are.
    """

    layout: Layout
    stored: Stored
    disk: OnDisk
    market_ids: tuple[str, ...] | None
    started_s: float
    tables: SourceTables | None = None


def server() -> Server:
    """Return the database that the environment names."""
    settings = tick_export()
    with determining():
        return dataclasses.replace(
            Server.from_environment(),
            lock_timeout_s=int(settings.lock_timeout_s),
            answer_timeout_s=int(settings.answer_timeout_s),
            silence_timeout_s=int(settings.silence_timeout_s),
            tables_in_two_schemas=str(settings.tables_in_two_schemas),
        )


def look_at_all(layout: Layout, allow_other_database: bool) -> Findings:
    """Look at all markets."""
    return _look(layout, None, allow_other_database)


def look_at_market(layout: Layout, market_id: str, allow_other_database: bool) -> Findings:
    """Look at one market."""
    return _look(layout, (market_id,), allow_other_database)


def look_at_day(layout: Layout, date: datetime.date, allow_other_database: bool) -> Findings:
    """Look at the markets with ticks on a UTC day. stored covers only these, disk all files."""
    started_s = time.time()
    with determining(), Database(server()) as database:
        stats = directory_scan.list_files(layout)
        runners = runners_between(database, Span.of_day(date))
        stored, disk = _both(database, list(runners.selections), layout, stats)
        stored = dataclasses.replace(stored, refused=runners.refused)
        if not allow_other_database:
            survey.refuse_other_database(database, stored, disk, layout)
    return Findings(layout, stored, disk, tuple(runners.selections), started_s, database.source_tables)


def look_offline(layout: Layout) -> Findings:
    """Look only at the disk. Stops with one line if there is no export."""
    started_s = time.time()
    with determining():
        export_source.require_export(layout)
        disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
    return Findings(layout, Stored({}, frozenset(), {}, {}, []), disk, (), started_s)


def _look(layout: Layout, market_ids: tuple[str, ...] | None, allow_other_database: bool) -> Findings:
    started_s = time.time()
    with determining(), Database(server()) as database:
        stats = directory_scan.list_files(layout)
        if market_ids is not None:
            stats = {market_id: stats[market_id] for market_id in market_ids if market_id in stats}
        stored, disk = _both(database, market_ids, layout, stats)
        if not allow_other_database:
            survey.refuse_other_database(database, stored, disk, layout)
    return Findings(layout, stored, disk, market_ids, started_s, database.source_tables)


def _both(database: Database, market_ids: Sequence[str] | None, layout: Layout, stats: Stats) -> tuple[Stored, OnDisk]:
    """Query the database and, while it works, scan the disk."""
    drop_before_us = time.time_ns() // 1000 - tick_export().warn_partition_us
    with concurrent.futures.ThreadPoolExecutor(1, "disk") as pool:
        disk = pool.submit(directory_scan.look_at_disk, layout, stats)
        return survey.ask_database(database, market_ids, stats, drop_before_us), disk.result()
