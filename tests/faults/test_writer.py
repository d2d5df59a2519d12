"""The recorder inserts and updates rows at full speed while the pipeline reads: what is written is of one moment per
market, and once the recorder rests, the next run equals a fresh export.
"""

import contextlib
import threading

import pandas as pd
import pytest

from tests.conftest import Pipeline, connect, fresh

DAY = "2026-02-05"
MARKETS = ("1.101", "1.102", "1.103")
LEVELS, TRADES = 8, 5
MESSAGE = f"""
    INSERT INTO stream_ingest.ladder_levels
    SELECT %(market)s, 1, side, level, 2 + level, %(number)s, %(at)s, %(at)s
      FROM generate_series(0, {LEVELS - 1}) AS level, unnest(ARRAY['B', 'L']) AS side;
    INSERT INTO stream_ingest.traded_volume
    SELECT %(market)s, 1, 2 + price, %(number)s, %(at)s, %(at)s FROM generate_series(1, {TRADES}) AS price;
    UPDATE stream_ingest.ladder_levels SET size = %(number)s WHERE market_id = %(market)s AND publish_time = %(before)s;
    UPDATE stream_ingest.traded_volume SET size_traded = %(number)s
     WHERE market_id = %(market)s AND publish_time = %(before)s
"""


class Recorder:
    """Writes a message after the other, each in a transaction that also changes all rows of the market's last one. In
    every state that the database has, all sizes of a message are equal.
    """

    def __init__(self, source) -> None:
        self._source, self._stopped, self.written = source, threading.Event(), 0
        self._thread = threading.Thread(target=self._write)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _write(self) -> None:
        start = pd.Timestamp(f"{DAY} 00:00", tz="UTC")
        with contextlib.closing(connect(self._source)) as connection, connection.cursor() as cursor:
            while not self._stopped.is_set():
                at = start + pd.Timedelta(milliseconds=self.written // len(MARKETS))
                values = {"number": self.written + 1, "at": at, "before": at - pd.Timedelta(milliseconds=1)}
                cursor.execute(MESSAGE, values | {"market": MARKETS[self.written % len(MARKETS)]})
                connection.commit()
                self.written += 1


@pytest.fixture
def recorded(source):
    """A source with markets, and a partition for the day."""
    source.partition(DAY)
    for market_id in MARKETS:
        source.market(market_id)
    return source


def assert_of_one_moment(ticks):
    """Check that every message is whole, and that all its sizes are of one state of the database."""
    by_message = ticks.groupby(["market_id", "publish_time"])
    assert (by_message.size() == 2 * LEVELS + TRADES).all()
    assert (by_message["size"].nunique() == 1).all()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_recorder_at_full_speed(recorded, tmp_path, workers):
    pipeline, direct = (Pipeline(tmp_path / name, recorded.environment) for name in ("out", "direct"))
    day = ("--date", DAY, "--workers", workers)
    with Recorder(recorded) as recorder:
        while recorder.written < 300:
            pass
        for command in (("ExportAll", "--workers", workers),) * 2:
            before = recorder.written
            result = pipeline.run(*command)
            assert result.returncode == 0, result.stderr
            assert recorder.written > before
            ticks = pd.concat(pd.read_parquet(pipeline.market(market_id)) for market_id in MARKETS)
            assert len(ticks) >= before * (2 * LEVELS + TRADES)
            assert_of_one_moment(ticks)
        for each, command in ((pipeline, ("ConsolidateDay", *day)), (direct, ("ConsolidateDayDirect", *day))):
            before = recorder.written
            result = each.run(*command)
            assert result.returncode == 0, result.stderr
            ticks = pd.read_csv(
                each.output_dir / f"consolidated_ticks_{DAY.replace('-', '_')}.csv", dtype={"market_id": str}
            )
            assert len(ticks) >= before * (2 * LEVELS + TRADES)
            assert_of_one_moment(ticks)
    assert pipeline.run("ExportAll").returncode == 0
    assert {name: content for name, content in pipeline.files().items() if "markets/" in name} == {
        name: content for name, content in fresh(pipeline).items() if "markets/" in name
    }
    for each, command in ((pipeline, ("ConsolidateDay", *day)), (direct, ("ConsolidateDayDirect", *day))):
        assert each.run(*command).returncode == 0
    csv = f"consolidated_ticks_{DAY.replace('-', '_')}.csv"
    assert (pipeline.output_dir / csv).read_bytes() == (direct.output_dir / csv).read_bytes()
