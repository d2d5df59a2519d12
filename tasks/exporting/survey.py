"""Find what the database has and the export lacks, for all markets at once."""

import dataclasses
import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tasks.errors import UsageError
from tasks.export_directory.directory_scan import OnDisk
from tasks.market_files.file_facts import FileFacts
from tasks.postgres.database import Database, Table
from tasks.postgres.parallel_questions import ask_each
from tasks.postgres.source_tables import LADDER, TRADED
from tasks.storage.file_identity import FileStat
from tasks.storage.file_names import is_market_id
from tasks.storage.layout import Layout

_PART_MARKETS = 2_500


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What the database has.

    newest: the newest publish_time of each market with rows, in either table, µs since 1970; without_ladder: the
    markets with a file, or with traded rows, that have no ladder rows; old: the newest ladder tick of each market in
    partitions that will soon be dropped; events: the event id of each market in public.markets; refused: invalid market
    ids; traded_only: all ids with traded rows but no ladder rows, including refused ones.
    """

    newest: dict[str, int]
    without_ladder: frozenset[str]
    old: dict[str, int]
    events: dict[str, str]
    refused: list[str]
    traded_only: frozenset[str] = frozenset()

    def has_ladder(self, market_id: str) -> bool:
        """Return whether a market has ladder rows."""
        return market_id in self.newest and market_id not in self.without_ladder

    def with_refused(self, market_ids: Iterable[str]) -> list[str]:
        """Return the refused market ids and the invalid ones of market_ids."""
        return sorted({*self.refused, *itertools.filterfalse(is_market_id, market_ids)})

    def trades_not_exported(self, facts: Mapping[str, FileFacts]) -> list[str]:
        """Return the markets with traded rows only whose ticks are in no file. facts: of the existing market files."""
        return sorted(
            market_id for market_id in self.traded_only if market_id not in facts or not facts[market_id].tick_records
        )

    def with_ladder(self) -> Iterator[str]:
        """Yield the markets with ladder rows."""
        return (market_id for market_id in self.newest if market_id not in self.without_ladder)


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """A market file to be created or refreshed.

    empty: the market has no ladder rows, so its file has no ticks; stat: of the existing file, None if there is none;
    damaged: what is wrong with that file, None if it is sound; unvouched: the facts of a file that can be read but is
    not as we wrote it, None for any other; accepted: the operator accepts that ticks are lost.
    """

    market_id: str
    empty: bool = False
    stat: FileStat | None = None
    damaged: str | None = None
    unvouched: FileFacts | None = None
    accepted: bool = False


def ask_database(
    database: Database, market_ids: Collection[str] | None, files_present: Collection[str], drop_before_us: int
) -> Stored:
    """Find the newest tick of markets (all if None) by index probes, partition by partition."""
    newest: dict[str, int] = {}
    old: dict[str, int] = {}
    no_ids: set[str] = set()
    asked: set[tuple[str, str]] = set()
    # repeat until no partition was added, perhaps under another name, while others were queried
    while tables := [table for table in database.tables(LADDER) if (table.schema, table.name) not in asked]:
        asked.update((table.schema, table.name) for table in tables)
        wanted = (
            ask_each(database, Database.market_ids, tables)
            if market_ids is None
            else [sorted(market_ids)] * len(tables)
        )
        listed = list(wanted)
        no_ids.update(market_id for ids in listed for market_id in ids if not is_market_id(market_id))
        for market_id, moment in _newest(database, zip(tables, listed, strict=True)):
            newest[market_id] = max(moment, newest.get(market_id, moment))
            if moment < drop_before_us:
                old[market_id] = max(moment, old.get(market_id, moment))
    traded_tables = database.tables(TRADED)
    candidates = {*files_present, *(market_ids or ())} & {*(files_present if market_ids is None else market_ids)}
    if market_ids is None:
        for found in ask_each(database, Database.market_ids, traded_tables):
            candidates.update(found)
    candidates -= newest.keys()
    known = sorted([*newest, *candidates])
    for market_id, moment in _newest(database, [(table, known) for table in traded_tables]):
        newest[market_id] = max(moment, newest.get(market_id, moment))
    traded_only = frozenset(candidates & newest.keys())
    invalid = sorted(market_id for market_id in newest if not is_market_id(market_id))
    for market_id in invalid:
        del newest[market_id]
    return Stored(
        newest,
        frozenset(market_id for market_id in candidates if market_id in files_present or market_id in newest),
        old,
        database.events(),
        sorted({*no_ids, *(market_id for market_id in invalid if market_id not in traded_only)}),
        traded_only,
    )


def _newest(database: Database, wanted: Iterable[tuple[Table, Sequence[str]]]) -> Iterator[tuple[str, int]]:
    """Yield each market's newest tick in each table. A query covers so many markets that two connections are busy and
    answers stay small.
    """
    parts = (
        (table, market_ids[start : start + _PART_MARKETS])
        for table, market_ids in wanted
        for start in range(0, len(market_ids), _PART_MARKETS)
    )
    for found in ask_each(database, lambda connection, part: connection.newest(*part), parts):
        yield from found.items()


def pending(
    stored: Stored, disk: OnDisk, settle_us: int, market_ids: Iterable[str], without_ladder: bool = False
) -> Iterator[tuple[str, bool]]:
    """Yield the markets to export, and whether their file will be empty.

    A market is exported if its file is missing, damaged, has fewer ticks than it once had, is dated in the future, or
    does not hold the newest settled tick. A file that could not be read is left alone. without_ladder: an empty file is
    not enough for a market that has traded rows.
    """
    now_ns = time.time_ns()
    for market_id in market_ids:
        newest, stat = stored.newest.get(market_id), disk.files.get(market_id)
        if market_id in disk.unreadable:
            continue
        if stat is None or market_id not in disk.facts:
            yield market_id, newest is None
        elif disk.is_below_promise(market_id):
            yield market_id, newest is None and not disk.facts[market_id].tick_records
        elif newest is not None and (
            without_ladder or stored.has_ladder(market_id) or disk.facts[market_id].tick_records
        ):
            last, settled_ns = disk.facts[market_id].last_tick, (newest + settle_us) * 1000
            if last is None or last < newest or not settled_ns <= stat.st_mtime_ns <= now_ns:
                yield market_id, False
            elif disk.written_ns(market_id) < settled_ns:  # a copy without times
                yield market_id, False


def universe(stored: Stored, disk: OnDisk, without_ticks: bool, without_ladder: bool) -> list[str]:
    """Return every market that should have a file: those in the database, on disk, or in the index.

    without_ticks: also markets without ticks; without_ladder: also markets with traded rows only, which never get an
    empty file.
    """
    known = list(stored.with_ladder())
    known += (market_id for market_id in disk.files if not stored.has_ladder(market_id))
    promised = disk.ledger.market_ids() if disk.ledger.exists else disk.index
    known += (market_id for market_id in promised if not stored.has_ladder(market_id) and market_id not in disk.files)
    wanted = set(known)
    if without_ladder:
        wanted.update(filter(is_market_id, stored.traded_only))
    if without_ticks:
        wanted.update(market_id for market_id in stored.events if market_id not in stored.traded_only)
    return sorted(filter(is_market_id, wanted))


def refuse_other_database(database: Database, stored: Stored, disk: OnDisk, layout: Layout) -> None:
    """Raise UsageError if the index has markets with ticks and the database knows none of them."""
    promised = [market_id for market_id, facts in disk.index.facts.items() if facts.tick_records]
    if not promised or any(stored.has_ladder(market_id) or market_id in stored.events for market_id in promised):
        return
    # stored may cover other markets only
    if any(database.newest(table, promised) for table in database.tables(LADDER)):
        return
    raise UsageError(
        f"{layout.output_dir} holds an export of {len(promised)} markets, and {database.server} knows none of them: it"
        " looks like another database. Use another --output-dir, or --allow-other-database if the database has"
        " really dropped them all."
    )
