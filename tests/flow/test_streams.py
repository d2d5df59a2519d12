"""Streams: what the field's own readers make of them is what the database holds."""

import bz2
import datetime
import json
import re
import subprocess
from pathlib import Path

import betfair_data
import pytest
from betfairdatabase import BetfairDatabase
from betfairlightweight import StreamListener

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tasks.market_files import market_file
from tasks.reader import open_export
from tasks.storage.layout import Layout
from tasks.stream_files.definition import DEFAULTS
from tasks.ticks.tick_arrays import Ticks
from tests.conftest import FORMATS, ROOT, Pipeline, new_source


@pytest.fixture(scope="module")
def demo(server):
    """A database with the small demo's recording."""
    source = new_source(server)
    load(Recording.tiny(), server.conninfo(source.name))
    return source


@pytest.fixture(scope="module", params=FORMATS)
def streams(request, demo, tmp_path_factory):
    """Its export with streams, of each format."""
    pipeline = Pipeline(tmp_path_factory.mktemp("streams") / "demo", demo.environment)
    result = pipeline.run("BuildStreams", "--workers", "2", "--format", request.param)
    assert result.returncode == 0, result.stderr
    return pipeline


def stored(demo, market_id):
    """Return the messages of a market as the database has them: {ms: {(selection, side): {price: size}}}."""
    messages = {}
    for moment, selection, side, price, size in demo.query(
        """SELECT round(extract(epoch FROM publish_time) * 1000)::int8, selection_id, side, price, size
             FROM stream_ingest.ladder_levels WHERE market_id = %s ORDER BY level""",
        market_id,
    ):
        messages.setdefault(moment, {}).setdefault((selection, side), {}).setdefault(price, size)
    for (moment,) in demo.query(
        """SELECT DISTINCT round(extract(epoch FROM publish_time) * 1000)::int8 FROM stream_ingest.traded_volume
            WHERE market_id = %s""",
        market_id,
    ):
        messages.setdefault(moment, {})
    return dict(sorted(messages.items()))


def book_of(market_book):
    """Return a reader's book in the same shape."""
    found = {}
    for runner in market_book.runners:
        for side, offers in (("B", runner.ex.available_to_back), ("L", runner.ex.available_to_lay)):
            if offers:
                found[runner.selection_id, side] = {offer.price: offer.size for offer in offers}
    return found


def lightweight_books(path):
    """Yield (ms, MarketBook) of each line, by betfairlightweight."""
    listener = StreamListener(max_latency=None, lightweight=False)
    listener.register_stream(0, "marketSubscription")
    for line in bz2.open(path, "rt"):
        message = json.loads(line)
        listener.on_data(line)
        (market_id,) = {change["id"] for change in message["mc"]}
        yield message["pt"], listener.stream._caches[market_id].create_resource(0)


def data_books(path):
    """Yield (ms, MarketBook) of each line, by betfair_data."""
    for file in betfair_data.bflw.Files([str(path)]):
        for books in file:
            for book in books:
                moment = book.publish_time.replace(tzinfo=datetime.UTC)
                yield round(moment.timestamp() * 1000), book


@pytest.mark.parametrize("books", [lightweight_books, data_books])
def test_at_every_message_the_book_is_the_databases(demo, streams, books):
    compared = 0
    for path in sorted((streams.output_dir / "streams").glob("*.bz2")):
        expected = stored(demo, path.stem)
        catalogue = json.loads(path.with_suffix(".json").read_bytes())["stream"]
        assert catalogue["messages"] == len(expected)
        found = list(books(path))
        assert len(found) == catalogue["messages"] + catalogue["definitionLines"]
        remaining, before = dict(expected), {}
        for moment, book in found:
            now = book_of(book)
            if moment in remaining:
                assert now == remaining.pop(moment), (path.stem, moment)
                compared += 1
            else:
                assert now == (before if book.status == "OPEN" else {}), (path.stem, moment)
            before = now
        assert not remaining
    assert compared > 60


def test_definitions_tell_status_and_in_play_at_their_time(streams):
    export = open_export(streams.output_dir)
    closed = 0
    for path in sorted((streams.output_dir / "streams").glob("*.bz2")):
        states = export.states(path.stem).to_pylist()
        for moment, book in lightweight_books(path):
            now = [row for row in states if row["valid_from"].timestamp() * 1000 < moment + 1]
            if now:
                assert (book.status, book.inplay) == (now[-1]["status"] or "OPEN", bool(now[-1]["in_play"])), moment
        closed += book.status == "CLOSED"
    assert closed > 2


def test_the_closing_definition_has_the_results(demo, streams):
    settled = 0
    for path in sorted((streams.output_dir / "streams").glob("*.bz2")):
        rows = demo.query(
            "SELECT selection_id, runner_status FROM public.market_runner_settlement WHERE market_id = %s", path.stem
        )
        *_, (_, book) = lightweight_books(path)
        if rows:
            assert book.status == "CLOSED"
            assert {runner.selection_id: runner.status for runner in book.runners}.items() >= dict(rows).items()
            settled += 1
    assert settled > 3


def test_the_indexer_of_a_folder_finds_every_market(streams):
    export = open_export(streams.output_dir)
    folder = streams.output_dir / "streams"
    database = BetfairDatabase(folder)
    database.index()
    (folder / ".betfairdatabaseindex").unlink()
    rows = {row["marketId"]: row for row in database_rows(folder)}
    markets = {row["market_id"]: row for row in export.markets().to_pylist() if row["ticks"]}
    assert rows.keys() == markets.keys()
    for market_id, row in rows.items():
        assert row["marketName"] == (markets[market_id]["market_name"] or "")
        if markets[market_id]["market_type"]:
            assert row["marketType"] == markets[market_id]["market_type"]
        if start := markets[market_id]["market_start_time"]:
            assert datetime.datetime.fromisoformat(row["marketStartTime"]) == start


def database_rows(folder):
    """Return what betfairdatabase selects of a folder."""
    database = BetfairDatabase(folder)
    database.index()
    try:
        return database.select()
    finally:
        (folder / ".betfairdatabaseindex").unlink()


@pytest.fixture(scope="module")
def elsewhere(demo, tmp_path_factory):
    """The streams that one worker makes in another time zone and locale."""
    other = Pipeline(tmp_path_factory.mktemp("elsewhere") / "other", demo.environment)
    assert other.run("BuildStreams", TZ="Asia/Tokyo", LC_ALL="C").returncode == 0
    return {path.name: path.read_bytes() for path in (other.output_dir / "streams").glob("*.bz2")}


def test_both_formats_workers_and_locales_give_the_same_bytes(streams, elsewhere):
    assert elsewhere == {path.name: path.read_bytes() for path in (streams.output_dir / "streams").glob("*.bz2")}


def test_the_export_writes_them_and_the_archive_packs_them_if_asked_to(pipeline):
    assert pipeline.run("ExportAll", "--streams").returncode == 0
    assert len(list((pipeline.output_dir / "streams").glob("*.bz2"))) == 3
    for options, has_them in (((), False), (("--with-streams",), True)):
        result = pipeline.run("Archive", "--offline", "--archive-format", "zip", "--date", "2026-02-07", *options)
        assert result.returncode == 0 and "so not in the archive" not in result.stderr, result.stderr
        (archive,) = pipeline.output_dir.parent.glob("*.zip")
        assert (b"streams/1.101.bz2" in archive.read_bytes()) == has_them


def test_nothing_is_written_twice_and_what_changed_is_written_again(pipeline, small):
    assert pipeline.run("BuildStreams").returncode == 0
    folder = pipeline.output_dir / "streams"
    assert {path.name for path in folder.iterdir()} == {
        f"{market_id}.{suffix}" for market_id in ("1.101", "1.102", "1.103") for suffix in ("bz2", "json")
    }
    # without lifecycle rows a stream says that in-play is unknown
    defaults = {
        market_id: {*json.loads((folder / f"{market_id}.json").read_bytes())["stream"]["defaults"]}
        for market_id in ("1.101", "1.102")
    }
    assert {"inPlay", "status", "betDelay", "marketBaseRate", *DEFAULTS} <= defaults["1.102"]
    assert not {"inPlay", "status"} & defaults["1.101"]

    before = pipeline.stamps()
    assert pipeline.run("BuildStreams", "--workers", "2").returncode == 0 and pipeline.stamps() == before
    whole = (folder / "1.101.bz2").read_bytes()
    (folder / "1.101.bz2").write_bytes(b"cut")
    before = pipeline.stamps()
    small.message("1.102", "2026-02-06 05:30:00+00")
    small.query("INSERT INTO stream_ingest.market_lifecycle_events VALUES ('1.103', 'SUSPENDED', true, now(), now())")
    assert pipeline.run("BuildStreams").returncode == 0
    after = pipeline.stamps()
    assert {name for name in before if name.startswith("streams/") and before[name] != after[name]} == {
        f"streams/{market_id}.{suffix}" for market_id in ("1.101", "1.102", "1.103") for suffix in ("bz2", "json")
    }
    assert (folder / "1.101.bz2").read_bytes() == whole
    fresh = Pipeline(pipeline.output_dir.parent / "fresh", small.environment)
    assert fresh.run("BuildStream", "--market-id", "1.102").returncode == 0
    assert [path.name for path in (fresh.output_dir / "streams").iterdir() if path.suffix == ".bz2"] == ["1.102.bz2"]
    for name in ("1.102.bz2", "1.102.json"):
        assert (fresh.output_dir / "streams" / name).read_bytes() == (folder / name).read_bytes()


def test_a_damaged_market_file_is_named_and_the_others_are_done(pipeline):
    assert pipeline.run("ExportAll").returncode == 0 and not (pipeline.output_dir / "streams").exists()
    path = pipeline.market("1.102")
    path.write_bytes(path.read_bytes()[:-9])
    result = pipeline.run("BuildStreams", "--offline")
    assert result.returncode == 30 and "1 market failed ('1.102'" in result.stderr, result.stderr
    assert "marketId=1.102.parquet: its SHA-256 is not the one in index.csv" in result.stderr
    assert sorted(file.stem for file in (pipeline.output_dir / "streams").glob("*.bz2")) == ["1.101", "1.103"]


RECIPES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "streams.md").read_text(), re.M | re.S)


@pytest.fixture
def at_the_demo(streams, tmp_path):
    """A folder in which the recipes find the demo's streams at data_exports/demo."""
    (tmp_path / "data_exports").symlink_to(streams.output_dir.parent)
    return tmp_path


def printed(folder, *command):
    """Run a command in a folder and return what it prints."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_backtest_of_the_page_places_orders(at_the_demo, request):
    python = request.config.getoption("--backtest")
    if not python:
        pytest.skip("--backtest PYTHON names an environment that has flumine")
    said = printed(at_the_demo, python, "-c", RECIPES[0])
    orders = re.search(r"^(\d+) orders, profit -?\d+\.\d\d$", said, re.M)
    assert orders and int(orders[1]) > 3, said


def test_nautilus_trader_has_the_databases_books_too(demo, at_the_demo, request):
    python = request.config.getoption("--nautilus")
    if not python:
        pytest.skip("--nautilus PYTHON names an environment that has nautilus_trader with its Betfair adapter")
    said = printed(at_the_demo, python, "-c", RECIPES[1])
    counts = re.search(r"^(\d+) instruments, (\d+) changes, (\d+) trades$", said, re.M)
    assert counts and all(int(count) > 20 for count in counts.groups()), said
    books = printed(at_the_demo, python, ROOT / "tests" / "nautilus_books.py", "data_exports/demo/streams")
    expected, compared = {}, 0
    for market_id, moment, sides in map(json.loads, books.splitlines()):
        if market_id not in expected:
            expected[market_id] = stored(demo, market_id)
        if moment in expected[market_id]:
            book = {(selection, side): {p: s for p, s in offers} for selection, side, offers in sides if offers}
            assert book == expected[market_id].pop(moment), (market_id, moment)
            compared += 1
    assert compared > 60 and not any(expected.values())


def test_the_recipe_of_the_page_works(at_the_demo, monkeypatch):
    monkeypatch.chdir(at_the_demo)
    exec(RECIPES[2], names := {})  # noqa: S102
    assert names["book"] and names["best"] is not None


def test_an_unknown_market_is_refused_in_one_line(streams):
    before = streams.stamps()
    result = streams.run("BuildStream", "--market-id", "1.999", "--offline")
    assert result.returncode == 2 and "Market 1.999 is not in" in result.stderr and "Traceback" not in result.stderr
    assert {name for name in streams.stamps() if "streams/" in name} == {name for name in before if "streams/" in name}


def test_the_lines_are_betfairs(streams):
    layout = Layout(Path(streams.output_dir))
    export = open_export(layout.output_dir)
    market_id = max(export.index, key=lambda name: export.index[name].facts.tick_records)
    first, second, *_ = map(json.loads, bz2.open(layout.stream_file(market_id)))
    ticks = Ticks.concatenate(list(market_file.read(export.layout.market_file(market_id))))
    assert first["op"] == "mcm" and isinstance(first["clk"], str) and first["pt"] == ticks.publish_time[0] // 1000
    (change,) = first["mc"]
    assert change["img"] is True and change["marketDefinition"]["marketType"]
    assert set(second) == {"op", "clk", "pt", "mc"} and "img" not in second["mc"][0]
    assert set().union(*change["rc"]) <= {"id", "atb", "atl", "trd", "tv", "ltp"}
