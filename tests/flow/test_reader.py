"""A large market read over one or several connections: the same ticks, slice after slice, all of one moment."""

import contextlib

import numpy as np
import pytest

from tasks.exporting import market_reads
from tasks.postgres.density import Density
from tasks.postgres.server import Server
from tasks.postgres.tick_reader import Rows, TickReader, read_market
from tasks.storage.layout import Layout
from tasks.ticks.tick_arrays import Ticks
from tests.conftest import new_source

MARKET = "1.105"
START_US = 1_770_249_600_000_000  # 2026-02-05 00:00 UTC
MINUTE_US = 60_000_000


@pytest.fixture(scope="module")
def minutes(server):
    """A market with a message a minute for ten hours, 5 ladder rows each, but 300 in the 200th minute, and 3 traded
    ones.
    """
    source = new_source(server)
    source.partition("2026-02-05")
    source.query(
        """INSERT INTO stream_ingest.ladder_levels
                    SELECT %s, selection, 'B', 0, 2 + selection, minute, moment, moment
                      FROM generate_series(0, 599) AS minute, generate_series(1,
                          CASE minute WHEN 200 THEN 300 ELSE 5 END) AS selection,
                           LATERAL (SELECT timestamptz '2026-02-05 00:00+00' + minute * interval '1 minute' AS moment)
                               AS at""",
        MARKET,
    )
    source.query("""INSERT INTO stream_ingest.traded_volume SELECT market_id, selection_id, price, size, publish_time,
            received_time
                      FROM stream_ingest.ladder_levels WHERE selection_id <= 3""")
    return source


@pytest.fixture
def reader(minutes):
    with TickReader(Server.from_environment(minutes.environment)) as reader:
        reader.begin_snapshot()
        yield reader


def read(readers, bounds_us, limit):
    """Return the ticks in file order and the bounds of the slices, each checked to hold what it may."""
    parts, lower = [], -1 << 62
    for ticks, upper in read_market(readers, MARKET, readers[0].selection_ids(MARKET), bounds_us, limit):
        below = 1 << 62 if upper is None else upper
        assert np.all((ticks.publish_time >= lower) & (ticks.publish_time < below))
        assert len(np.unique(ticks.publish_time)) < 2 or np.count_nonzero(ticks.side != 2) <= limit
        parts.append(ticks)
        lower = below
    assert upper is None
    return Ticks.concatenate(parts).sorted()


@pytest.mark.parametrize("connections", [1, 2, 3])
@pytest.mark.parametrize(
    "bounds_us, limit",
    [
        ([], 10_000),
        ([], 100),
        ([], 1),
        ([START_US + hour * 60 * MINUTE_US for hour in range(1, 10)], 400),
        ([START_US + 30 * MINUTE_US, START_US + 31 * MINUTE_US], 7),
        ([START_US - 1, START_US + 10_000 * MINUTE_US], 50),
    ],
)
def test_several_connections_read_what_one_reads(minutes, reader, connections, bounds_us, limit):
    with contextlib.ExitStack() as more:
        readers = [reader, *(more.enter_context(reader.of_same_snapshot()) for _ in range(connections - 1))]
        ticks = read(readers, bounds_us, limit)
    times, counts = np.unique(ticks.publish_time, return_counts=True)
    assert times.tolist() == [START_US + minute * MINUTE_US for minute in range(600)]
    assert counts.tolist() == [303 if minute == 200 else 8 for minute in range(600)]
    ((price, size),) = minutes.query(
        "SELECT sum(price), sum(size) FROM (SELECT price, size FROM stream_ingest.ladder_levels UNION ALL "
        "SELECT price, size_traded FROM stream_ingest.traded_volume) AS tick"
    )
    assert (ticks.price.sum(), ticks.size.sum()) == (price, size)


def test_all_connections_see_the_same_moment(small):
    with TickReader(Server.from_environment(small.environment)) as reader:
        reader.begin_snapshot()
        before = len(reader.read(Rows(("1.101",)), None, 1_000))
        small.message("1.101", "2026-02-05 15:00:00+00")
        with reader.of_same_snapshot() as other:
            assert len(other.read(Rows(("1.101",)), None, 1_000)) == before > 0
        reader.begin_snapshot()
        assert len(reader.read(Rows(("1.101",)), None, 1_000)) == before + 7


def test_what_is_read_ahead_ends_before_a_reader_who_leaves_early(reader):
    with reader.of_same_snapshot() as other:
        bounds = [START_US + minute * MINUTE_US for minute in range(1, 600)]
        with contextlib.closing(read_market([reader, other], MARKET, [1, 2, 3], bounds, 100)) as slices:
            next(slices)
        assert len(reader.read(Rows((MARKET,), START_US, START_US + MINUTE_US), None, 100)) == 8


@pytest.mark.parametrize("spare, expected", [(0, 0), (1, 1), (5, 2)])
def test_a_market_of_more_than_its_share_takes_the_connections_that_there_are(minutes, tmp_path, spare, expected):
    minutes.query(f"CREATE ROLE few_{spare} LOGIN PASSWORD 'few' CONNECTION LIMIT {1 + spare}")
    minutes.query(f"GRANT USAGE ON SCHEMA stream_ingest TO few_{spare}")
    minutes.query(f"GRANT SELECT ON ALL TABLES IN SCHEMA stream_ingest TO few_{spare}")
    server = Server.from_environment(
        minutes.environment | {"POSTGRES_USER": f"few_{spare}", "POSTGRES_PASSWORD": "few"}
    )
    density = Density({MARKET: 0, "1.106": 1}, np.array([(0, 0, 600.0), (1, 0, 400.0)], Density()._steps.dtype))
    job = market_reads.Job(server, Layout(tmp_path), density, {}, workers=3)
    with TickReader(server) as reader, contextlib.ExitStack() as connections:
        reader.begin_snapshot()
        assert len(list(market_reads.more_readers(job, reader, MARKET, connections))) == expected
        alone = market_reads.Job(server, Layout(tmp_path), density, {}, workers=1)
        assert list(market_reads.more_readers(alone, reader, MARKET, connections)) == []


def test_a_market_of_no_more_than_its_share_keeps_to_one(minutes, reader, tmp_path):
    density = Density({MARKET: 0, "1.106": 1}, np.array([(0, 0, 300.0), (1, 0, 600.0)], Density()._steps.dtype))
    job = market_reads.Job(Server.from_environment(minutes.environment), Layout(tmp_path), density, {}, workers=2)
    with contextlib.ExitStack() as connections:
        assert list(market_reads.more_readers(job, reader, MARKET, connections)) == []
