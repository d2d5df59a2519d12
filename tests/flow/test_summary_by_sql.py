"""BuildRunnerSummary against the database: its columns of every market of the demo, recomputed by SQL alone."""

import collections
import datetime

import pyarrow.parquet as pq
import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tasks.runner_summaries.summary_columns import HORIZONS
from tests.conftest import Pipeline, new_source

_OFF = """
    SELECT publish_time FROM (SELECT publish_time, in_play, lag(in_play) OVER (ORDER BY publish_time, received_time)
        AS before FROM stream_ingest.market_lifecycle_events WHERE market_id = %s AND in_play IS NOT NULL) AS event
     WHERE in_play AND before IS DISTINCT FROM true ORDER BY 1 DESC LIMIT 1"""
_MESSAGES = """
    SELECT selection_id, publish_time FROM stream_ingest.ladder_levels WHERE market_id = %s
     UNION ALL SELECT selection_id, publish_time FROM stream_ingest.traded_volume WHERE market_id = %s"""
_VOLUMES = """
    WITH sums AS (SELECT selection_id, price, publish_time, size_traded AS new, lag(size_traded)
            OVER (PARTITION BY selection_id, price ORDER BY publish_time) AS old
        FROM stream_ingest.traded_volume WHERE market_id = %s),
    told AS (SELECT *, CASE WHEN old IS NULL OR new <= old THEN new ELSE new - old END AS volume FROM sums
        WHERE old IS DISTINCT FROM new)
    SELECT selection_id, price, (array_agg(volume ORDER BY publish_time DESC) FILTER (WHERE publish_time < %s))[1],
           (array_agg(volume ORDER BY publish_time DESC))[1] FROM told GROUP BY 1, 2"""


@pytest.fixture(scope="module")
def demo(server):
    """A database with the small demo's recording."""
    source = new_source(server)
    load(Recording.tiny(), server.conninfo(source.name))
    return source


def expected(demo, market_id):
    """Return the columns of each runner of a market, by SQL."""
    off = next(iter(demo.query(_OFF, market_id)), (None,))[0]
    names = "event_id", "market_type", "market_name", "market_start_time"
    of_market = demo.query(f"SELECT {', '.join(names)} FROM public.markets WHERE market_id = %s", market_id)
    of_market = dict(zip(names, of_market[0])) if of_market else dict.fromkeys(names)
    start = of_market["market_start_time"]
    of_market |= {"off_time": off, "event_date": start and start.astimezone(datetime.UTC).date()}
    rows = collections.defaultdict(lambda: dict(of_market))
    span = f"SELECT selection_id, min(publish_time), max(publish_time) FROM ({_MESSAGES}) AS message GROUP BY 1"
    for selection_id, first, last in demo.query(span, market_id, market_id):
        rows[selection_id] |= {"first_tick": first, "last_tick": last}
    for end, seconds in HORIZONS:
        before = (off or start) - datetime.timedelta(seconds=seconds) if off or start else None
        books = demo.query(
            f"""SELECT selection_id, side, price, size FROM stream_ingest.ladder_levels
                 WHERE market_id = %s AND level = 0 AND publish_time =
                       (SELECT max(publish_time) FROM ({_MESSAGES}) AS message WHERE publish_time < %s)""",
            *(market_id,) * 3,
            before,
        )
        for selection_id, side, price, size in books:
            name = {"B": "back", "L": "lay"}[side]
            rows[selection_id] |= {f"{name}_{end}": float(price), f"{name}_size_{end}": float(size)}
    for selection_id, phase, volumes in traded(demo, market_id, off):
        total = sum(volumes.values())
        rows[selection_id] |= {
            f"{phase}_min": min(volumes),
            f"{phase}_max": max(volumes),
            f"{phase}_volume": pytest.approx(total, abs=0.006),
            f"{phase}_wap": pytest.approx(sum(price * size for price, size in volumes.items()) / total, abs=2e-6),
        }
    return rows


def traded(demo, market_id, off):
    """Yield (selection_id, phase, {price: volume}), if anybody knows when the market was in play."""
    if not demo.query("SELECT 1 FROM stream_ingest.market_lifecycle_events WHERE market_id = %s", market_id):
        return
    found = collections.defaultdict(dict)
    until = off or datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
    for selection_id, price, before, last in demo.query(_VOLUMES, market_id, until):
        if before:
            found[selection_id, "pp"][float(price)] = float(before)
        grown = round(float(last or 0) - float(before or 0), 2)
        if off and grown >= 1:
            found[selection_id, "ip"][float(price)] = grown
    yield from ((*key, volumes) for key, volumes in found.items())


def test_columns_are_what_sql_makes_of_the_database(demo, tmp_path):
    pipeline = Pipeline(tmp_path / "export", demo.environment)
    result = pipeline.run("BuildRunnerSummary")
    assert result.returncode == 0, result.stderr
    summary = collections.defaultdict(dict)
    for row in pq.read_table(pipeline.output_dir / "runner_summary.parquet").to_pylist():
        summary[row["market_id"]][row["selection_id"]] = row
    compared, seen = 0, set()
    for market_id in sorted(summary):
        for selection_id, wanted in expected(demo, market_id).items():
            row = summary[market_id][selection_id]
            assert {name: row[name] for name in wanted} == wanted, (market_id, selection_id)
            compared += len(wanted)
            seen |= wanted.keys()
            books = {f"{what}_{end}" for end, _ in HORIZONS for what in ("back", "back_size", "lay", "lay_size")}
            assert all(row[name] is None for name in books - wanted.keys())
    assert compared > 300 and {"back_60m", "lay_0s", "pp_wap", "ip_wap"} <= seen
