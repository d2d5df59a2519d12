"""Load an export into a schema, and compare the result with the files and with the recorder's tables."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tasks.day_csv import export_source
from tasks.errors import DamagedFile, NotAnExport, NotVerified
from tasks.export_directory import metadata_json
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files import market_file
from tasks.postgres import stored_sums, tick_encoder
from tasks.postgres.restored_schema import RestoredSchema
from tasks.postgres.source_tables import LADDER, TRADED, SourceTables
from tasks.storage.file_identity import file_checksum
from tasks.storage.layout import Layout
from tasks.ticks import day_sums
from tasks.ticks.day_sums import DAY_US, NOTHING, Sums
from tasks.ticks.tick_arrays import TRADED as TRADED_SIDE
from tasks.ticks.tick_arrays import Ticks
from tasks.ticks.value_text import time_text

#: How many rows are collected and sent together.
_ROWS_AT_ONCE = 500_000
#: How many markets are sent or compared in one statement, and the number of ticks after which such a group ends.
_GROUP_MARKETS = 500
_GROUP_TICKS = 5_000_000
_KEYS_OF_A_ROW = ("eventId", "marketName", "marketType", "marketStartTime")

Progress = Callable[[int, int], None]


@dataclasses.dataclass
class Restored:
    """What was loaded. without_key: tables in which rows share a key; without_metadata: the number of markets without a
    metadata file; lost, added: rows that only the recorder's tables have, or only the export; None if not compared.
    """

    markets: int = 0
    ticks: int = 0
    days: int = 0
    without_key: list[str] = dataclasses.field(default_factory=list)
    without_metadata: int = 0
    lost: int | None = None
    added: int | None = None


class _Batch:
    """Rows to be sent; ladder rows by UTC day, because each day has a partition of its own."""

    def __init__(self, schema: RestoredSchema) -> None:
        self._schema = schema
        self._ladder: dict[int, list[bytes]] = collections.defaultdict(list)
        self._traded: list[bytes] = []
        self._rows = 0
        self.days: set[int] = set()

    def add(self, market_id: str, ticks: Ticks) -> None:
        """Add ticks of a market, in ascending order of publish_time."""
        is_traded = ticks.side == TRADED_SIDE
        if np.any(is_traded):
            self._traded.append(tick_encoder.encoded(TRADED, market_id, ticks[is_traded]))
        ladder = ticks[~is_traded]
        days = ladder.publish_time // DAY_US
        starts = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist()] if len(ladder) else []
        for start, end in zip(starts, [*starts[1:], len(ladder)]):
            self._ladder[int(days[start])].append(tick_encoder.encoded(LADDER, market_id, ladder[start:end]))
        self._rows += len(ticks)
        if self._rows >= _ROWS_AT_ONCE:
            self.send()

    def send(self) -> None:
        """Send the rows."""
        for day, records in sorted(self._ladder.items()):
            self._schema.copy_ladder(day, records)
            self.days.add(day)
        if self._traded:
            self._schema.copy_traded(self._traded)
        self._ladder.clear()
        self._traded.clear()
        self._rows = 0


def restore(
    layout: Layout,
    rows: Mapping[str, IndexRow],
    schema: RestoredSchema,
    others: SourceTables | None,
    progress: Progress,
) -> Restored:
    """Load the markets of an index into an empty schema, and commit once the tables are known to equal the files.

    others: the recorder's own tables, to compare with too, or None. Raises DamagedFile if a file is not the one that
    the index lists, NotVerified if the tables differ from the files, DatabaseError.
    """
    done = Restored(markets=len(rows), ticks=sum(row.facts.tick_records for row in rows.values()))
    schema.require_empty()
    schema.make_tables()
    done.without_metadata = _load_metadata(layout, rows, schema)
    sums = _load_ticks(layout, rows, schema, done, progress)
    done.without_key = schema.finish()
    groups = list(_groups(rows))
    for group in groups:
        _compare(schema, group, sums)
    if others is not None:
        done.lost, done.added = 0, 0
        for group in groups:
            for table in (LADDER, TRADED):
                lost, added = schema.only_in_first(table, others, group)
                done.lost, done.added = done.lost + lost, done.added + added
    schema.commit()
    return done


def _load_ticks(
    layout: Layout, rows: Mapping[str, IndexRow], schema: RestoredSchema, done: Restored, progress: Progress
) -> dict[tuple[str, int, bool], Sums]:
    """Load every tick; return the sums of the files' ticks, by market, day since 1970 and whether traded."""
    sums: dict[tuple[str, int, bool], Sums] = {}
    batch = _Batch(schema)
    for market_id, row in rows.items():
        path = layout.market_file(market_id)
        try:
            checksum = file_checksum(path)
        except FileNotFoundError:
            raise DamagedFile(f"{path}: missing, but listed in index.csv. Restore the file and start again.") from None
        if checksum != row.facts.checksum:
            raise DamagedFile(
                f"{path}: its SHA-256 is {checksum[:16]}…, index.csv says {row.facts.checksum[:16]}…. Run VerifyExport,"
                " which says what to do. Nothing was restored."
            )
        for ticks in market_file.read(path):
            batch.add(market_id, ticks)
            for day, traded, part in day_sums.by_day(ticks):
                sums[market_id, day, traded] = sums.get((market_id, day, traded), NOTHING) + part
            progress(0, len(ticks))
        progress(1, 0)
    batch.send()
    done.days = len(batch.days)
    return sums


def _groups(rows: Mapping[str, IndexRow]) -> Iterator[dict[str, int]]:
    """Yield the markets with ticks in groups for one statement, with the newest publish_time of each market."""
    group: dict[str, int] = {}
    ticks = 0
    for market_id, row in rows.items():
        if row.facts.last_tick is None:
            continue
        group[market_id] = row.facts.last_tick
        ticks += row.facts.tick_records
        if len(group) >= _GROUP_MARKETS or ticks >= _GROUP_TICKS:
            yield group
            group, ticks = {}, 0
    if group:
        yield group


def _compare(schema: RestoredSchema, group: Mapping[str, int], files: Mapping[tuple[str, int, bool], Sums]) -> None:
    """Raise NotVerified if the tables have other rows for some markets than the files: changed, missing or added."""
    stored = {
        (market_id, day, table == TRADED): sums
        for table in (LADDER, TRADED)
        for market_id, day, sums in stored_sums.sums(schema, table, group)
    }
    expected = {key: sums for key, sums in files.items() if key[0] in group}
    for key in sorted(stored.keys() | expected.keys()):
        here, there = expected.get(key, NOTHING), stored.get(key, NOTHING)
        if here != there:
            market_id, day, traded = key
            raise NotVerified(
                f"Market {market_id}, {'traded' if traded else 'ladder'} rows of {time_text(day * DAY_US)[:10]}: schema"
                f" {schema.name} has {there}, the file {here}. This is a bug in the pipeline. Nothing was restored."
            )


def _load_metadata(layout: Layout, rows: Mapping[str, IndexRow], schema: RestoredSchema) -> int:
    """Load the metadata files; return how many markets have none."""
    without = 0
    ids = list(rows)
    for start in range(0, len(ids), _GROUP_MARKETS):
        known = {market_id: _metadata(layout, market_id) for market_id in ids[start : start + _GROUP_MARKETS]}
        without += sum(metadata is None for metadata in known.values())
        _load(schema, {market_id: metadata or {} for market_id, metadata in known.items()}, rows)
    return without


def _load(schema: RestoredSchema, known: Mapping[str, Mapping[str, Any]], rows: Mapping[str, IndexRow]) -> None:
    events = {market_id: metadata.get("eventId") or rows[market_id].event_id for market_id, metadata in known.items()}
    schema.add_events(sorted({event for event in events.values() if event}))
    ids = [
        market_id
        for market_id, metadata in known.items()
        if events[market_id] or any(metadata.get(key) is not None for key in _KEYS_OF_A_ROW)
    ]
    schema.add_markets(
        ids=ids,
        events=[events[market_id] or None for market_id in ids],
        types=[known[market_id].get("marketType") for market_id in ids],
        names=[known[market_id].get("marketName") for market_id in ids],
        starts=[known[market_id].get("marketStartTime") for market_id in ids],
    )
    runners = [(market_id, runner) for market_id, metadata in known.items() for runner in metadata.get("runners", ())]
    schema.add_runners(
        ids=[market_id for market_id, _ in runners],
        selections=[runner["selectionId"] for _, runner in runners],
        names=[runner.get("runnerName") for _, runner in runners],
    )
    states = {
        market_id: (metadata.get("marketStatus"), metadata.get("inPlay"), rows[market_id].facts.last_tick)
        for market_id, metadata in known.items()
        if metadata.get("marketStatus") is not None or metadata.get("inPlay") is not None
    }
    schema.add_states(
        ids=list(states),
        statuses=[status for status, _, _ in states.values()],
        in_plays=[in_play for _, in_play, _ in states.values()],
        moments=[time_text(last or 0) for _, _, last in states.values()],
    )


def _metadata(layout: Layout, market_id: str) -> Mapping[str, Any] | None:
    path = layout.metadata_file(market_id)
    try:
        known = metadata_json.parse(path.read_bytes())
    except FileNotFoundError:
        return None
    if known is None:
        raise NotAnExport(
            f"{path}: not a metadata file of this pipeline. Restore it, or delete it and run BuildMetadata."
        )
    return known


def indexed(layout: Layout) -> Mapping[str, IndexRow]:
    """Return the index of an export, by market id. Raises NotAnExport if it is not one."""
    rows = export_source.indexed(layout)
    export_source.refuse_unindexed(layout, rows)
    return {market_id: rows[market_id] for market_id in sorted(rows)}
