"""What the database has and the disk has not: found out for all markets at once."""

import dataclasses
import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from tasks.errors import UsageError
from tasks.export_directory.directory_scan import OnDisk
from tasks.market_files.file_facts import FileFacts
from tasks.postgres.database import LADDER, TRADED, Database, Table, ask_each
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout, is_market_id

_PART_MARKETS = 2_500


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What the database has.

    newest: the newest publish_time of each market with ladder rows (or with a file), in either table, µs since
    1970; without_ladder: the markets with a file that have none; old: the newest ladder tick of each market in
    partitions that will be dropped soon; events: the event id of each market in public.markets; refused: market
    ids that are none.
    """

    newest: dict[str, int]
    without_ladder: frozenset[str]
    old: dict[str, int]
    events: dict[str, str]
    refused: list[str]

    def has_ladder(self, market_id: str) -> bool:
        """Tell whether a market has ladder rows."""
        return market_id in self.newest and market_id not in self.without_ladder

    def with_refused(self, market_ids: Iterable[str]) -> list[str]:
        """Return the refused market ids and those of market_ids that are none."""
        return sorted({*self.refused, *itertools.filterfalse(is_market_id, market_ids)})

    def with_ladder(self) -> Iterator[str]:
        """Yield the markets with ladder rows."""
        return (market_id for market_id in self.newest if market_id not in self.without_ladder)


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """A market file to be made or refreshed.

    empty: the market has no ladder rows, so its file has no ticks; stat: of the file that lies there, None if there is
    none; damaged: what is wrong with that file, None if it is sound; unvouched: the facts of a file that can be read
    but is not as we wrote it, None for any other; accepted: the operator accepts that ticks are lost.
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
    tables = database.tables(LADDER)
    wanted = (
        ask_each(database, Database.market_ids, tables) if market_ids is None else [sorted(market_ids)] * len(tables)
    )
    newest: dict[str, int] = {}
    old: dict[str, int] = {}
    for market_id, moment in _newest(database, zip(tables, list(wanted), strict=True)):
        newest[market_id] = max(moment, newest.get(market_id, moment))
        if moment < drop_before_us:
            old[market_id] = max(moment, old.get(market_id, moment))
    without_ladder = frozenset(
        market_id
        for market_id in files_present
        if market_id not in newest and (market_ids is None or market_id in market_ids)
    )
    known = sorted([*newest, *without_ladder])
    for market_id, moment in _newest(database, [(table, known) for table in database.tables(TRADED)]):
        newest[market_id] = max(moment, newest.get(market_id, moment))
    refused = sorted(market_id for market_id in newest if not is_market_id(market_id))
    for market_id in refused:
        del newest[market_id]
    return Stored(newest, without_ladder, old, database.events(), refused)


def _newest(database: Database, wanted: Iterable[tuple[Table, Sequence[str]]]) -> Iterator[tuple[str, int]]:
    """Yield each market's newest tick in each table, so many markets a question that two connections have work and
    answers are small.
    """
    parts = (
        (table, market_ids[start : start + _PART_MARKETS])
        for table, market_ids in wanted
        for start in range(0, len(market_ids), _PART_MARKETS)
    )
    for found in ask_each(database, lambda connection, part: connection.newest(*part), parts):
        yield from found.items()


def pending(stored: Stored, disk: OnDisk, settle_us: int, market_ids: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield those markets whose file is missing, damaged, below what it once had, dated in the future, or does not
    hold the newest tick, settled; and whether its file is empty. A file that could not be read is left alone.
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
        elif newest is not None and (stored.has_ladder(market_id) or disk.facts[market_id].tick_records):
            last = disk.facts[market_id].last_tick
            if last is None or last < newest or not (newest + settle_us) * 1000 <= stat.st_mtime_ns <= now_ns:
                yield market_id, False


def universe(stored: Stored, disk: OnDisk, include_markets_without_ticks: bool) -> list[str]:
    """Return every market that a file is wanted of: in the database, on disk, or promised by the index."""
    known = list(stored.with_ladder())
    known += (market_id for market_id in disk.files if not stored.has_ladder(market_id))
    promised = disk.ledger.market_ids() if disk.ledger.exists else disk.index
    known += (market_id for market_id in promised if not stored.has_ladder(market_id) and market_id not in disk.files)
    if include_markets_without_ticks:
        known = list({*known, *filter(is_market_id, stored.events)})
    return sorted(known)


def refuse_other_database(database: Database, stored: Stored, disk: OnDisk, layout: Layout) -> None:
    """Raise UsageError where the index has markets with ticks and the database knows none of them."""
    promised = [market_id for market_id, facts in disk.index.facts.items() if facts.tick_records]
    if not promised or any(stored.has_ladder(market_id) or market_id in stored.events for market_id in promised):
        return
    # stored may speak of other markets alone
    if any(database.newest(table, promised) for table in database.tables(LADDER)):
        return
    raise UsageError(
        f"{layout.output_dir} holds an export of {len(promised)} markets, and {database.server} knows none of them: it"
        " looks like another database. Use another --output-dir, or --allow-other-database if the old ones are really"
        " gone."
    )
