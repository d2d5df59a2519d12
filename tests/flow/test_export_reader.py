"""The library that reads an export: every way gives what the market files hold."""

import datetime
import re
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import DamagedFile, NotAnExport, UsageError
from tasks.market_files import market_file
from tasks.reader import open_export
from tasks.ticks.snapshots import whole_messages
from tasks.ticks.tick_arrays import TRADED, Ticks
from tests.conftest import BY_HAND, ROOT

TEXT = (ROOT / "docs" / "reader.md").read_text()
RECIPES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", params=BY_HAND)
def golden(request, tmp_path_factory):
    """An export that somebody has sent, of each format."""
    folder = tmp_path_factory.mktemp("sent")
    with tarfile.open(ROOT / "tests" / "golden" / f"0.1.0_{request.param}.tar.gz") as archive:
        archive.extractall(folder, filter="tar")
    return folder / request.param


def all_ticks(export, market_id):
    return Ticks.concatenate(list(market_file.read(export.layout.market_file(market_id))))


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_a_recipe_works(golden, tmp_path, monkeypatch, number):
    (tmp_path / "data_exports").mkdir()
    (tmp_path / "data_exports" / "demo").symlink_to(golden)
    monkeypatch.chdir(tmp_path)
    exec(RECIPES[number], {})  # noqa: S102


def test_ticks_are_those_of_the_files_whole_and_by_range(golden):
    export = open_export(golden)
    table = export.ticks()
    assert table.num_rows == sum(row.facts.tick_records for row in export.index.values())
    for market_id in export.market_ids:
        path = export.layout.market_file(market_id)
        whole = pa.Table.from_batches(list(market_file.batches(path))).unify_dictionaries()
        if not whole.num_rows:
            continue
        assert export.ticks(market_id).to_pylist() == whole.to_pylist()
        times = sorted(set(whole.column("publish_time").to_pylist()))
        start, end = times[len(times) // 3], times[2 * len(times) // 3]
        found = export.ticks([market_id], start, end).to_pylist()
        assert found == [row for row in whole.to_pylist() if start <= row["publish_time"] < end]


def test_markets_and_runners_are_tables(golden):
    export = open_export(golden)
    markets = export.markets().to_pandas()
    assert list(markets.market_id) == export.market_ids
    assert markets.market_type.notna().sum() > 5 and markets.ticks.sum() == export.ticks().num_rows
    runners = export.runners().to_pylist()
    assert runners == sorted(runners, key=lambda row: (row["market_id"], row["selection_id"]))
    assert {row["market_id"] for row in runners} <= set(export.market_ids)


def test_books_are_the_rows_of_the_newest_message(golden):
    export = open_export(golden)
    random = np.random.default_rng(5)
    compared = 0
    for market_id in export.market_ids:
        ticks = all_ticks(export, market_id)
        if not len(ticks):
            continue
        first, last = ticks.publish_time[[0, -1]]
        times = np.concatenate([random.integers(first - 10**6, last + 10**6, 30), ticks.publish_time[:1], [first - 1]])
        books = export.books(market_id, times.view("datetime64[us]"))
        assert (books.times.view(np.int64) == times).all()
        for number, moment in enumerate(times):
            earlier = ticks.publish_time[ticks.publish_time <= moment]
            if not len(earlier):
                assert np.isnat(books.publish_time[number]) and np.isnan(books.price[number]).all()
                continue
            assert books.publish_time[number].astype(np.int64) == earlier[-1]
            rows = ticks[(ticks.publish_time == earlier[-1]) & (ticks.side != TRADED)]
            expected = np.full(books.price[number].shape, np.nan)
            expected[np.searchsorted(books.selection_id, rows.selection_id), rows.side, rows.level] = rows.price
            np.testing.assert_array_equal(books.price[number], expected)
            expected[np.searchsorted(books.selection_id, rows.selection_id), rows.side, rows.level] = rows.size
            np.testing.assert_array_equal(books.size[number], expected)
            compared += 1
        table = books.to_table()
        assert table.num_rows == np.count_nonzero(~np.isnan(books.price))
        assert export.books(market_id, []).price.shape[0] == 0
    assert compared > 200


def test_best_prices_are_level_0(golden):
    export = open_export(golden)
    for market_id in export.market_ids:
        ticks = all_ticks(export, market_id)
        rows = ticks[(ticks.level == 0) & (ticks.side != TRADED)]
        expected = {}
        for moment, runner, side, price, size in zip(
            *(array.tolist() for array in (rows.publish_time, rows.selection_id, rows.side, rows.price, rows.size))
        ):
            expected.setdefault((moment, runner), [None] * 4)[side * 2 : side * 2 + 2] = [price, size]
        best = export.best_prices(market_id)
        moments = best.column("publish_time").cast(pa.int64()).to_pylist()
        found = {
            (moment, row["selection_id"]): [row["back"], row["back_size"], row["lay"], row["lay_size"]]
            for moment, row in zip(moments, best.to_pylist())
        }
        assert found == expected and len(found) == best.num_rows


def test_polars_where_it_is_installed(golden):
    polars = pytest.importorskip("polars")
    frame = open_export(golden).ticks_polars(joined=True)
    assert frame.schema["publish_time"] == polars.Datetime("us", "UTC") and "runner_name" in frame.columns


def test_mistakes_are_told_in_one_line(golden, tmp_path):
    with pytest.raises(NotAnExport, match="no index.csv here. Pass the output directory"):
        open_export(tmp_path)
    export = open_export(golden)
    for ask in (export.ticks, export.states, export.best_prices, export.metadata, lambda name: export.books(name, [])):
        with pytest.raises(UsageError, match="market '1.1' is not one of its"):
            ask("1.1")
    with pytest.raises(UsageError, match="has no time zone"):
        export.ticks(start=datetime.datetime(2026, 2, 3))


def test_a_damaged_market_file_is_named(golden, tmp_path):
    export = open_export(golden)
    market_id = max(export.index, key=lambda name: export.index[name].facts.size_bytes)
    path = export.layout.market_file(market_id)
    content = path.read_bytes()
    try:
        path.write_bytes(content[:100])
        with pytest.raises(DamagedFile, match=re.escape(path.name)):
            export.ticks(market_id)
    finally:
        path.write_bytes(content)


def test_messages_are_never_cut():
    times = np.array([1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 5])
    ticks = Ticks(
        **{
            name: times if name == "publish_time" else np.zeros(len(times), array.dtype)
            for name, array in vars(Ticks.empty()).items()
        }
    )
    for size in range(1, 12):
        parts = list(whole_messages(ticks[start : start + size] for start in range(0, len(times), size)))
        assert np.concatenate([part.publish_time for part in parts]).tolist() == times.tolist()
        ends = [(a.publish_time[-1], b.publish_time[0]) for a, b in zip(parts, parts[1:])]
        assert all(last < first for last, first in ends), size


def test_importing_it_loads_neither_luigi_nor_pandas():
    program = "import sys, tasks.reader; print({*sys.modules} & {'luigi', 'pandas', 'tasks.workflow'})"
    result = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")
