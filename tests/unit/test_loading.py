"""The recipes of docs/loading.md and of the README, run as they stand on exports of both formats."""

import re
import shutil
import subprocess
import sys
import tarfile
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest

from tasks.export_directory import catalogue_sql, index_csv
from tasks.storage.layout import Layout
from tests.conftest import BY_HAND, ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = BLOCK.findall((ROOT / "docs" / "loading.md").read_text())
README_RECIPES = BLOCK.findall((ROOT / "README.md").read_text())
LARGE = re.compile(r"^(?:import|from) (chdb|pyspark|fastparquet)\b", re.MULTILINE)


@pytest.fixture
def exports(tmp_path, monkeypatch):
    """The folder that the recipes are run in."""
    for format in BY_HAND:
        with tarfile.open(ROOT / "tests" / "golden" / f"0.1.0_{format}.tar.gz") as archive:
            archive.extractall(tmp_path / "data_exports", filter="tar")
    (tmp_path / "data_exports" / "parquet").rename(tmp_path / "data_exports" / "demo")
    (tmp_path / "data_exports" / "jsonl").rename(tmp_path / "data_exports" / "demo_jsonl")
    for format in BY_HAND:
        layout = Layout(tmp_path / "data_exports" / ("demo" if format == "parquet" else "demo_jsonl"), format)
        layout.catalogue.write_text(catalogue_sql.text(layout, index_csv.read(layout.index)))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data_exports"


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if not LARGE.search(recipe)])
def test_a_recipe_works(exports, recipe):
    exec(recipe, {})  # noqa: S102


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if LARGE.search(recipe)])
def test_a_recipe_for_a_large_engine_works(exports, recipe, request):
    if not request.config.getoption("--engines"):
        pytest.skip("--engines")
    if "pyspark" in recipe and shutil.which("java") is None:
        pytest.skip("Spark needs a Java")
    result = subprocess.run([sys.executable, "-c", recipe], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("recipe", README_RECIPES)
def test_a_recipe_of_the_readme_works(exports, recipe):
    (path,) = (exports / "demo").glob("consolidated_ticks_*.csv")
    shutil.copy(path, exports.parent / "consolidated_ticks_2024_01_15.csv")
    market_ids = list(pd.read_csv(path, dtype=str).market_id)
    readers = recipe.split("\n\n")
    assert len(readers) == 3 or "consolidated" not in recipe
    for reader in readers:
        names: dict[str, Any] = {}
        exec(reader, names)  # noqa: S102
        ticks = names["ticks"]
        if isinstance(ticks, duckdb.DuckDBPyRelation):
            ticks = ticks.pl()
        assert len(ticks)
        if "consolidated" in recipe:
            assert list(ticks["market_id"]) == market_ids
            assert getattr(ticks["publish_time"].dtype, "kind", "M") == "M"


def test_the_recipe_for_conditions_works(exports):
    (recipe,) = BLOCK.findall((ROOT / "docs" / "condition.md").read_text())
    made = [sys.executable, "-P", "-m", "tasks", "Report", "--offline", "--output-dir", str(exports / "demo")]
    subprocess.run(made, check=True, capture_output=True)
    names: dict[str, Any] = {}
    exec(recipe, names)  # noqa: S102
    assert {*names["usable"]} <= {"2026-02-03", "2026-02-04", "2026-02-05"} and len(names["gaps"]) == 11


def test_every_engine_has_a_recipe():
    said = " ".join(RECIPES)
    for engine in ("pandas", "polars", "duckdb", "pyarrow", "chdb", "pyspark", "fastparquet"):
        assert re.search(rf"^(?:import|from) {engine}\b", "\n".join(RECIPES), re.MULTILINE), engine
    assert "read_json" in said and "scan_ndjson" in said and len(README_RECIPES) >= 2


def test_what_the_recipes_warn_of_is_so(exports):
    index = exports / "demo" / "index.csv"
    assert pd.read_csv(index).market_id.dtype == float
    assert pl.read_csv(index).schema["market_id"] == pl.Float64
    kinds = {row[0]: row[1] for row in duckdb.sql(f"DESCRIBE FROM '{index}'").fetchall()}
    assert kinds["market_id"] == "DOUBLE"
    path = max((exports / "demo_jsonl" / "markets").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    assert pd.read_json(path, lines=True).market_id.dtype == float
    with pytest.raises(pyarrow.ArrowInvalid, match="_metadata.json"):
        pyarrow.dataset.dataset(exports / "demo" / "markets", format="parquet").count_rows()
    with pytest.raises(pl.exceptions.PolarsError, match="_metadata.json"):
        pl.read_parquet(exports / "demo" / "markets")


def test_what_a_spreadsheet_would_run_is_harmless_in_the_copy_for_one(exports):
    (recipe,) = (recipe for recipe in RECIPES if "for_a_spreadsheet" in recipe)
    (path,) = (exports / "demo").glob("consolidated_ticks_*.csv")
    ticks = pd.read_csv(path, dtype=str, keep_default_na=False)
    ticks.loc[:3, "runner_name"] = ["=1+1", "@SUM(A1)", "-2", "+Plus"]
    ticks.to_csv(path, index=False)
    exec(recipe, {})  # noqa: S102
    made = pd.read_csv("for_a_spreadsheet.csv", dtype=str, keep_default_na=False)
    assert list(made.runner_name[:4]) == ["'=1+1", "'@SUM(A1)", "'-2", "'+Plus"]
    assert list(made.runner_name[4:]) == list(ticks.runner_name[4:]) and made.market_id[0] == "'" + ticks.market_id[0]
