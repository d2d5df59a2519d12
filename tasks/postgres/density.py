"""Estimate from a sample how many rows each market has, and when, to cut the work into pieces of equal size.

Only speed depends on it: a piece that turns out too large is cut again.
"""

import collections
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tasks.postgres.database import Database, Table
from tasks.postgres.parallel_questions import ask_each
from tasks.postgres.source_tables import LADDER, TRADED

Item = TypeVar("Item")

_STEP_S = 5
_STEP = np.dtype([("market", np.int64), ("start_s", np.int64), ("rows", np.float64)])
#: One page in so many is sampled, within the bounds (few, many) of a table: enough for about 15 sampled pages per
#: slice, and few enough that a table of billions of rows does not take minutes.
_ONE_IN = 50
_PARTITION_PAGES = (200, 1_000)
_TRADED_PAGES = (1_000, 10_000)
_FEW = 1_000  # up to so many market ids are sent to the server


class Density:
    """Estimated rows of each market, in steps of five seconds.

    numbers: the number of each market; steps: a market's number, start of a step in seconds since 1970, rows; a step
    can occur several times.
    """

    def __init__(
        self, numbers: Mapping[str, int] | None = None, steps: npt.NDArray[np.void] = np.zeros(0, _STEP)
    ) -> None:
        self._numbers = numbers or {}
        self._steps = np.sort(steps, order=["market", "start_s"])
        self._rows = np.bincount(self._steps["market"], self._steps["rows"])

    @staticmethod
    def sampled(database: Database, market_ids: Collection[str]) -> "Density":
        """Estimate the rows of markets from a sample of every table's pages. market_ids: a set, or a dictionary."""
        told = sorted(market_ids) if len(market_ids) <= _FEW else None
        tables = [(table, _TRADED_PAGES) for table in database.tables(TRADED)]
        tables += [(table, _PARTITION_PAGES) for table in database.tables(LADDER)]
        sizes = [(table, min(max(table.pages // _ONE_IN, few), many)) for table, (few, many) in tables]
        # a new number in one atomic step, because two threads share it
        numbers = collections.defaultdict[str, int](itertools.count().__next__)

        def sample(connection: Database, part: tuple[Table, int]) -> npt.NDArray[np.void]:
            steps = connection.sample(*part, _STEP_S, told)
            return np.fromiter(
                ((numbers[market_id], start_s, rows) for market_id, start_s, rows in steps if market_id in market_ids),
                _STEP,
            )

        steps = np.concatenate(list(ask_each(database, sample, sizes)))
        return Density(dict(numbers), steps)

    def rows(self, market_id: str) -> float:
        """Return about how many rows the market has in both tables; 0 if it is too small to be in the sample."""
        return float(self._rows[self._numbers[market_id]]) if market_id in self._numbers else 0.0

    def total_rows(self) -> float:
        """Return about how many rows all markets have."""
        return float(self._rows.sum())

    def bounds_us(self, market_id: str, slice_rows: int) -> list[int]:
        """Return the publish times, microseconds since 1970, at which to cut the market into slices of about so many
        rows.
        """
        if market_id not in self._numbers:
            return []
        own = slice(*np.searchsorted(self._steps["market"], self._numbers[market_id] + np.arange(2)))
        starts_s, first = np.unique(self._steps["start_s"][own], return_index=True)
        bounds, rows = [], 0.0
        for start_s, count in zip(
            starts_s.tolist(), np.add.reduceat(self._steps["rows"][own], first).tolist(), strict=True
        ):
            start_us = start_s * 1_000_000
            if rows and rows + count > slice_rows:
                bounds.append(start_us)
                rows = 0.0
            parts = math.ceil(count / slice_rows)  # of a step that is more than a slice alone
            bounds += [start_us + _STEP_S * 1_000_000 * part // parts for part in range(1, parts)]
            rows += count / parts
        return bounds


def batches(
    items: Iterable[Item], rows: Callable[[Item], float], most_rows: float, most_items: int
) -> Iterator[list[Item]]:
    """Cut items, in order, into batches of about so many rows and at most so many items. An item with more rows is a
    batch of its own.
    """
    batch: list[Item] = []
    waiting = 0.0
    for item in items:
        weight = rows(item)
        if batch and (waiting + weight > most_rows or len(batch) == most_items):
            yield batch
            batch, waiting = [], 0.0
        batch.append(item)
        waiting += weight
    if batch:
        yield batch
