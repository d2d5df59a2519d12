"""Order, sequence, merging: against the plain words of the contract, on any rows."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ticks.sort_keys import dense_rank, pack, price_rank
from tasks.ticks.tick_arrays import BACK, LAY, TRADED, Ticks
from tests.conftest import made_of

PRICES = st.sampled_from([1.01, 1.5, 2.0, 2.02, 1000.0, math.nan, math.inf, -math.inf, 0.1 + 0.2])
TIMES = st.integers(0, 4) | st.integers(1_770_293_454_031_000, 1_770_293_454_031_003)
ROW = st.tuples(
    st.integers(0, 2),
    TIMES,
    st.integers(0, 3),
    st.sampled_from([7, 8, 2**40, -3]),
    st.sampled_from([BACK, LAY, TRADED]),
    st.integers(0, 7),
    PRICES,
    PRICES,
)


def ticks_of(rows):
    """Return rows (market, publish, received, selection, side, level, price, size) as Ticks."""
    rows = [(*row[:5], 0 if row[4] == TRADED else row[5], *row[6:]) for row in rows]
    return made_of(*(np.array([row[n] for row in rows], float if n > 5 else np.int64) for n in range(8)))


def rows_of(ticks):
    """Return Ticks as tuples whose floats compare by their bits."""
    columns = [
        ticks.market,
        ticks.publish_time,
        ticks.received_at,
        ticks.selection_id,
        ticks.side,
        ticks.level,
        ticks.price,
        ticks.size,
    ]
    return [
        tuple(struct.pack("d", value) if isinstance(value, float) else value for value in row)
        for row in zip(*(column.tolist() for column in columns))
    ]


def number(value):
    """Order floats as PostgreSQL does: NaN above everything."""
    return (1, 0.0) if math.isnan(value) else (0, value)


def contract_order(row):
    """The order of a market file, in words (README, "A tick")."""
    market, publish, received, selection, side, level, price, size = row
    return (market, publish, side == TRADED, level, selection, side, number(price), received, number(size))


def identity(row):
    """What makes a tick unique: ladder rows by place, traded rows by price."""
    market, publish, _, selection, side, level, price, _ = row
    return (market, selection, price, publish) if side == TRADED else (market, selection, side, level, publish)


def plain(ticks):
    """Return Ticks as tuples of Python values."""
    return [
        tuple(row)
        for row in zip(
            ticks.market.tolist(),
            ticks.publish_time.tolist(),
            ticks.received_at.tolist(),
            ticks.selection_id.tolist(),
            ticks.side.tolist(),
            ticks.level.tolist(),
            ticks.price.tolist(),
            ticks.size.tolist(),
        )
    ]


def comparable(rows):
    """Return rows with NaN as a word, so that equal rows are equal."""
    return [tuple("NaN" if isinstance(value, float) and math.isnan(value) else value for value in row) for row in rows]


@given(st.lists(ROW, max_size=60))
def test_rows_come_in_the_order_of_the_contract(rows):
    ticks = ticks_of(rows)
    assert comparable(plain(ticks.sorted())) == comparable(sorted(plain(ticks), key=contract_order))


@given(st.lists(ROW, max_size=60), st.randoms())
def test_the_order_in_which_rows_arrive_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert rows_of(ticks_of(rows).sorted()) == rows_of(ticks_of(shuffled).sorted())


@given(st.lists(ROW, max_size=60))
def test_sequence_is_level_or_the_rank_of_the_traded_price(rows):
    ticks = ticks_of(rows).sorted()
    listed = comparable(plain(ticks))
    prices = {}
    for market, publish, _, selection, side, _, price, _ in listed:
        if side == TRADED:
            prices.setdefault((market, publish, selection), set()).add(price)
    for row, sequence in zip(listed, ticks.sequence().tolist(), strict=True):
        market, publish, _, selection, side, level, price, _ = row
        if side == TRADED:
            ranked = sorted(
                prices[market, publish, selection], key=lambda value: number(math.nan if value == "NaN" else value)
            )
            assert sequence == ranked.index(price)
        else:
            assert sequence == level


@given(st.lists(ROW, max_size=40), st.lists(ROW, max_size=40))
def test_merging_lets_the_database_win_and_loses_nothing(now, before):
    now, before = ticks_of(now), ticks_of(before)
    merged = comparable(plain(now.merged_over(before)))
    ours = {identity(row) for row in comparable(plain(now))}
    expected = comparable(plain(now)) + [row for row in comparable(plain(before)) if identity(row) not in ours]
    assert sorted(merged, key=repr) == sorted(expected, key=repr)
    assert merged == comparable(plain(ticks_of(plain(now.merged_over(before))).sorted()))


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 3)), max_size=30))
def test_packing_orders_like_tuples_even_where_the_bits_do_not_fit(rows):
    columns = [np.array([row[n] for row in rows], np.int64) for n in range(3)]
    key = pack(columns).tolist()
    for left, left_key in zip(rows, key, strict=True):
        for right, right_key in zip(rows, key, strict=True):
            assert (left < right) == (left_key < right_key)


@settings(max_examples=50)
@given(st.lists(PRICES | st.just(-0.0) | st.just(0.0), max_size=40))
def test_ranks_are_dense_ascending_and_treat_nan_and_zero_as_one_value(values):
    ranks = dense_rank(np.array(values, np.float64)).tolist()
    ordered = sorted({number(value) for value in values})
    assert ranks == [ordered.index(number(value)) for value in values]


ODDS = st.integers(0, 110_000).map(lambda hundredths: hundredths / 100)


@given(st.lists(ODDS, max_size=30) | st.lists(ODDS | PRICES | st.floats() | st.just(-0.0), max_size=30))
def test_prices_are_numbered_in_their_order_whatever_they_are(values):
    ranks = price_rank(np.array(values, np.float64)).tolist()
    for left, left_rank in zip(values, ranks, strict=True):
        for right, right_rank in zip(values, ranks, strict=True):
            assert (number(left) < number(right)) == (left_rank < right_rank)


def test_table_round_trip():
    rows = [(0, 5, 6, 7, BACK, 1, 2.5, 3.5), (0, 5, 6, 7, LAY, 0, 2.5, 3.5), (0, 5, 6, 7, TRADED, 0, math.nan, 1.0)]
    ticks = ticks_of(rows)
    table = ticks.to_table("1.2", ticks.sequence())
    assert table.column("side").to_pylist() == ["BACK", "LAY", None]
    assert table.column("traded_volume").to_pylist() == [None, None, 1.0]
    assert table.column("level").to_pylist() == [1, 0, None]
    assert table.column("in_play").to_pylist() == [None] * 3
    assert rows_of(Ticks.from_batch(table.combine_chunks().to_batches()[0])) == rows_of(ticks)


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows(count):
    ticks = ticks_of([(0, 5, 6, 7, BACK, 1, 2.5, 3.5)] * count)
    assert len(ticks.sorted()) == len(ticks.merged_over(ticks)) == len(ticks.sequence()) == count
