"""BuildRunnerSummary: each column is what its rule says; the peculiar markets. test_summary_by_sql.py has the rest."""

import datetime
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.export_directory.market_states import intervals
from tasks.runner_summaries.market_summary import MarketKnown, summarise
from tasks.ticks.tick_arrays import BACK, LAY, TRADED, Ticks
from tests.conftest import ROOT, Pipeline

START = datetime.datetime(2026, 2, 5, 12, tzinfo=datetime.UTC)
START_US = int(START.timestamp()) * 1_000_000
MINUTE = 60_000_000


def ticks(*rows):
    """Return ticks of rows (minutes after the start, runner, side, price, size), in file order."""
    columns = list(zip(*rows))
    sides = np.array(columns[2], np.int8)
    return Ticks(
        np.zeros(len(rows), np.int64),
        START_US + (np.array(columns[0]) * MINUTE).astype(np.int64),
        np.zeros(len(rows), np.int64),
        np.array(columns[1], np.int64),
        sides,
        np.zeros(len(rows), np.int16),
        np.array(columns[3], float),
        np.array(columns[4], float),
    ).sorted()


def known(*seen, **metadata):
    """Return a market with states from (minutes after the start, status, in-play)."""
    described = {
        "marketType": "WIN",
        "marketName": "Ascot",
        "marketStartTime": "2026-02-05T12:00:00.000000Z",
        "runners": [{"selectionId": 1, "runnerName": "One"}, {"selectionId": 2, "runnerName": "Two"}],
    }
    states = intervals([(START_US + int(moment * MINUTE), status, in_play) for moment, status, in_play in seen])
    return MarketKnown("1.5", "30", described | metadata, states, "good")


BOOK = [(moment, 1, side, 3 + side / 10 + moment / 100, 10.0) for moment in (-61, -31, -2, 1) for side in (BACK, LAY)]


def test_prices_are_of_the_newest_message_before_the_moment():
    rows = summarise(known((-90, "OPEN", False), (2, "OPEN", True)), [ticks(*BOOK)])
    assert [row["selection_id"] for row in rows] == [1, 2]
    one = rows[0]
    assert one["off_time"] == START_US + 2 * MINUTE
    assert one["back_60m"] == pytest.approx(2.39) and one["back_30m"] == pytest.approx(2.69)
    assert one["lay_10m"] == pytest.approx(2.79) and one["lay_0s"] == pytest.approx(3.11)
    assert one["back_size_0s"] == 10.0 and one["back_60s"] == pytest.approx(2.98)
    assert "first_tick" not in rows[1] and rows[1]["selection_name"] == "Two"


def test_without_an_off_prices_are_of_the_scheduled_start_and_trades_of_unknown_phase_are_null():
    one, _ = summarise(known(), [ticks(*BOOK, (-1, 1, TRADED, 3.0, 20.0))])
    assert one["off_time"] is None and one["back_60s"] == pytest.approx(2.98) and "pp_volume" not in one
    one, _ = summarise(known((-90, "OPEN", False)), [ticks(*BOOK, (-1, 1, TRADED, 3.0, 20.0))])
    assert one["pp_volume"] == 20.0 and "ip_volume" not in one


def test_trades_are_split_at_the_off():
    sums = [(-3, 3.0, 10.0), (-2, 3.0, 24.0), (3, 3.0, 24.0), (3, 2.0, 50.0), (4, 3.0, 24.0), (4, 2.0, 130.0)]
    rows = summarise(
        known((-90, "OPEN", False), (2, "OPEN", True)),
        [ticks(*((moment, 1, TRADED, price, size) for moment, price, size in sums))],
    )
    one = rows[0]
    # 10, then 24 - 10 = 14 at 3.0 before; at 2.0 50, then 130 - 50 = 80 after
    assert {key: one[f"pp_{key}"] for key in ("min", "max", "wap", "ltp", "volume")} == {
        "min": 3.0,
        "max": 3.0,
        "wap": 3.0,
        "ltp": 3.0,
        "volume": 14.0,
    }
    assert {key: one[f"ip_{key}"] for key in ("min", "max", "wap", "ltp", "volume")} == {
        "min": 2.0,
        "max": 2.0,
        "wap": 2.0,
        "ltp": 2.0,
        "volume": 80.0,
    }


def test_a_false_start_is_not_the_off():
    states = ((-90, "OPEN", False), (0, "OPEN", True), (1, "SUSPENDED", False), (9, "OPEN", True))
    one, _ = summarise(known(*states), [ticks(*BOOK, (5, 1, TRADED, 3.0, 20.0), (9.5, 1, TRADED, 4.0, 30.0))])
    assert one["off_time"] == START_US + 9 * MINUTE and one["pp_volume"] == 20.0 and one["ip_volume"] == 30.0


def test_a_recording_that_begins_in_play_says_nothing_of_before():
    one, _ = summarise(
        known((0, "OPEN", True)),
        [ticks((1, 1, TRADED, 3.0, 20.0), (2, 1, TRADED, 3.0, 45.0), (2, 1, TRADED, 2.0, 8.0))],
    )
    assert "pp_volume" not in one and one["ip_volume"] == 13.0 and one["ip_min"] == 2.0 and one["ip_max"] == 3.0
    assert one["ip_wap"] == pytest.approx((3 * 5 + 2 * 8) / 13) and one["ip_ltp"] == 2.0


def test_falls_are_told_apart():
    states = ((-90, "OPEN", False), (0, "OPEN", True), (8, "CLOSED", True))
    rows = summarise(
        known(*states),
        [
            ticks(
                *((-9, runner, TRADED, price, 100.0) for runner in (1, 2) for price in (3.0, 4.0)),
                (-8, 1, TRADED, 3.0, 160.0),  # 60: a part is void
                (-8, 1, TRADED, 4.0, 100.0),
                *((-8, 2, TRADED, price, 100.0) for price in (3.0, 4.0)),
                (-7, 1, TRADED, 3.0, 160.0),  # 2 is removed
                (-7, 1, TRADED, 4.0, 100.0),
                (9, 1, BACK, 3.0, 1.0),  # settled
            )
        ],
    )
    assert [[row[f"fell_{why}"] for why in ("void", "removal", "settlement", "reset")] for row in rows] == [
        [40.0, 0.0, 160.0, 0.0],
        [0.0, 200.0, 0.0, 0.0],
    ]
    assert [row["pp_volume"] for row in rows] == [160.0, 200.0] and [row["ip_volume"] for row in rows] == [0.0, 0.0]


def test_a_market_without_ticks_has_its_runners():
    rows = summarise(known(), [])
    assert [(row["selection_id"], row["condition"]) for row in rows] == [(1, "good"), (2, "good")]


def test_both_files_say_the_same_and_are_made_anew_when_something_changed(pipeline, small):
    result = pipeline.run("BuildRunnerSummary", "--workers", "2")
    assert result.returncode == 0, result.stderr
    table = pq.read_table(pipeline.output_dir / "runner_summary.parquet")
    rows = table.to_pylist()
    assert [(row["market_id"], row["selection_id"]) for row in rows] == [
        (market_id, runner) for market_id in ("1.101", "1.102", "1.103") for runner in (1, 2)
    ]
    assert rows[0]["off_time"] == START and rows[0]["selection_name"] == "One" and rows[0]["condition"]
    assert rows[0]["back_10m"] == 2.0 and rows[0]["lay_60m"] == 2.0
    text = pd.read_csv(pipeline.output_dir / "runner_summary.csv", dtype={"market_id": str, "event_id": str})
    assert list(text) == table.column_names
    for name in ("pp_volume", "back_10m", "fell_void"):
        np.testing.assert_array_equal(text[name].to_numpy(float), table.to_pandas()[name].to_numpy(float))
    before = pipeline.stamps()
    assert pipeline.run("BuildRunnerSummary").returncode == 0 and pipeline.stamps() == before
    small.message("1.102", "2026-02-06 05:30:00+00")
    assert pipeline.run("BuildRunnerSummary", TZ="Asia/Tokyo", LC_ALL="C").returncode == 0
    fresh = Pipeline(pipeline.output_dir.parent / "fresh", small.environment)
    assert fresh.run("BuildRunnerSummary", "--format", "jsonl", "--workers", "2").returncode == 0
    assert (fresh.output_dir / "runner_summary.csv").read_bytes() == (
        pipeline.output_dir / "runner_summary.csv"
    ).read_bytes()
    assert pq.read_table(fresh.output_dir / "runner_summary.parquet").equals(
        pq.read_table(pipeline.output_dir / "runner_summary.parquet")
    )
    assert pipeline.run("VerifyExport").returncode == 0


RECIPES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "summary.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_recipes_of_the_page_work(pipeline, tmp_path, monkeypatch):
    assert pipeline.run("BuildRunnerSummary").returncode == 0
    (tmp_path / "data_exports").mkdir()
    (tmp_path / "data_exports" / "demo").symlink_to(pipeline.output_dir)
    monkeypatch.chdir(tmp_path)
    for recipe in RECIPES:
        exec(recipe, {})  # noqa: S102
    assert len(RECIPES) == 2


def test_a_damaged_market_file_is_named_and_the_others_are_in_it(pipeline):
    assert pipeline.run("ExportAll").returncode == pipeline.run("BuildStates").returncode == 0
    path = pipeline.market("1.102")
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    for _ in range(2):  # it does not count as done
        result = pipeline.run("BuildRunnerSummary", "--offline")
        assert result.returncode == 30 and "1 market failed ('1.102'" in result.stderr, result.stderr
    rows = pq.read_table(pipeline.output_dir / "runner_summary.parquet").to_pylist()
    assert {row["market_id"] for row in rows} == {"1.101", "1.103"}
    path.write_bytes(content)
    assert pipeline.run("BuildRunnerSummary", "--offline").returncode == 0
