"""The consolidated CSV: against the plain words of the contract, on any rows, however they are cut."""

import datetime
import math
import shutil

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks.market_files.parquet
from tasks.day_csv import consolidation, flat_csv, slices
from tasks.day_csv.consolidation import Consolidation
from tasks.errors import DamagedFile, NoRoom, RowsDoNotAddUp
from tasks.market_files import market_file
from tasks.market_files.time_span import Span
from tasks.ticks import row_text
from tasks.ticks.tick_arrays import BACK, LAY, TRADED, Ticks
from tasks.ticks.value_text import time_text
from tests.conftest import made_of
from tests.unit.consolidation_contract import NAMES, Parts, contract, parsed

DAY = Span.of_day(datetime.date(2026, 2, 5))
NOON = DAY.lower_us + 43_200_000_000
PRICES = st.sampled_from([1.01, 1.5, 2.0, 1000.0, 1e16, 1e-7, math.nan, math.inf, -math.inf, 0.1 + 0.2])
ROW = st.tuples(
    st.integers(0, 2),
    st.integers(NOON, NOON + 4),
    st.integers(0, 2),
    st.integers(0, 2) | st.just(-(2**40)),
    st.sampled_from([BACK, LAY, TRADED]),
    st.integers(0, 2),
    PRICES,
    PRICES,
)


def written(directory, source, **options):
    """Consolidate a source and return the CSV and what was counted."""
    wanted = Consolidation(
        directory / "day.csv", directory / "report.txt", **{"span": DAY, "day": "2026-02-05"} | options
    )
    totals = consolidation.consolidate(wanted, source)
    return (directory / "day.csv").read_bytes(), totals


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=60),
    st.integers(1, 30),
    st.integers(1, 7),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(0, 3),
)
def test_any_rows_cut_in_any_way_give_what_the_contract_says(
    tmp_path_factory, rows, chunk_rows, batch, run_rows, large_rows, streams
):
    directory = tmp_path_factory.mktemp("day")
    whole, totals = written(directory, Parts(rows, 1000))
    assert parsed(whole) == contract(rows)
    assert totals.rows == len(contract(rows)) and totals.rows + totals.duplicates == len(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "RUN_ROWS", run_rows)
        patch.setattr(slices, "MEMORY_RUNS", 1)
        patch.setattr(slices, "LARGE_ROWS", large_rows)
        patch.setattr(slices, "MAX_STREAMS", streams)
        patch.setattr(slices, "_LEAST_BATCH_ROWS", 2)
        patch.setattr(row_text, "_LINES_AT_ONCE", 5)
        assert written(directory, Parts(rows, batch), chunk_rows=chunk_rows)[0] == whole


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12), st.lists(st.integers(0, 7), max_size=3)
)
def test_slices_are_disjoint_bounded_and_complete(tmp_path_factory, times, rows, edges):
    source = Parts([(n % 3, NOON + time, n, 1, BACK, 0, 2.0, 5.0) for n, time in enumerate(times)])
    edges = [NOON + edge for edge in edges]
    found = [part.publish_time for part in slices.slices(source, rows, edges, tmp_path_factory.mktemp("spill"))]
    assert sorted(np.concatenate(found).tolist()) == sorted(NOON + time for time in times)
    for part in found:
        assert len(part) <= rows or len(set(part.tolist())) == 1
        assert not any(part.min() < edge <= part.max() for edge in edges)
    for one, next_ in zip(found, found[1:]):
        assert one.max() < next_.min()


def test_a_message_of_more_rows_than_a_chunk_is_a_slice_alone(tmp_path):
    rows = [(0, NOON + n // 500, 0, n, BACK, 0, 2.0, 5.0) for n in range(1500)]
    content, totals = written(tmp_path, Parts(rows), chunk_rows=10)
    assert parsed(content) == contract(rows) and totals.slices == 3


def test_of_duplicates_the_first_received_stays_then_the_smallest(tmp_path):
    rows = [
        (0, NOON, received, 1, side, 0, price, size)
        for side in (BACK, TRADED)
        for received, price, size in ((5, 2.0, 1.0), (3, 2.0, 9.0), (3, 2.0, 7.0), (4, 2.0, 0.5))
    ]
    content, totals = written(tmp_path, Parts(rows))
    assert [(row[0], row[8]) for row in parsed(content)] == [(time_text(3), 7.0)] * 2
    assert totals.duplicates == 6
    report = (tmp_path / "report.txt").read_text().splitlines()
    assert (
        "Total rows read (after date filter): 8" in report
        and "Duplicates removed: 6" in report
        and "Rows written: 2" in report
    )


def test_names_come_back_from_pandas_and_duckdb(tmp_path):
    rows = [(0, NOON, 0, selection, BACK, 0, 2.0, 5.0) for selection in range(len(NAMES))]
    written(tmp_path, Parts(rows))
    wanted = [name or None for name in NAMES]
    table = pd.read_csv(
        tmp_path / "day.csv",
        keep_default_na=False,
        na_values=[""],
        dtype={"runner_name": object, "market_id": str},
        lineterminator="\n",
    )
    assert table.runner_name.where(table.runner_name.notna(), None).tolist() == wanted
    assert table.market_id.unique().tolist() == ["1.10"] and table.market_type.unique().tolist() == ["A,B"]
    found = duckdb.execute(
        "SELECT runner_name, side, level, traded_volume FROM read_csv(?, header=true, all_varchar=true, "
        "new_line='\\n', quote='\"', escape='\"', delim=',')",
        [str(tmp_path / "day.csv")],
    ).fetchall()
    assert [row[0] for row in found] == wanted
    assert set(row[1:] for row in found) == {("BACK", "0", None)}


def test_quotes_stand_only_where_they_are_needed(tmp_path):
    assert [flat_csv.quoted(value) for value in ("a", " a ", "=a", "a,b", 'a"b', "a\nb", "a\rb", None, "")] == [
        "a",
        " a ",
        "=a",
        '"a,b"',
        '"a""b"',
        '"a\nb"',
        '"a\rb"',
        "",
        "",
    ]


class Forgetful(Parts):
    """A source that loses a row on the way."""

    def stream(self, market, batch_rows):
        for part in super().stream(market, batch_rows):
            self.read[market] += 1
            yield part


@pytest.mark.parametrize(
    "source, options, error, words",
    [
        (Forgetful, {}, RowsDoNotAddUp, "2 rows read, 1 written"),
        (Parts, {"span": Span(0, 1)}, RowsDoNotAddUp, "outside"),
    ],
)
def test_rows_that_do_not_add_up_are_not_published(tmp_path, source, options, error, words):
    with pytest.raises(error, match=words):
        written(tmp_path, source([(0, NOON, 0, 1, BACK, 0, 2.0, 5.0)]), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_is_found_out_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(NoRoom, match="free"):
        written(tmp_path, Parts([(0, NOON, 0, 1, BACK, 0, 2.0, 5.0)]))
    assert list(tmp_path.iterdir()) == []


def test_months_get_files_of_their_own(tmp_path):
    months = [datetime.date(2025, 12, 31), datetime.date(2026, 1, 1), datetime.date(2026, 3, 31)]
    times = [Span.of_day(day).upper_us - 1 for day in months] + [Span.of_day(months[1]).lower_us]
    rows = [(0, time, 0, 1, BACK, level, 2.0, 5.0) for time in times for level in range(3)]
    options = {
        "span": Span(min(times), max(times) + 1),
        "day": None,
        "part_path": lambda month: tmp_path / f"{month}.csv",
    }
    whole, _ = written(tmp_path, Parts(rows), part_bytes=10_000, **options)
    assert not list(tmp_path.glob("2*.csv"))
    again, _ = written(tmp_path, Parts(rows), part_bytes=100, chunk_rows=2, **options)
    assert again == whole
    parts = [(tmp_path / f"{month}.csv").read_bytes() for month in ("2025-12", "2026-01", "2026-03")]
    assert len(list(tmp_path.glob("2*.csv"))) == 3
    assert flat_csv.HEADER + b"".join(part.removeprefix(flat_csv.HEADER) for part in parts) == whole
    for part, month in zip(parts, ("2025-12", "2026-01", "2026-03")):
        assert {row[1][:7] for row in parsed(part)} == {month}


@pytest.mark.parametrize(
    "wanted, months",
    [
        (DAY, []),
        (Span(DAY.lower_us, DAY.lower_us + 30 * 86_400_000_000), ["2026-03"]),
        (
            Span(
                Span.of_day(datetime.date(2025, 11, 30)).lower_us, Span.of_day(datetime.date(2026, 1, 1)).lower_us + 1
            ),
            ["2025-12", "2026-01"],
        ),
        (
            Span(Span.of_day(datetime.date(2025, 11, 30)).lower_us, Span.of_day(datetime.date(2026, 1, 1)).lower_us),
            ["2025-12"],
        ),
    ],
)
def test_months_of_a_span(wanted, months):
    assert [time_text(moment)[:20] for moment in wanted.months()] == [f"{month}-01T00:00:00." for month in months]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_span_of_a_file_is_found_without_reading_the_rest(tmp_path, monkeypatch, format):
    monkeypatch.setattr(tasks.market_files.parquet, "ROW_GROUP_ROWS", 50)
    path = tmp_path / f"marketId=1.9.{format}"
    times = np.repeat(NOON + np.arange(100) * 1_000_000, 3)
    zeros = np.zeros(len(times), np.int64)
    ticks = made_of(
        zeros,
        times,
        times,
        np.tile(np.arange(3), 100),
        zeros.astype(np.int8),
        zeros.astype(np.int16),
        zeros + 2.0,
        zeros + 5.0,
    )
    with market_file.MarketWriter(path, "1.9") as writer:
        writer.write(ticks)
        facts, _ = writer.finish(0)
        writer.file.publish()
    for first, end in ((0, 100), (10, 20), (0, 1), (99, 100), (50, 50), (16, 17)):
        wanted = Span(NOON + first * 1_000_000, NOON + end * 1_000_000)
        for batch_rows in (1, 7, 1000):
            found = Ticks.concatenate(list(market_file.read_span(path, 4, wanted, batch_rows)))
            assert found.publish_time.tolist() == times[first * 3 : end * 3].tolist()
            assert set(found.market.tolist()) <= {4}
        slack = 100 if format == "parquet" else 3
        assert 0 <= market_file.estimate_rows(path, facts, wanted) - (end - first) * 3 <= slack
    (tmp_path / "bad.jsonl").write_bytes(path.read_bytes()[:-1] if format == "jsonl" else b"{}\n")
    with pytest.raises(DamagedFile):
        list(market_file.read_span(tmp_path / "bad.jsonl", 0, DAY, 100))
