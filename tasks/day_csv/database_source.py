"""The ticks of a span, read straight from PostgreSQL without market files."""

import collections
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from tasks.day_csv import flat_csv
from tasks.day_csv.consolidation_report import Inputs
from tasks.errors import UnreadableMarket, UnreadableRow
from tasks.export_directory import metadata_json
from tasks.market_files.time_span import Span
from tasks.postgres.database import Database
from tasks.postgres.density import Density, batches
from tasks.postgres.server import Server
from tasks.postgres.source_tables import LADDER, TRADED
from tasks.postgres.tick_reader import Rows, TickReader, TooManyRows, read_market
from tasks.storage.file_names import is_market_id
from tasks.ticks.tick_arrays import Ticks

#: The number of rows that a read aims at, and the most it takes from either table before it is cut.
_BATCH_ROWS = 300_000
_LIMIT_ROWS = 1_000_000
_BATCH_MARKETS = 32

#: Rows are read through an index, whatever the planner concludes from its statistics.
_THROUGH_INDEX = {"enable_seqscan": "off"}


@dataclasses.dataclass(frozen=True)
class Runners:
    """The runners with ticks in a span: the selections of each market that an export covers; and invalid market ids."""

    selections: dict[str, list[int]]
    refused: list[str]


def runners_between(database: Database, span: Span, without_ladder: bool = False) -> Runners:
    """Find the runners with ticks in a span, by index probes in the partitions that overlap it, and in traded_volume.

    An export covers a market with a ladder row on any day; without_ladder: also markets with traded rows only.
    """
    ladder = {market_id for table in database.tables(LADDER) for market_id in database.market_ids(table)}
    selections: dict[str, set[int]] = collections.defaultdict(set)
    for name in (LADDER, TRADED):
        for table in database.tables_between(name, span.lower_us, span.upper_us):
            market_ids = database.market_ids(table) if name == LADDER or without_ladder else sorted(ladder)
            for market_id, selection_id in database.runners_between(table, market_ids, span.lower_us, span.upper_us):
                selections[market_id].add(selection_id)
    valid = {market_id: sorted(found) for market_id, found in sorted(selections.items()) if is_market_id(market_id)}
    return Runners(valid, sorted(selections.keys() - valid.keys()))


class DatabaseSource:
    """The ticks of a span in the database, all read in one snapshot.

    selections: each market's runners with ticks in the span; read: the number of ticks read so far, by market.
    """

    inputs: Mapping[str, Inputs] = {}

    def __init__(self, server: Server, span: Span, selections: Mapping[str, Collection[int]]) -> None:
        self._span = span
        self._selections = [sorted(found) for _, found in sorted(selections.items())]
        self.market_ids = sorted(selections)
        self.read = np.zeros(len(self.market_ids), np.int64)
        with Database(server) as database:
            self.markets = [
                flat_csv.describe(market.market_id, market.event_id or "", metadata_json.described(market))
                for market in sorted(database.metadata(self.market_ids), key=lambda market: market.market_id)
            ]
            tables = database.source_tables
            self._density = Density.sampled(database, self.market_ids)
        self._reader = TickReader(server, tables, _THROUGH_INDEX)
        self._reader.begin_snapshot()

    def __enter__(self) -> "DatabaseSource":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def expected_rows(self) -> Sequence[float]:
        """About how many rows each market has."""
        return [self._density.rows(market_id) for market_id in self.market_ids]

    def verify(self) -> None:
        """Do nothing: the database is the reference."""

    def reconcile(self) -> None:
        """Do nothing: the rows are those of the snapshot."""

    def stream(self, market: int, batch_rows: int) -> Iterator[Ticks]:
        """Yield the ticks of a market in ascending order of publish_time, about so many at once."""
        market_id = self.market_ids[market]
        bounds = [
            bound
            for bound in self._density.bounds_us(market_id, batch_rows)
            if self._span.lower_us < bound < self._span.upper_us
        ]
        slices = read_market(
            [self._reader],
            market_id,
            self._selections[market],
            bounds,
            _LIMIT_ROWS,
            self._span.lower_us,
            self._span.upper_us,
        )
        try:
            for ticks, _ in slices:
                ticks = ticks[np.argsort(ticks.publish_time, kind="stable")]
                yield self._counted(dataclasses.replace(ticks, market=np.full(len(ticks), market, np.int64)))
        except UnreadableRow as error:
            raise UnreadableMarket(market_id, str(error)) from None

    def together(self, markets: Sequence[int]) -> Iterator[Ticks]:
        """Yield all ticks of several markets, some markets at once."""
        for batch in batches(
            markets, lambda market: self._density.rows(self.market_ids[market]), _BATCH_ROWS, _BATCH_MARKETS
        ):
            yield from self._read(batch)

    def _read(self, markets: Sequence[int]) -> Iterator[Ticks]:
        if len(markets) == 1:
            yield from self.stream(markets[0], _BATCH_ROWS)
            return
        rows = Rows(tuple(self.market_ids[market] for market in markets), self._span.lower_us, self._span.upper_us)
        selections = sorted({selection for market in markets for selection in self._selections[market]})
        try:
            ticks = self._reader.read(rows, selections, _LIMIT_ROWS)
        except (TooManyRows, UnreadableRow):  # smaller batches fit, or show which market it is
            for half in (markets[: len(markets) // 2], markets[len(markets) // 2 :]):
                yield from self._read(half)
        else:
            yield self._counted(dataclasses.replace(ticks, market=np.array(markets, np.int64)[ticks.market]))

    def _counted(self, ticks: Ticks) -> Ticks:
        counts = np.bincount(ticks.market)
        self.read[: len(counts)] += counts
        return ticks
