"""The invented recordings: the rules that real ones keep, and every peculiarity that real ones have."""

import dataclasses
import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tasks.demo.arrays import Ints, members, noise, running_sum
from tasks.demo.books import Books
from tasks.demo.price_ladder import PRICES
from tasks.demo.recording import DAY_MS, Recording

LADDER_KEY = ["market_id", "selection_id", "side", "level", "publish_time"]
TRADED_KEY = ["market_id", "selection_id", "price", "publish_time"]


@dataclasses.dataclass
class Made:
    """A recording and all its rows."""

    books: Books
    ladder: pd.DataFrame
    traded: pd.DataFrame


@pytest.fixture(scope="module", params=["tiny", "demo"])
def made(request: pytest.FixtureRequest) -> Made:
    """A recording of each size that people see."""
    books = Books(getattr(Recording, request.param)())
    messages = books.messages.by_time()
    return Made(books, books.ladder_rows(messages).to_pandas(), books.traded_rows(messages).to_pandas())


def rows_of(books: Books, messages: Ints) -> list[pa.Table]:
    return [books.ladder_rows(messages), books.traded_rows(messages), books.liquidity_rows(messages)]


def test_price_ladder() -> None:
    assert len(PRICES) == 350
    assert PRICES[[0, 98, 99, 100, 149, 150, 349]].tolist() == [1.01, 1.99, 2.0, 2.02, 3.0, 3.05, 1000.0]
    assert all(float(f"{price:.2f}") == price for price in PRICES)


def test_arrays() -> None:
    group, number = members(np.array([2, 0, 3]))
    assert group.tolist() == [0, 0, 2, 2, 2] and number.tolist() == [0, 1, 0, 1, 2]
    assert running_sum(np.array([5, 1, 2, 3, 4]), group).tolist() == [5, 6, 2, 5, 9]


def test_noise_is_even_and_depends_on_everything() -> None:
    keys = np.arange(100_000)
    spread = noise(1, "topic", keys)
    assert spread.min() >= 0 and spread.max() < 1
    assert np.allclose(np.histogram(spread, 10)[0], 10_000, rtol=0.05)
    for other in (
        noise(2, "topic", keys),
        noise(1, "other", keys),
        noise(1, "topic", keys + 1),
        noise(1, "topic", keys, keys),
    ):
        assert abs(np.corrcoef(spread, other)[0, 1]) < 0.02
    assert noise(1, "topic", np.array([7]))[0] == spread[7]


def test_the_same_recording_twice() -> None:
    first, second, other = (
        Books(recording) for recording in (Recording.tiny(), Recording.tiny(), Recording.tiny(seed=2))
    )
    rows = rows_of(first, first.messages.by_time())
    assert rows == rows_of(second, second.messages.by_time())
    assert rows != rows_of(other, other.messages.by_time())


def test_keys_are_unique(made: Made) -> None:
    assert not made.ladder.duplicated(LADDER_KEY).any()
    assert not made.traded.duplicated(TRADED_KEY).any()


def test_rows_come_in_the_order_of_time(made: Made) -> None:
    assert made.ladder.publish_time.is_monotonic_increasing
    assert made.traded.publish_time.is_monotonic_increasing
    assert not made.ladder.received_time.is_monotonic_increasing


def test_prices_and_sizes(made: Made) -> None:
    for rows, size in ((made.ladder, "size"), (made.traded, "size_traded")):
        assert np.isin(rows.price, PRICES).all()
        assert (rows[size] > 0).all()
        assert (rows[size].round(2) == rows[size]).all()


def test_best_prices_of_each_side(made: Made) -> None:
    of = made.books.messages
    twins = pd.to_datetime(of.publish_time[of.is_twin], unit="ms", utc=True)
    books = made.ladder[~made.ladder.publish_time.isin(twins)].sort_values(
        ["market_id", "publish_time", "selection_id", "side", "level"]
    )
    levels = books.groupby(["market_id", "selection_id", "side", "publish_time"])["level"].agg(["min", "max", "count"])
    assert (levels["min"] == 0).all() and (levels["count"] == levels["max"] + 1).all()
    assert (levels["count"] <= 8).all() and (levels["count"] == 8).any() and (levels["count"] < 8).any()
    rises = books.price.diff()[books["level"] > 0]
    assert (rises[books.side == "B"] < 0).all() and (rises[books.side == "L"] > 0).all()
    best = (
        books[books.level == 0]
        .pivot(index=["market_id", "selection_id", "publish_time"], columns="side", values="price")
        .dropna()
    )
    assert (best.B < best.L).all()


def test_traded_prices_stay_and_their_sizes_never_shrink(made: Made) -> None:
    ordered = made.traded.sort_values(TRADED_KEY)
    price = ordered.groupby(["market_id", "selection_id", "price"])
    assert (price.size_traded.diff().dropna() >= 0).all()
    assert (price.size_traded.diff() > 0).any()
    times = {
        market: group.to_numpy() for market, group in made.traded.groupby("market_id").publish_time.unique().items()
    }
    for (market, _, _), group in price.publish_time:
        assert len(group) == (times[market] >= group.iloc[0]).sum()
    runner = made.traded.groupby(["market_id", "selection_id", "publish_time"]).size().reset_index(name="prices")
    assert (runner.groupby(["market_id", "selection_id"]).prices.diff().dropna() > 0).any()


def test_books_move_but_little_at_a_time(made: Made) -> None:
    largest = made.ladder[made.ladder.market_id == made.ladder.market_id.mode()[0]]
    books = (
        largest.assign(offer=largest.price.astype(str) + "x" + largest["size"].astype(str))
        .groupby(["selection_id", "side", "publish_time"])
        .offer.agg(" ".join)
        .unstack("publish_time")
    )
    changed = (books.iloc[:, 1:].to_numpy() != books.iloc[:, :-1].to_numpy()).mean()
    assert 0.02 < changed < 0.9
    assert largest[largest.level == 0].groupby(["selection_id", "side"]).price.nunique().min() > 2


def test_traded_rows_share_their_messages(made: Made) -> None:
    prices = made.traded.groupby(["market_id", "selection_id", "publish_time"]).price.transform("size")
    assert (prices > 1).mean() > 0.95
    assert 0.35 < len(made.traded) / (len(made.traded) + len(made.ladder)) < 0.6


def test_a_few_markets_have_most_ticks(made: Made) -> None:
    ticks = pd.concat([made.ladder.market_id, made.traded.market_id]).value_counts()
    assert ticks.iloc[: max(2, len(ticks) // 10)].sum() > 0.5 * ticks.sum()
    assert ticks.median() < ticks.iloc[0] / 20


def test_twins_keep_the_first_ladder_and_the_last_traded_rows(made: Made) -> None:
    of = made.books.messages
    both = np.flatnonzero(of.is_twin)
    both = both[~of.is_suspended[both - 1]]
    assert len(both)
    for second in both[:20]:
        market = made.books.markets.ids[of.market[second]].as_py()
        first_received, second_received = (
            pd.Timestamp(of.received_time[n], unit="ms", tz="UTC") for n in (second - 1, second)
        )
        time = pd.Timestamp(of.publish_time[second], unit="ms", tz="UTC")
        ladder, traded = (
            rows[(rows.market_id == market) & (rows.publish_time == time)] for rows in (made.ladder, made.traded)
        )
        assert (ladder[ladder.level == 0].received_time == first_received).all() and len(ladder)
        assert (traded.received_time == second_received).all()
        alone = made.books.ladder_rows(np.array([second - 1])).to_pandas()
        assert len(ladder.merge(alone, on=list(alone.columns))) == len(alone)


def test_latency(made: Made) -> None:
    of = made.books.messages
    latency = of.received_time - of.publish_time
    assert latency.min() >= 10 and np.median(latency) < 20 and latency.max() < 1_250
    assert made.books.recording.ticks < 100_000 or latency.max() > 300


def test_several_markets_have_the_same_publish_time(made: Made) -> None:
    assert made.ladder.groupby("publish_time").market_id.nunique().max() > 2


def test_suspended_markets_have_no_offers(made: Made) -> None:
    of = made.books.messages
    suspended = np.flatnonzero(of.is_suspended & ~of.is_twin & ~np.append(of.is_twin[1:], False))
    assert len(suspended)
    assert made.books.ladder_rows(suspended).num_rows == 0
    assert made.books.traded_rows(suspended).num_rows > 0


def test_any_pieces_make_the_whole(made: Made) -> None:
    books, generator = made.books, np.random.default_rng(1)
    times = np.unique(books.messages.publish_time)
    cuts = [None, *np.sort(generator.choice(times, 5, replace=False)).tolist(), None]
    pieces = [rows_of(books, books.messages.by_time(after, until)) for after, until in zip(cuts, cuts[1:])]
    assert [pa.concat_tables(parts) for parts in zip(*pieces)] == rows_of(books, books.messages.by_time())


def test_a_recording_starts_at_midnight() -> None:
    for start in (datetime.datetime(2026, 2, 3), datetime.datetime(2026, 2, 3, 1, tzinfo=datetime.UTC)):
        with pytest.raises(ValueError, match="UTC midnight"):
            dataclasses.replace(Recording.tiny(), start=start)


def test_other_days() -> None:
    moved = Books(dataclasses.replace(Recording.tiny(), start=datetime.datetime(2024, 12, 31, tzinfo=datetime.UTC)))
    usual = Books(Recording.tiny())
    days = (usual.recording.start_ms - moved.recording.start_ms) // DAY_MS
    assert (usual.messages.publish_time - moved.messages.publish_time == days * DAY_MS).all()


def test_bench_has_half_of_its_rows_traded() -> None:
    recording = Recording.bench(ticks=1_000_000, markets=200)
    books = Books(recording)
    chunks = np.array_split(books.messages.by_time(), 10)
    ladder = sum(books.ladder_rows(chunk).num_rows for chunk in chunks)
    traded = sum(books.traded_rows(chunk).num_rows for chunk in chunks)
    assert 0.4 < traded / (ladder + traded) < 0.6
    assert 0.85 < (ladder + traded) / recording.ticks < 1.15


def test_many_small_markets_over_thirty_days() -> None:
    books = Books(Recording.many(markets=5_000))
    messages = books.messages.by_time()
    rows = pa.concat_tables(
        [books.ladder_rows(messages).select(["market_id"]), books.traded_rows(messages).select(["market_id"])]
    )
    ticks = rows.column("market_id").value_counts().field("counts").to_numpy()
    assert 4_500 < len(ticks) < 5_000 and np.median(ticks) < 40
    assert len(np.unique(books.messages.publish_time // DAY_MS)) == 30
    assert len(set(books.markets.ids.to_pylist())) == 5_000
