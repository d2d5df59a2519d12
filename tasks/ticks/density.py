"""How many rows each market has, and when: an estimate from a sample, to cut the work into pieces of equal size.

Only speed depends on it: a piece that turns out too large is cut again.
"""

import collections
import math
from collections.abc import Collection

from tasks.ticks.database import LADDER, TRADED, Database

_BUCKET_S = 5
#: One page in so many is sampled, within the bounds (few, many) of a table: a slice is made of 30 sampled pages or so, and a
#: table of billions of rows does not take minutes.
_ONE_IN = 50
_PARTITION_PAGES = (200, 1_000)
_TRADED_PAGES = (1_000, 10_000)
_FEW = 1_000  # markets whose ids the server is told


class Density:
    """Estimated rows of each market, in steps of five seconds."""

    def __init__(self) -> None:
        self._buckets: dict[str, dict[int, float]] = collections.defaultdict(lambda: collections.defaultdict(float))

    @staticmethod
    def sampled(database: Database, market_ids: Collection[str]) -> "Density":
        """Estimate the rows of markets from a sample of every table's pages."""
        density = Density()
        wanted = set(market_ids)
        tables = [(table, _PARTITION_PAGES) for table in database.tables(LADDER)]
        tables += [(table, _TRADED_PAGES) for table in database.tables(TRADED)]
        for table, (few, many) in tables:
            pages = min(max(table.pages // _ONE_IN, few), many)
            for market_id, start_s, rows in database.sample(table, pages, _BUCKET_S, sorted(wanted) if len(wanted) <= _FEW else None):
                if market_id in wanted:
                    density._buckets[market_id][start_s] += rows
        return density

    def rows(self, market_id: str) -> float:
        """Return about how many rows the market has in both tables; 0 if it is too small to be in the sample."""
        buckets = self._buckets.get(market_id)
        return math.fsum(buckets.values()) if buckets else 0.0

    def total_rows(self) -> float:
        """Return about how many rows all markets have."""
        return math.fsum(self.rows(market_id) for market_id in self._buckets)

    def bounds_us(self, market_id: str, slice_rows: int) -> list[int]:
        """Return publish times, microseconds since 1970, that cut the market into slices of about so many rows."""
        bounds, rows = [], 0.0
        for start_s, count in sorted(self._buckets.get(market_id, {}).items()):
            if rows and rows + count > slice_rows:
                bounds.append(start_s * 1_000_000)
                rows = 0.0
            rows += count
        return bounds
