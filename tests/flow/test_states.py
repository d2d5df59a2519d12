"""BuildStates: status and in-play over time, by the rule that its page gives."""

import pyarrow.parquet as pq
import pytest

from tasks.export_directory import market_states
from tasks.export_directory.market_states import State, intervals, merged
from tasks.reader import open_export

ADD = "INSERT INTO stream_ingest.market_lifecycle_events VALUES ('1.101', %s, %s, %s, %s)"


@pytest.mark.parametrize(
    "seen, expected",
    [
        ([], []),
        ([(1, "OPEN", False), (2, "OPEN", None)], [State(1, None, 2, "OPEN", False)]),
        ([(1, None, True), (2, "OPEN", None)], [State(1, 2, 1, None, True), State(2, None, 2, "OPEN", True)]),
        # of one time the last counts, for each value that it has
        ([(1, "OPEN", False), (1, "SUSPENDED", None)], [State(1, None, 1, "SUSPENDED", False)]),
        (
            [(1, "OPEN", False), (2, "SUSPENDED", False), (2, "OPEN", False), (3, "CLOSED", None)],
            [State(1, 3, 2, "OPEN", False), State(3, None, 3, "CLOSED", False)],
        ),
    ],
)
def test_rows_become_intervals(seen, expected):
    assert intervals(seen) == expected


def test_a_refresh_only_adds():
    seen = [(1, "OPEN", False), (3, "OPEN", False), (5, "SUSPENDED", None), (9, "CLOSED", None)]
    before = intervals(seen)
    assert merged(seen, before) == before
    assert merged([], before) == before  # the database has dropped its rows
    late = (4, "SUSPENDED", None)
    assert merged([late], before) == intervals(sorted([*seen, late]))
    assert merged([(5, "OPEN", None)], before) == intervals([*seen[:2], (5, "OPEN", None), seen[3]])  # it has the word


def test_the_off_is_the_last_change_to_in_play():
    states = intervals([(1, "OPEN", False), (2, None, True), (3, None, False), (7, None, True), (8, "CLOSED", None)])
    assert market_states.off_us(states) == 7
    assert market_states.off_us(states[:1]) is None and market_states.off_us([]) is None


def test_states_are_written_read_and_refreshed(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    result = pipeline.run("BuildStates")
    assert result.returncode == 0 and "1 states file written" in result.stderr, result.stderr
    export = open_export(pipeline.output_dir)
    rows = export.states("1.101").to_pylist()
    assert [(row["status"], row["in_play"], row["valid_from"].hour) for row in rows] == [
        ("OPEN", False, 9),
        ("OPEN", True, 12),
        ("CLOSED", True, 13),
    ]
    assert export.states("1.102").num_rows == 0
    ticks = export.ticks("1.101", joined=True).to_pylist()
    assert {(row["publish_time"].hour, row["status"], row["in_play"]) for row in ticks} == {
        (10, "OPEN", False),
        (11, "OPEN", False),
        (12, "OPEN", True),
    }
    assert {row["runner_name"] for row in ticks} == {"One", "Two"}
    best = export.best_prices("1.101").to_pylist()
    assert {(row["publish_time"].hour, row["in_play"], row["runner_name"]) for row in best} >= {(12, True, "Two")}

    before = pipeline.stamps()
    assert pipeline.run("BuildStates").returncode == 0 and pipeline.stamps() == before
    small.query(ADD, "SUSPENDED", None, "2026-02-05 12:30+00", "2026-02-05 12:30+00")
    assert pipeline.run("BuildStates", "--workers", "2", TZ="Asia/Tokyo", LC_ALL="C").returncode == 0
    grown = (pipeline.output_dir / "states" / "marketId=1.101.parquet").read_bytes()
    (pipeline.output_dir / "states" / "marketId=1.101.parquet").unlink()
    assert pipeline.run("BuildStates").returncode == 0
    assert (pipeline.output_dir / "states" / "marketId=1.101.parquet").read_bytes() == grown
    small.query("DELETE FROM stream_ingest.market_lifecycle_events WHERE publish_time < '2026-02-05 12:45+00'")
    assert pipeline.run("BuildStates").returncode == 0
    assert (pipeline.output_dir / "states" / "marketId=1.101.parquet").read_bytes() == grown
    assert pq.read_table(pipeline.output_dir / "states" / "marketId=1.101.parquet").num_rows == 4


def test_states_belong_to_the_export(pipeline, small):
    assert pipeline.run("ExportAll").returncode == pipeline.run("BuildStates").returncode == 0
    assert pipeline.run("VerifyExport").returncode == 0
    result = pipeline.run("Archive", "--offline", "--archive-format", "zip")
    assert result.returncode == 0 and "so not in the archive" not in result.stderr
    (archive,) = pipeline.output_dir.parent.glob("*.zip")
    assert b"states/marketId=1.101.parquet" in archive.read_bytes()
    (pipeline.output_dir / "states" / "marketId=1.999.parquet").write_bytes(b"")
    result = pipeline.run("VerifyExport", "--offline")
    assert result.returncode == 30 and "marketId=1.999.parquet: the file: found a stray" in result.stderr


def test_a_damaged_file_is_named_and_left(pipeline, small):
    small.query("INSERT INTO stream_ingest.market_lifecycle_events VALUES ('1.102', 'OPEN', false, now(), now())")
    assert pipeline.run("ExportAll").returncode == pipeline.run("BuildStates").returncode == 0
    path = pipeline.output_dir / "states" / "marketId=1.101.parquet"
    (pipeline.output_dir / "states" / "marketId=1.102.parquet").unlink()
    path.write_bytes(b"nothing")
    result = pipeline.run("BuildStates")
    assert result.returncode == 30 and "1 market failed ('1.101'" in result.stderr, result.stderr
    assert (pipeline.output_dir / "states" / "marketId=1.102.parquet").exists() and path.read_bytes() == b"nothing"


def settle(small, market_id, at, **results):
    small.query("INSERT INTO public.market_settlement VALUES (%s, %s, 'stream')", market_id, at)
    for runner, result in results.items():
        small.query(
            "INSERT INTO public.market_runner_settlement VALUES (%s, %s, %s)", market_id, int(runner[1:]), result
        )


def test_results_are_kept_and_joined_where_the_installation_has_them(pipeline, small):
    settle(small, "1.101", "2026-02-05 13:05+00", r1="WINNER", r2="REMOVED")
    assert pipeline.run("ExportAll").returncode == pipeline.run("BuildStates").returncode == 0
    export = open_export(pipeline.output_dir)
    assert [row["result"] for row in export.runners(["1.101", "1.102"]).to_pylist()] == [
        "WINNER",
        "REMOVED",
        None,
        None,
    ]
    markets = {row["market_id"]: row["settled_at"] for row in export.markets().to_pylist()}
    assert markets["1.101"].isoformat() == "2026-02-05T13:05:00+00:00" and markets["1.102"] is None
    joined = export.ticks("1.101", joined=True).to_pylist()
    assert {(row["selection_id"], row["result"]) for row in joined} == {(1, "WINNER"), (2, "REMOVED")}
    before = pipeline.stamps()
    assert pipeline.run("BuildStates").returncode == 0 and pipeline.stamps() == before
    small.query("DELETE FROM public.market_settlement")
    settle(small, "1.102", "2026-02-06 13:05+00", r1="LOSER")
    assert pipeline.run("BuildStates").returncode == 0
    found = {(row["market_id"], row["selection_id"]): row["result"] for row in export.runners().to_pylist()}
    assert found["1.101", 1] == "WINNER" and found["1.102", 1] == "LOSER"  # a refresh only adds
    assert pipeline.run("VerifyExport").returncode == 0


def test_without_settlement_tables_nothing_is_said(pipeline, small):
    small.query("DROP TABLE public.market_settlement, public.market_runner_settlement")
    assert pipeline.run("ExportAll").returncode == 0
    result = pipeline.run("BuildStates")
    assert result.returncode == 0 and "settlement" not in result.stderr + result.stdout
    assert not (pipeline.output_dir / "states" / "results.parquet").exists()
