"""Exports of earlier versions, met in every way: they are read and kept, and written again only where a refresh is."""

import dataclasses
import hashlib
import tarfile

import pyarrow.parquet as pq
import pytest

from tasks.demo.load import create_schema, load
from tasks.demo.recording import Recording
from tests.conftest import FORMATS, ROOT, Pipeline, index_of, new_source

DAY = "2026-02-04"
AS_IN_0_1_0 = dataclasses.replace(Recording.tiny(), sums_of_sums=False)
TICKS = 2_625 + 1_778


@pytest.fixture(scope="module")
def recorded(server):
    """A database with the rows that the golden exports were made of."""
    source = new_source(server, schema=False)
    connection = server.connect(source.name)
    create_schema(connection)
    connection.close()
    load(AS_IN_0_1_0, server.conninfo(source.name))
    return source


@pytest.fixture(params=FORMATS)
def golden(request, tmp_path, recorded):
    """A golden export, unpacked, and a pipeline on it; .format is what it is in."""
    with tarfile.open(ROOT / "tests" / "golden" / f"0.1.0_{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="tar")
    pipeline = Pipeline(tmp_path / request.param, recorded.environment)
    pipeline.format = request.param
    return pipeline


def market_files(pipeline):
    """Return the bytes of all market files, by name."""
    return {path.name: path.read_bytes() for path in (pipeline.output_dir / "markets").glob(f"*.{pipeline.format}")}


def test_its_files_are_what_its_index_says(golden):
    rows = index_of(golden)
    assert len(rows) == len(market_files(golden))
    assert sum(int(row["total_tick_records"]) for row in rows.values()) == TICKS
    for row in rows.values():
        path = golden.output_dir / row["file_path"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["checksum"]
        if golden.format == "parquet":
            assert pq.read_table(path).num_rows == int(row["total_tick_records"])


def test_it_verifies_with_and_without_its_database(golden):
    before = market_files(golden)
    for options in ((), ("--offline",)):
        result = golden.run("VerifyExport", *options)
        assert result.returncode == 0 and "VERIFIED" in result.stderr, result.stderr
    assert market_files(golden) == before


def test_an_export_on_top_of_it_keeps_every_file(golden):
    before, rows = golden.stamps(), index_of(golden)
    result = golden.run("ExportAll", "--format", golden.format)
    assert result.returncode == 0 and "set aside" not in result.stderr, result.stderr
    after = golden.stamps()
    assert {name: stamp for name, stamp in after.items() if name in before and name.startswith("markets/")} == {
        name: stamp for name, stamp in before.items() if name.startswith("markets/")
    }
    assert index_of(golden) == rows
    assert "Nothing to do" in golden.run("ExportAll", "--format", golden.format).stderr


def test_it_is_consolidated_to_the_same_bytes(golden):
    path = golden.output_dir / f"consolidated_ticks_{DAY.replace('-', '_')}.csv"
    before = path.read_bytes()
    again = golden.run("ConsolidateDay", "--date", DAY, "--offline")
    assert again.returncode == 0 and path.read_bytes() == before, again.stderr
    path.unlink()
    result = golden.run("ConsolidateDay", "--date", DAY, "--offline")
    assert result.returncode == 0 and path.read_bytes() == before, result.stderr
    whole = golden.run("ConsolidateAll", "--offline")
    assert whole.returncode == 0 and f"{TICKS:,} rows written" in whole.stderr, whole.stderr


def test_a_refresh_keeps_its_ticks_with_and_without_the_database_having_them(golden, server):
    rows = index_of(golden)
    market_id = max(rows, key=lambda name: int(rows[name]["total_tick_records"]))
    options = ("ExportMarket", "--market-id", market_id, "--refresh", "--format", golden.format)
    before = (golden.output_dir / rows[market_id]["file_path"]).read_bytes()
    result = golden.run(*options)
    assert result.returncode == 0, result.stderr
    assert (golden.output_dir / rows[market_id]["file_path"]).read_bytes() == before, "the format has not changed since"
    dropped = new_source(server, schema=False)
    connection = server.connect(dropped.name)
    create_schema(connection)
    connection.close()
    load(AS_IN_0_1_0, server.conninfo(dropped.name))
    dropped.query("DELETE FROM stream_ingest.ladder_levels WHERE publish_time < %s", DAY)
    dropped.query("DELETE FROM stream_ingest.traded_volume WHERE publish_time < %s", DAY)
    result = golden.run(*options, **dropped.environment)
    assert (golden.output_dir / rows[market_id]["file_path"]).read_bytes() == before, result.stderr
    assert golden.run("VerifyExport", **dropped.environment).returncode == 0


def test_it_is_archived(golden):
    result = golden.run("Archive", "--offline", "--date", DAY)
    assert result.returncode == 0, result.stderr
    with tarfile.open(golden.output_dir.parent / f"{golden.output_dir.name}_20260204.tar.gz") as archive:
        names = set(archive.getnames())
    assert {f"{golden.output_dir.name}/{row['file_path']}" for row in index_of(golden).values()} <= names
