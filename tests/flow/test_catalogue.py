"""BuildCatalogue: what DuckDB finds through catalogue.sql is what the database has."""

import datetime
import json
import os
import shutil

import duckdb
import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tasks.reader import open_export
from tests.conftest import FORMATS, Pipeline, index_of, new_source

UTC = datetime.UTC


def opened(directory, place=None):
    """Return a connection that has read the catalogue of a directory; place: that it names, as from elsewhere."""
    connection = duckdb.connect()
    if place:
        connection.execute(f"SET VARIABLE export_place = '{place}'")
    connection.execute((directory / "catalogue.sql").read_text())
    return connection


@pytest.fixture(scope="module", params=FORMATS)
def demo(request, server, tmp_path_factory):
    """An export of the generator's rows with all that a catalogue can show, and its source."""
    source = new_source(server)
    load(Recording(ticks=20_000, markets=9, days=2), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path_factory.mktemp("catalogue") / "tick export", source.environment)
    for task in ("ExportAll", "BuildStates", "BuildRunnerSummary", "BuildCatalogue"):
        result = pipeline.run(task, "--format", request.param)
        assert result.returncode == 0, result.stderr
    return pipeline, source


def test_the_views_have_what_the_database_has(demo):
    pipeline, source = demo
    found = opened(pipeline.output_dir, pipeline.output_dir)
    assert found.sql(
        "SELECT market_id, (publish_time::DATE)::VARCHAR AS day, record_type, count(*)::INT, round(sum(price), 2),"
        " round(sum(size), 2) FROM ticks GROUP BY ALL ORDER BY ALL"
    ).fetchall() == source.query(
        "SELECT market_id, (publish_time AT TIME ZONE 'UTC')::date::text, kind, count(*)::int,"
        " round(sum(price)::numeric, 2)::float, round(sum(size)::numeric, 2)::float FROM ( SELECT market_id,"
        " publish_time, 'ladder' AS kind, price, size FROM stream_ingest.ladder_levels UNION ALL SELECT market_id,"
        " publish_time, 'traded', price, size_traded FROM stream_ingest.traded_volume) AS ticks GROUP BY 1, 2, 3 ORDER"
        " BY 1, 2, 3"
    )
    assert found.sql("SELECT market_id, event_id, market_name FROM markets ORDER BY 1").fetchall() == source.query(
        "SELECT market_id, event_id, market_name FROM public.markets WHERE market_id IN"
        " (SELECT market_id FROM stream_ingest.ladder_levels) ORDER BY 1"
    )
    assert found.sql("SELECT count(DISTINCT (market_id, selection_id)) FROM runners").fetchall()[0] == (
        found.sql("SELECT count(*) FROM runner_summary").fetchall()[0]
    )
    condition = json.loads((pipeline.output_dir / "condition.json").read_text())
    assert found.sql("SELECT market_id, condition, ticks, len(reasons) FROM condition").fetchall() == [
        (market["market_id"], market["condition"], market["ticks"], len(market["reasons"]))
        for market in condition["markets"]
    ]
    assert found.sql("SELECT date::VARCHAR, condition, markets FROM condition_of_days").fetchall() == [
        (day["date"], day["condition"], day["markets"]) for day in condition["days"]
    ]
    gaps = [
        round(datetime.datetime.fromisoformat(interval["from"]).timestamp() * 1e6)
        for market in condition["markets"]
        for reason in market["reasons"]
        for interval in reason["intervals"]
    ]
    assert found.sql(
        'SELECT epoch_us(interval."from") FROM (SELECT unnest(reason.intervals) AS interval FROM'
        " (SELECT unnest(reasons) AS reason FROM condition))"
    ).fetchall() == [(moment,) for moment in gaps]
    assert found.sql("SELECT count(*) > 9 FROM states").fetchall()[0] == (True,)
    types = {name: kind for name, kind, *_ in found.sql("DESCRIBE ticks").fetchall()}
    assert types["market_id"] == "VARCHAR" and types["publish_time"] == "TIMESTAMP WITH TIME ZONE"
    assert types["level"] == "SMALLINT" and types["size"] == "DOUBLE" and types["in_play"] == "BOOLEAN"


def test_best_prices_are_those_of_the_reader(demo):
    pipeline, _ = demo
    found, export = opened(pipeline.output_dir, pipeline.output_dir), open_export(pipeline.output_dir)
    for market_id in export.market_ids:
        facts = export.index[market_id].facts
        middle = (facts.first_tick + facts.last_tick) // 2
        moment = datetime.datetime.fromtimestamp(middle / 1e6, UTC)
        books = export.books(market_id, [moment])
        expected = {
            (int(runner), books.price[0, row, 0, 0], books.size[0, row, 1, 0])
            for row, runner in enumerate(books.selection_id)
            if not (books.price[0, row, :, 0] != books.price[0, row, :, 0]).any()
        }
        best = found.execute(
            "SELECT selection_id, back, lay_size FROM best_prices(?, ?) WHERE back + lay > 0", [market_id, moment]
        )
        assert {*best.fetchall()} == expected and expected, market_id


def test_it_is_written_again_when_it_would_say_something_else(demo, tmp_path):
    pipeline, _ = demo
    copy = Pipeline(tmp_path / "copy", pipeline.environment)
    shutil.copytree(pipeline.output_dir, copy.output_dir)
    assert "Nothing to do" in copy.run("BuildCatalogue", "--offline").stderr
    (copy.output_dir / "runner_summary.parquet").unlink()
    (copy.output_dir / "runner_summary.csv").unlink()
    said = copy.run("VerifyExport", "--offline")
    assert (
        said.returncode == 0
        and "catalogue.sql: not as BuildCatalogue would write it now" in (
            copy.output_dir / "verification_report.txt"
        ).read_text()
    )
    assert copy.run("BuildCatalogue", "--offline").returncode == 0
    tables = opened(copy.output_dir, copy.output_dir).sql("SHOW TABLES").fetchall()
    assert ("runner_summary",) not in tables and ("ticks",) in tables
    assert copy.run("Archive", "--offline").returncode == 0
    before = os.getcwd()
    os.chdir(copy.output_dir)
    try:
        (row,) = opened(copy.output_dir).sql("SELECT count(*) FROM markets").fetchall()
    finally:
        os.chdir(before)
    assert row == (len(index_of(copy)),), "in the current directory"


def test_a_condition_larger_than_duckdb_takes_as_one_object_is_read(demo, tmp_path):
    pipeline, _ = demo
    copy = tmp_path / "copy"
    shutil.copytree(pipeline.output_dir, copy)
    condition = json.loads((copy / "condition.json").read_text())
    condition["markets"] = [
        one | {"market_id": f"{one['market_id']}{n}"} for n in range(13_000) for one in condition["markets"]
    ]
    (copy / "condition.json").write_text(json.dumps(condition))
    assert (copy / "condition.json").stat().st_size > 2 * 16 << 20
    ((count,),) = opened(copy, copy).sql("SELECT count(*) FROM condition").fetchall()
    assert count == len(condition["markets"])


def test_a_directory_that_is_not_an_export_gets_none(pipeline):
    result = pipeline.run("BuildCatalogue", "--offline")
    assert result.returncode == 2 and "is not an export" in result.stderr
    assert not (pipeline.output_dir / "catalogue.sql").exists()


def test_a_damaged_index_is_rebuilt_first(demo, tmp_path):
    pipeline, _ = demo
    copy = Pipeline(tmp_path / "copy", pipeline.environment)
    shutil.copytree(pipeline.output_dir, copy.output_dir)
    format = next(copy.output_dir.glob("markets/*[0-9].*")).suffix[1:]
    expected = (copy.output_dir / "index.csv").read_bytes()
    (copy.output_dir / "index.csv").write_text("damaged")
    assert copy.run("BuildCatalogue", "--format", format).returncode == 0
    assert (copy.output_dir / "index.csv").read_bytes() == expected


def test_an_export_without_ticks_has_empty_views(server, tmp_path):
    pipeline = Pipeline(tmp_path / "out", new_source(server).environment)
    assert pipeline.run("BuildCatalogue").returncode == 0
    assert opened(pipeline.output_dir, pipeline.output_dir).sql("SELECT count(*) FROM ticks").fetchall()[0] == (0,)
