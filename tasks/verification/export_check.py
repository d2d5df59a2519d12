"""Verify an export against its own index and against the database."""

import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tasks.export_directory import metadata_json, report_version
from tasks.export_directory.index_csv import IndexRow
from tasks.export_directory.journal import Journal
from tasks.exporting import execution_report
from tasks.postgres import stored_sums
from tasks.postgres.database import Database
from tasks.postgres.source_tables import LADDER, TRADED
from tasks.storage.file_names import is_market_id
from tasks.storage.layout import Layout
from tasks.ticks.day_sums import DAY_US, NOTHING, Sums
from tasks.ticks.value_text import counted, time_text
from tasks.verification import directory_check
from tasks.verification.database_sums import stored_by_day
from tasks.verification.difference import BUILD_INDEX, EXPORT, REFRESH, Difference
from tasks.verification.ledger_check import check_ledger
from tasks.verification.made_files_check import check_made_files
from tasks.verification.market_check import Checked, check_market

#: How many markets are compared with the database in one query, and the number of ticks after which such a group ends.
_GROUP_MARKETS = 500
_GROUP_TICKS = 5_000_000
#: Values that can change in the database without a new tick.
_CHANGING = ("marketStatus", "inPlay")


@dataclasses.dataclass
class Verdict:
    """The result: all differences, notes about other things, and how much was compared.

    database: the name of the database that the ticks were compared with, or None.
    """

    database: str | None
    differences: list[Difference] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    markets: int = 0
    ticks: int = 0
    compared_ticks: int = 0
    duration_s: float = 0.0

    @property
    def conclusion(self) -> str:
        """The last line."""
        against = f"index.csv and {self.database}" if self.database else "index.csv"
        if self.differences:
            files = len({difference.file for difference in self.differences})
            return (
                f"FAILED: {counted(len(self.differences), 'difference')} in {counted(files, 'file')};"
                f" {counted(self.markets, 'market')} compared with {against}."
            )
        return f"VERIFIED: {counted(self.markets, 'market')} with {counted(self.ticks, 'tick')}: all match {against}."

    def add(self, differences: Iterable[Difference], notes: Iterable[str]) -> None:
        """Add the results of one check."""
        self.differences += differences
        self.notes += notes

    def render(self, layout: Layout) -> str:
        """Return the report."""
        return (
            "\n".join(
                [
                    f"Export: {layout.format} in {layout.output_dir}",
                    f"Compared with: index.csv{f' and {self.database}' if self.database else ', without a database'}",
                    report_version.LINE,
                    f"Markets: {self.markets}",
                    f"Ticks read from files: {self.ticks}",
                    *([f"Ticks compared with the database: {self.compared_ticks}"] if self.database else []),
                    f"Duration: {self.duration_s:.1f} s",
                    f"Differences: {len(self.differences)}",
                    *(f"DIFFERENCE: {difference}" for difference in self.differences),
                    *(f"Note: {note}" for note in self.notes),
                    "",
                    self.conclusion,
                ]
            )
            + "\n"
        )


def verify(
    layout: Layout,
    database: Database | None,
    settle_us: int,
    metadata_required: bool = True,
    progress: Callable[[int, int], None] = lambda markets, ticks: None,
) -> Verdict:
    """Compare an export with its index, and with the database if there is one. Differences do not raise.

    settle_us: ticks younger than this are not compared with the database, because late rows may still arrive; progress:
    is called with finished markets and their ticks.
    """
    started_s = time.monotonic()
    verdict = Verdict(None if database is None else str(database.server))
    rows, verdict.differences = directory_check.read_index(layout)
    verdict.add(*directory_check.check_names(layout, rows))
    verdict.add(*check_ledger(layout, rows))
    now_us = time.time_ns() // 1000
    settled_us = (min(now_us, database.now_us()) if database else now_us) - settle_us
    newest = _newest(database) if database else {}
    written = {market.market_id: market.facts.checksum for market in Journal(layout.journal_dir).all_written()}
    day_rows: dict[str, Mapping[int, int]] = {}
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for group in _groups([row for row in rows.values() if layout.market_file(row.market_id).is_file()]):
            until = {
                row.market_id: min(
                    _certain_until(row.facts.last_tick, newest.get(row.market_id), settle_us), settled_us
                )
                for row in group
                if row.facts.last_tick is not None
            }
            wanted = {row.market_id: until.get(row.market_id) for row in group} if database else {}
            checks = [
                pool.submit(check_market, layout.market_file(row.market_id), row, wanted.get(row.market_id))
                for row in group
            ]
            stored = stored_by_day(database, layout, until) if database else {}
            # after the sums: what the platform has dropped by now is not a difference
            ranges = stored_sums.ladder_ranges(database) if database else None
            for row, check in zip(group, checks):
                checked = check.result()
                verdict.differences += _with_step(checked.differences, written.get(row.market_id))
                verdict.differences += directory_check.check_metadata(layout, row, metadata_required)
                day_rows[row.market_id] = checked.day_rows
                if checked.repeated:
                    verdict.notes.append(
                        f"market {row.market_id}: {checked.repeated} rows have the key of another row, as stored: the"
                        " source table has no primary key, or received_time in it. A consolidated CSV keeps the one"
                        " received first"
                    )
                verdict.ticks += sum(checked.day_rows.values())
                if database and (checked.sums or not checked.differences):
                    verdict.differences += _against(row, checked, stored.get(row.market_id, {}), ranges)
                    verdict.compared_ticks += sum(sums.rows for sums in stored.get(row.market_id, {}).values())
                progress(1, sum(checked.day_rows.values()))
    verdict.markets = len(rows)
    verdict.add(*directory_check.check_report(layout, rows))
    verdict.add(*directory_check.check_consolidated(layout, rows, day_rows))
    verdict.add(*check_made_files(layout, rows, database, settle_us))
    if database:
        _compare_markets(database, newest, layout, rows, verdict)
        verdict.differences += _described(database, layout, rows)
    verdict.differences.sort(key=lambda difference: (difference.market_id, difference.file))
    verdict.duration_s = time.monotonic() - started_s
    return verdict


def _with_step(differences: list[Difference], written: str | None) -> list[Difference]:
    """Return differences between a file and the index, with the right step if the pipeline has written the file after
    the index. written: the file's checksum in that case.
    """
    if written is None or all((found.what, found.found) != ("checksum", written) for found in differences):
        return differences
    return [dataclasses.replace(found, step=BUILD_INDEX) for found in differences]


def _groups(rows: Sequence[IndexRow]) -> Iterator[list[IndexRow]]:
    group: list[IndexRow] = []
    for row in rows:
        group.append(row)
        if len(group) == _GROUP_MARKETS or sum(row.facts.tick_records for row in group) >= _GROUP_TICKS:
            yield group
            group = []
    if group:
        yield group


def _against(
    row: IndexRow, checked: Checked, stored: Mapping[tuple[int, bool], Sums], ranges: Sequence[tuple[int, int]] | None
) -> Iterator[Difference]:
    """Yield where a file's ticks on a day differ from the database's.

    On a day whose partition was dropped from the database, the file may have more.
    """
    for day, traded in sorted(checked.sums.keys() | stored.keys()):
        here, there = checked.sums.get((day, traded), NOTHING), stored.get((day, traded), NOTHING)
        if here.rows > there.rows and not _is_held(day, ranges):
            continue
        where = f"{'traded' if traded else 'ladder'} rows of {time_text(day * DAY_US)[:10]}"
        for field in dataclasses.fields(Sums):
            found, expected = getattr(here, field.name), getattr(there, field.name)
            if found != expected:
                what = where if field.name == "rows" else f"{where}, sum of {field.name}"
                yield Difference(row.market_id, row.file_path, what, found, f"{expected} (database)", REFRESH)


def _is_held(day: int, ranges: Sequence[tuple[int, int]] | None) -> bool:
    """Return whether there are partitions for the whole of a day; a table that is not partitioned has every day."""
    if ranges is None:
        return True
    reached = day * DAY_US
    for lower, upper in ranges:
        if lower <= reached < upper:
            reached = upper
    return reached >= (day + 1) * DAY_US


def _newest(database: Database) -> dict[str, int]:
    """Return the newest publish_time of each market with ladder rows, in either table."""
    newest: dict[str, int] = {}
    for table in database.tables(LADDER):
        for market_id, moment in database.newest(table, database.market_ids(table)).items():
            newest[market_id] = max(moment, newest.get(market_id, moment))
    for table in database.tables(TRADED):
        for market_id, moment in database.newest(table, list(newest)).items():
            newest[market_id] = max(moment, newest[market_id])
    return newest


def _certain_until(last_us: int, newest_us: int | None, settle_us: int) -> int:
    """Return the time up to which a file must have all ticks in the database. If the market has newer ticks, late rows
    may have arrived for the file's last minutes after it was read.
    """
    return last_us if newest_us is None or newest_us <= last_us else last_us - settle_us


def _compare_markets(
    database: Database, newest: Mapping[str, int], layout: Layout, rows: Mapping[str, IndexRow], verdict: Verdict
) -> None:
    """Find markets with ladder rows that have no file, and ticks that came after the export."""
    without_ladder = {
        market_id
        for table in database.tables(TRADED)
        for market_id in database.market_ids(table)
        if market_id not in newest and (market_id not in rows or not rows[market_id].facts.tick_records)
    }
    if without_ladder:
        verdict.notes.append(execution_report.about_trades(sorted(without_ladder)))
    exported_us = max((row.facts.last_tick for row in rows.values() if row.facts.last_tick is not None), default=0)
    for market_id, moment in sorted(newest.items()):
        if market_id not in rows and moment > exported_us:
            verdict.notes.append(f"market {market_id!r} is new in the database; ExportAll adds it")
        elif market_id not in rows:
            name = layout.file_path(market_id) if is_market_id(market_id) else "markets"
            verdict.differences.append(
                Difference(
                    market_id, name, "the file", "nothing", f"ticks up to {time_text(moment)} (database)", EXPORT
                )
            )
        elif moment > (rows[market_id].facts.last_tick or 0):
            verdict.notes.append(
                f"market {market_id} has newer ticks in the database, up to {time_text(moment)}; ExportAll adds them"
            )


def _described(database: Database, layout: Layout, rows: Mapping[str, IndexRow]) -> Iterator[Difference]:
    """Yield where metadata files differ from the database, except in status and in-play, which change without a
    tick.
    """
    events = database.events()
    for market_id, row in rows.items():
        if events.get(market_id, row.event_id) != row.event_id:
            yield Difference(
                market_id, layout.index.name, "event_id", row.event_id, f"{events[market_id]} (database)", EXPORT
            )
    ids = [market_id for market_id in rows if layout.metadata_file(market_id).is_file()]
    for start in range(0, len(ids), _GROUP_MARKETS):
        for stored in database.metadata(ids[start : start + _GROUP_MARKETS]):
            path = layout.metadata_file(stored.market_id)
            here = metadata_json.parse(path.read_bytes())
            if here is None:
                continue  # already reported
            there = metadata_json.merged(metadata_json.described(stored), here)
            for key in here.keys() - set(_CHANGING):
                if here[key] != there[key]:
                    yield Difference(
                        stored.market_id,
                        path.relative_to(layout.output_dir).as_posix(),
                        key,
                        here[key],
                        f"{there[key]} (database)",
                        EXPORT,
                    )
