"""Report and PlotMarket: what the pages hold is what was recorded, and they are made again when it changed."""

import base64
import json
import re
import shutil
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.demo.load import create_schema, load
from tasks.demo.recording import Recording
from tasks.market_files import market_file
from tasks.reporting import replay
from tasks.ticks.tick_arrays import Ticks
from tests.conftest import ROOT, Pipeline, index_of, new_source


def data_of(path):
    """Return what a page's scripts find in it."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())[1])


def asks_no_host(path):
    """Tell whether nothing on a page leads to a host."""
    text = path.read_text()
    links = [link for link in re.findall(r'(?:src|href)="([^"#]*)"', text) if link]
    return (
        all(link.startswith(("data:", "../", "markets/", "plots/")) for link in links) and "default-src 'none'" in text
    )


def test_export_all_writes_page_and_condition_and_makes_them_again_only_when_something_changed(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    page, condition = (pipeline.output_dir / name for name in ("report.html", "condition.json"))
    data, judged, rows = data_of(page), json.loads(condition.read_text()), index_of(pipeline)
    assert data["totals"]["ticks"] == sum(int(row["total_tick_records"]) for row in rows.values())
    assert data["markets"]["id"] == [market["market_id"] for market in judged["markets"]] == sorted(rows)
    assert [sum(hours) for hours in data["types"][0][1].values()] == [day["ticks"] for day in judged["days"]]
    assert judged["days"][0]["markets_without_ticks"] == ["1.104"] and asks_no_host(page)
    before = pipeline.stamps()
    again = pipeline.run("ExportAll")
    assert "Nothing to do" in again.stderr and pipeline.stamps() == before
    assert pipeline.run("Report", "--offline").returncode == 0 and pipeline.stamps() == before
    small.query("UPDATE public.markets SET market_name = 'New </script> <b>name' WHERE market_id = '1.101'")
    assert pipeline.run("ExportAll").returncode == 0
    assert data_of(page)["markets"]["name"][0] == "New </script> <b>name"
    page.unlink()
    assert pipeline.run("Report").returncode == 0 and page.exists()


def test_a_report_that_lacks_what_only_the_database_knows_is_made_again_with_it(pipeline):
    page, condition = (pipeline.output_dir / name for name in ("report.html", "condition.json"))
    assert pipeline.run("ExportAll").returncode == 0
    whole = condition.read_bytes()

    page.unlink()
    cut_off = pipeline.run("Report", "--as-it-lies", POSTGRES_PORT="1")
    assert cut_off.returncode == 0, cut_off.stderr
    assert "The report does not say which markets have no ticks: No connection to" in cut_off.stderr
    assert json.loads(condition.read_bytes())["days"][0]["markets_without_ticks"] is None
    assert pipeline.run("Report", "--as-it-lies").returncode == 0 and condition.read_bytes() == whole

    page.unlink()
    assert pipeline.run("Report", "--offline").returncode == 0
    assert json.loads(condition.read_bytes())["days"][0]["markets_without_ticks"] is None
    assert "Nothing to do" in pipeline.run("Report", "--offline").stderr
    assert pipeline.run("ExportAll").returncode == 0 and condition.read_bytes() == whole


def test_report_false_leaves_them_out(pipeline):
    assert pipeline.run("ExportAll", "--report", "false").returncode == 0
    assert not (pipeline.output_dir / "report.html").exists()
    assert not list((pipeline.output_dir / ".journal").glob("statistics*")), "nor is anything gathered for them"
    assert pipeline.run("VerifyExport").returncode == 0


def test_statistics_gathered_on_the_way_are_those_read_from_the_files(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    first = {name: (pipeline.output_dir / name).read_bytes() for name in ("report.html", "condition.json")}
    for path in (pipeline.output_dir / ".journal").glob("statistics*"):
        path.unlink()
    (pipeline.output_dir / "report.html").unlink()
    assert pipeline.run("Report").returncode == 0
    assert {name: (pipeline.output_dir / name).read_bytes() for name in first} == first


def test_unchanged_markets_are_not_read(pipeline):
    """Their files are unreadable to a report that has their statistics, and it does not notice."""
    assert pipeline.run("ExportAll").returncode == 0
    (pipeline.output_dir / "report.html").unlink()
    content = {path: path.read_bytes() for path in (pipeline.output_dir / "markets").glob("*.parquet")}
    for path in content:
        path.write_bytes(b"not read")
    assert pipeline.run("Report", "--offline").returncode == 0
    (pipeline.output_dir / ".journal" / "statistics.zst").unlink()
    (pipeline.output_dir / "report.html").unlink()
    failed = pipeline.run("Report", "--offline")
    assert failed.returncode == 30 and "3 markets failed ('1.101'" in failed.stderr
    assert (pipeline.output_dir / "report.html").exists(), "of what there is"


def test_a_day_that_had_to_read_market_files_keeps_what_it_counted(pipeline):
    assert pipeline.run("ExportAll", "--report", "false").returncode == 0
    day = ("ConsolidateDay", "--date", "2026-02-05", "--offline")
    assert pipeline.run(*day).returncode == 0
    kept = [path.read_text() for path in (pipeline.output_dir / ".journal").glob("statistics.*.jsonl")]
    assert sorted(json.loads(line)[0] for text in kept for line in text.splitlines()) == ["1.101", "1.103"]
    for path in pipeline.output_dir.glob("consolidat*"):
        path.unlink()
    assert pipeline.run(*day).returncode == 0
    again = [path.read_text() for path in (pipeline.output_dir / ".journal").glob("statistics.*.jsonl")]
    assert again == kept, "a market was read once more"
    assert pipeline.run("Report").returncode == 0
    assert not list((pipeline.output_dir / ".journal").glob("statistics.*.jsonl")), "the report collects them"


def test_the_archive_has_report_and_condition(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    result = pipeline.run("Archive", "--date", "2026-02-07", "--archive-format", "zip")
    assert result.returncode == 0, result.stderr
    listed = shutil.unpack_archive(pipeline.output_dir.with_name("tick export_20260207.zip"), pipeline.output_dir / "u")
    assert listed is None and {"report.html", "condition.json"} <= {
        path.name for path in (pipeline.output_dir / "u" / "tick export").iterdir()
    }


@pytest.fixture(scope="module")
def demo(server, tmp_path_factory):
    """An export of an invented recording, small."""
    source = new_source(server, schema=False)
    create_schema(source.server.connect(source.name))
    load(Recording(ticks=60_000, markets=24, days=2, skew=1.6, older_days=1), server.conninfo(source.name))
    pipeline = Pipeline(tmp_path_factory.mktemp("demo") / "out", source.environment)
    assert pipeline.run("ExportAll").returncode == 0
    return pipeline


def largest(pipeline):
    """Return the market with most ticks."""
    return max(index_of(pipeline).values(), key=lambda row: int(row["total_tick_records"]))["market_id"]


def unpacked(data):
    """Return times (ms), prices and sizes (n, r, 2, 8) of a plot's replay, as its script unpacks them."""
    count, runners = data["replay"]["moments"], len(data["runners"])
    raw = zlib.decompress(base64.b64decode(data["replay"]["arrays"]))
    times, at = np.frombuffer(raw, "<f8", count), count * 8
    arrays = []
    for series, kind in (
        (runners * 16, np.uint16),
        (runners * 16, np.uint32),
        (runners, np.uint16),
        (runners, np.uint32),
    ):
        width, length = np.dtype(kind).itemsize, series * count
        planes = np.frombuffer(raw, np.uint8, length * width, at).reshape(width, length)
        values = np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(series, count)
        arrays.append(np.cumsum(values, axis=1, dtype=kind))
        at += length * width
    assert at == len(raw)
    price = np.array(data["replay"]["prices"])[arrays[0]].T.reshape(count, runners, 2, 8)
    return times, price, (arrays[1] / 100).T.reshape(count, runners, 2, 8), arrays[2], arrays[3]


def test_a_plot_replays_every_ladder_that_is_in_the_file(demo):
    market_id = largest(demo)
    result = demo.run("PlotMarket", "--market-id", market_id, POSTGRES_PORT="1")  # no database
    assert result.returncode == 0, result.stderr
    page = demo.output_dir / "plots" / f"marketId={market_id}.html"
    assert asks_no_host(page) and page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    data = data_of(page)
    times, price, size, _, _ = unpacked(data)
    table = pq.read_table(demo.market(market_id)).to_pandas()
    ladder = table[table.record_type == "ladder"]
    assert len(times) == table.publish_time.nunique() == data["replay"]["messages"]
    runner = {selection: number for number, (selection, _) in enumerate(data["runners"])}
    moment = {round(time * 1000): number for number, time in enumerate(times)}
    expected_price, expected_size = np.zeros_like(price), np.zeros_like(size)
    at = (
        [moment[time] for time in ladder.publish_time.astype("int64")],
        [runner[one] for one in ladder.selection_id],
        [int(side == "LAY") for side in ladder.side],
        ladder.level.astype(int).tolist(),
    )
    expected_price[at], expected_size[at] = ladder.price, ladder["size"]
    assert (price == expected_price).all() and np.abs(size - expected_size).max() < 0.0051
    before = demo.stamps()
    assert "Nothing to do" in demo.run("PlotMarket", "--market-id", market_id).stderr and demo.stamps() == before


def test_a_plot_is_linked_from_the_report_and_is_no_stray(demo):
    market_id = largest(demo)
    assert demo.run("PlotMarket", "--market-id", market_id).returncode == 0
    assert demo.run("Report").returncode == 0
    markets = data_of(demo.output_dir / "report.html")["markets"]
    assert [one for one, plot in zip(markets["id"], markets["plot"]) if plot] == [market_id]
    verified = demo.run("VerifyExport")
    assert verified.returncode == 0, verified.stderr


def test_a_market_that_is_not_there_is_one_line(demo):
    result = demo.run("PlotMarket", "--market-id", "1.1")
    assert result.returncode == 2 and "has no market 1.1 in its index.csv" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_plot_of_an_empty_market(pipeline):
    assert pipeline.run("ExportAll", "--include-markets-without-ticks").returncode == 0
    result = pipeline.run("PlotMarket", "--market-id", "1.104")
    assert result.returncode == 0, result.stderr
    assert data_of(pipeline.output_dir / "plots" / "marketId=1.104.html")["replay"]["moments"] == 0


def test_the_same_file_gives_the_same_plot(demo):
    market_id = largest(demo)
    assert demo.run("PlotMarket", "--market-id", market_id).returncode == 0
    paths = [demo.output_dir / "plots" / f"marketId={market_id}.{suffix}" for suffix in ("html", "png")]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    assert demo.run("PlotMarket", "--market-id", market_id).returncode == 0
    assert [path.read_bytes() for path in paths] == before


def test_very_many_messages_are_thinned_evenly_with_the_first_and_the_last(demo, monkeypatch):
    ticks = Ticks.concatenate(list(market_file.read(demo.market(largest(demo)))))
    times = np.unique(ticks.publish_time)
    monkeypatch.setattr(replay, "MOST_MOMENTS", 50)
    thinned = replay.replay([ticks], len(times))
    assert len(thinned.times) <= 51 and thinned.times[0] == times[0] and thinned.times[-1] == times[-1]
    monkeypatch.setattr(replay, "MOST_MOMENTS", 20_000)
    whole = replay.replay([ticks], len(times))
    same = np.isin(whole.times, thinned.times)
    for name in ("price", "size", "traded", "volume"):
        assert (getattr(whole, name)[same] == getattr(thinned, name)).all(), name
    monkeypatch.setattr(replay, "_MOST_BYTES", 20_000)
    packed = replay.packed(whole)
    assert len(packed["arrays"]) <= 20_000 and packed["moments"] < len(times) == packed["messages"]


def test_traded_prices_and_volumes_follow_the_running_sums():
    """At 2.0 the cumulative volume is 10, 25, 25, 40; at 2.02 it is 5, 5, 8, 8; the platform stores their sums."""

    def message(time, *stored):
        count = len(stored)
        return Ticks(
            np.zeros(count, np.int64), np.full(count, time), np.full(count, time), np.full(count, 7),
            np.full(count, 2, np.int8), np.zeros(count, np.int16), np.array([2.0, 2.02][:count]), np.array(stored),
        )  # fmt: skip

    messages = [message(1, 10.0, 5.0), message(2, 35.0, 5.0), message(3, 35.0, 13.0), message(4, 75.0, 13.0)]
    for parts in (messages, [Ticks.concatenate(messages)]):
        found = replay.replay(parts, 4)
        assert found.volume[:, 0].tolist() == [15.0, 30.0, 33.0, 48.0]
        assert found.traded[:, 0].tolist() == [0.0, 2.0, 2.02, 2.0]


def test_the_scripts_of_others_have_their_licence():
    assets = ROOT / "tasks" / "reporting" / "assets"
    assert "MIT" in (assets / "uPlot.LICENSE").read_text() and (assets / "uPlot.iife.min.js").read_text()
