"""How many pages are sampled, and where a market is cut by what they say."""

import numpy as np
import pytest

from tasks.postgres import density as densities
from tasks.postgres.database import Table
from tasks.postgres.density import _STEP, Density
from tasks.postgres.source_tables import LADDER


@pytest.fixture(autouse=True)
def one_connection(monkeypatch):
    """Ask one after the other: what is sampled here has no second connection."""
    monkeypatch.setattr(densities, "ask_each", lambda database, ask, items: (ask(database, item) for item in items))


class _Sampled:
    """A database of one partition, whose market has 100 rows in every five seconds of a minute."""

    def __init__(self, pages):
        self.pages, self.asked = pages, None

    def tables(self, name):
        return [Table("stream_ingest", "ladder_levels_20260203", self.pages)] if name == LADDER else []

    def sample(self, table, pages, step_s, market_ids):
        self.asked = pages
        return [("1.2", start_s, 100.0) for start_s in range(0, 60, step_s)] + [("1.3", 0, 7.0)]


@pytest.mark.parametrize("pages, asked", [(0, 200), (9_000, 200), (20_000, 400), (10_000_000, 1_000)])
def test_the_sample_grows_with_the_table_within_bounds(pages, asked):
    database = _Sampled(pages)
    Density.sampled(database, {"1.2"})
    assert database.asked == asked


def test_slices_are_as_large_as_asked_for():
    density = Density.sampled(_Sampled(1), {"1.2"})
    assert density.rows("1.2") == 1200 and density.rows("1.3") == 0
    assert density.bounds_us("1.2", 300) == [15_000_000, 30_000_000, 45_000_000]
    assert density.bounds_us("1.3", 300) == []


def test_five_seconds_of_more_than_a_slice_are_cut_evenly():
    density = Density({"1.2": 0}, np.array([(0, 0, 50), (0, 5, 950), (0, 10, 90), (0, 15, 90)], _STEP))
    assert density.bounds_us("1.2", 300) == [5_000_000, 6_250_000, 7_500_000, 8_750_000, 10_000_000]
