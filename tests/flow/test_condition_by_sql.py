"""Report against the database: every reason of condition.json on the demo's recording, recomputed by SQL alone; and a
recording with ten minutes cut out of it."""

import contextlib
import datetime
import json

import pytest

from tasks.condition.reasons import REASONS
from tasks.demo.load import load
from tasks.demo.recording import Recording
from tests.conftest import Pipeline, new_source
from tests.flow.condition_by_sql import of_condition, of_database, text

#: Reasons that no row of the database meets: they are about days, or about what is missing beside the ticks.
OF_DAYS = {"below_usual", "markets_without_ticks", "not_over"}
OF_METADATA = {"no_metadata", "no_runner_name", "runner_without_ticks", "in_play_unknown"}


@pytest.fixture
def demo(server):
    """A database with the generator's recording: its peculiarities meet most reasons."""
    source = new_source(server)
    load(Recording(ticks=150_000, markets=40, days=3), server.conninfo(source.name))
    return source


def recomputed(source, pipeline):
    """Return the reasons by SQL; in play is what the metadata say."""
    in_play = {}
    for path in pipeline.output_dir.glob("markets/*_metadata.json"):
        metadata = json.loads(path.read_text())
        if metadata["inPlay"] and metadata["marketStartTime"]:
            in_play[metadata["marketId"]] = datetime.datetime.fromisoformat(metadata["marketStartTime"])
    with contextlib.closing(source.server.connect(source.name)) as connection:
        return of_database(connection, in_play)


FAULTS = (
    "UPDATE stream_ingest.ladder_levels SET received_time = publish_time - interval '1 ms' WHERE market_id = %s",
    "UPDATE stream_ingest.traded_volume SET received_time = publish_time + interval '6 s' WHERE market_id = %s",
    "UPDATE stream_ingest.ladder_levels SET price = price + 0.001 WHERE market_id = %s AND level = 2",
    "UPDATE stream_ingest.ladder_levels SET price = 1000 WHERE market_id = %s AND side = 'B' AND level = 0",
    (
        "UPDATE stream_ingest.traded_volume SET size_traded = 0.5 WHERE market_id = %s AND extract(second FROM"
        " publish_time) > 30"
    ),
    (
        "DELETE FROM stream_ingest.ladder_levels USING (SELECT market_id, min(publish_time) AS first FROM"
        " stream_ingest.traded_volume GROUP BY 1) AS traded WHERE traded.market_id = ladder_levels.market_id"
        " AND publish_time <= first AND ladder_levels.market_id = %s"
    ),
)


def test_every_reason_has_the_counts_and_intervals_of_the_database(demo, tmp_path):
    markets = demo.query(
        "SELECT market_id FROM stream_ingest.traded_volume GROUP BY 1 HAVING count(DISTINCT publish_time) BETWEEN 20"
        " AND 500 ORDER BY 1"
    )
    for (market_id,), fault in zip(markets, FAULTS):
        demo.query(fault, market_id)
    pipeline = Pipeline(tmp_path / "out", demo.environment)
    assert pipeline.run("ExportAll").returncode == 0
    found, expected = of_condition(pipeline.output_dir / "condition.json"), recomputed(demo, pipeline)
    assert found == {key: (count, messages, intervals[:100]) for key, (count, messages, intervals) in expected.items()}
    assert {reason for _, reason in found} == {*REASONS} - OF_DAYS - OF_METADATA, "a reason is not met, so not shown"


def test_ten_minutes_cut_out_of_a_recording_are_a_gap_to_the_microsecond(source, tmp_path):
    source.partition("2026-02-05")
    for market_id, step in (("1.501", "20.123456 s"), ("1.502", "180 s")):
        source.market(market_id)
        source.query(
            "INSERT INTO stream_ingest.ladder_levels SELECT %s, runner, side, 0, CASE side WHEN 'B' THEN 2 ELSE 2.02"
            " END, 10, moment, moment + interval '9 ms' FROM generate_series(timestamptz '2026-02-05 08:00+00',"
            " '2026-02-05 20:00+00', %s) AS moment, generate_series(1, 2) AS runner, unnest(ARRAY['B', 'L']) AS side",
            market_id,
            step,
        )

    def judged(name):
        pipeline = Pipeline(tmp_path / name, source.environment)
        assert pipeline.run("ExportAll").returncode == 0
        condition = json.loads((pipeline.output_dir / "condition.json").read_text())
        gaps = of_condition(pipeline.output_dir / "condition.json")
        return {one["market_id"]: one["condition"] for one in condition["markets"]}, gaps, condition["days"][0]

    conditions, gaps, day = judged("clean")
    assert conditions == {"1.501": "good", "1.502": "good"} and not gaps
    moments = {}
    for market_id in conditions:
        cut = "market_id = %s AND publish_time BETWEEN '2026-02-05 13:00:01+00' AND '2026-02-05 13:10:01+00'"
        source.query(f"DELETE FROM stream_ingest.ladder_levels WHERE {cut}", market_id)
        moments[market_id] = source.query(
            "SELECT max(publish_time) FILTER (WHERE publish_time < '2026-02-05 13:05+00'), min(publish_time) FILTER"
            " (WHERE publish_time > '2026-02-05 13:05+00') FROM stream_ingest.ladder_levels WHERE market_id = %s",
            market_id,
        )[0]
    conditions, gaps, day = judged("cut")
    assert gaps == {(market, "gap"): (1, 1, [(text(start), text(end), 1)]) for market, (start, end) in moments.items()}
    assert set(conditions.values()) == {"degraded"} and day["condition"] == "degraded"
    (hole,) = [interval for reason in day["reasons"] if reason["reason"] == "gap" for interval in reason["intervals"]]
    starts, ends = zip(*moments.values())
    assert (hole["from"], hole["to"]) == (text(max(starts)), text(min(ends))), "in which no market has a message"
