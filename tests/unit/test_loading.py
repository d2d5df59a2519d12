"""The recipes of docs/loading.md, run as they stand on exports of both formats."""

import re
import tarfile

import duckdb
import pandas as pd
import pytest

from tests.conftest import FORMATS, ROOT

TEXT = (ROOT / "docs" / "loading.md").read_text()
RECIPES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def exports(tmp_path, monkeypatch):
    """The folder that the recipes are run in."""
    for format in FORMATS:
        with tarfile.open(ROOT / "tests" / "golden" / f"0.1.0_{format}.tar.gz") as archive:
            archive.extractall(tmp_path / "data_exports", filter="tar")
    (tmp_path / "data_exports" / "parquet").rename(tmp_path / "data_exports" / "demo")
    (tmp_path / "data_exports" / "jsonl").rename(tmp_path / "data_exports" / "demo_jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data_exports"


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_a_recipe_works(exports, number):
    exec(RECIPES[number], {})  # noqa: S102


def test_there_are_recipes_and_what_they_warn_of_is_so(exports):
    assert len(RECIPES) == 4
    guessed = pd.read_csv(exports / "demo" / "index.csv")
    assert guessed.market_id.dtype == float
    kinds = {row[0]: row[1] for row in duckdb.sql(f"DESCRIBE FROM '{exports}/demo/index.csv'").fetchall()}
    assert kinds["market_id"] == "DOUBLE"
    path = max((exports / "demo_jsonl" / "markets").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    assert pd.read_json(path, lines=True).market_id.dtype == float
