"""The recorder goes on, partitions are dropped, disks break: what the next run makes of it."""

import datetime
import os
import shutil
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tests.conftest import FORMATS, Pipeline, fresh, index_of, new_source

SETTLED = "2026-02-05 12:00:00.123+00"

#: What tells of all markets, and so changes with one of them.
REPORTS = ("index.csv", "execution_report.txt", "condition.json", "report.html")


@pytest.mark.parametrize("format", FORMATS)
def test_new_rows_refresh_that_market_alone_as_if_exported_afresh(pipeline, small, format):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    before = pipeline.stamps()
    small.message("1.101", "2026-02-06 10:00+00", prices=(1.5,), traded=(1.5, 7.0))
    small.query("UPDATE stream_ingest.traded_volume SET size_traded = 99 WHERE market_id = '1.101' AND price = 2.0")
    result = pipeline.run("ExportAll", "--format", format)
    assert result.returncode == 0, result.stderr
    changed = {name for name, stamp in pipeline.stamps().items() if before[name] != stamp}
    assert changed == {f"markets/marketId=1.101.{format}", *REPORTS}
    assert pipeline.files() == fresh(pipeline, "fresh", "--format", format)
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    assert "Markets refreshed: 1" in report and "Markets unchanged: 2" in report


def test_a_traded_tick_alone_refreshes_too(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.message("1.102", "2026-02-06 11:00+00", prices=(), traded=(3.0,))
    assert pipeline.run("ExportAll").returncode == 0
    assert index_of(pipeline)["1.102"]["last_tick_timestamp"] == "2026-02-06T11:00:00.000000Z"
    assert pipeline.files() == fresh(pipeline)


def test_a_file_written_before_its_ticks_had_settled_is_made_again(pipeline, small):
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)
    small.partition(f"{then:%Y-%m-%d}")
    small.message("1.103", then.isoformat())
    assert pipeline.run("ExportAll").returncode == 0
    unsettled_ns = time.time_ns() - 10 * 60 * 10**9
    os.utime(pipeline.market("1.103"), ns=(unsettled_ns, unsettled_ns))
    first = pipeline.stamps()
    small.query("UPDATE stream_ingest.traded_volume SET size_traded = 1234 WHERE market_id = '1.103'")
    assert pipeline.run("ExportAll").returncode == 0
    changed = {name for name, stamp in pipeline.stamps().items() if first[name] != stamp}
    assert changed == {"markets/marketId=1.103.parquet", *REPORTS}
    before = pipeline.stamps()
    assert "Nothing to do" in pipeline.run("ExportAll").stderr
    assert pipeline.stamps() == before
    tomorrow_ns = time.time_ns() + 86_400 * 10**9
    os.utime(pipeline.market("1.103"), ns=(tomorrow_ns, tomorrow_ns))
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.market("1.103").stat().st_mtime_ns < tomorrow_ns, "a clock was wrong: it is read again"


def test_refresh_on_demand(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.query(
        "INSERT INTO stream_ingest.traded_volume VALUES ('1.101', 1, 500, 7, '2026-02-05 10:00:00.123+00', '2026-02-05"
        " 11:00+00')"
    )
    assert "Nothing to do" in pipeline.run("ExportAll").stderr, "a row later than the settling time, of an old message"
    assert pipeline.run("ExportMarket", "--market-id", "1.101", "--refresh").returncode == 0
    assert pipeline.run("ExportAll").returncode == 0
    assert pipeline.files() == fresh(pipeline)


@pytest.mark.parametrize("format", FORMATS)
def test_what_the_database_drops_stays(pipeline, small, format):
    assert pipeline.run("ExportAll", "--format", format).returncode == 0
    small.message("1.101", "2026-02-06 10:00+00")
    complete = fresh(pipeline, "complete", "--format", format)
    small.query("DROP TABLE stream_ingest.ladder_20260205")
    small.query("DELETE FROM stream_ingest.traded_volume WHERE publish_time < '2026-02-06'")
    small.query(
        "DELETE FROM public.runners WHERE market_id = '1.103'; DELETE FROM public.markets WHERE market_id = '1.103'"
    )
    result = pipeline.run("ExportAll", "--format", format)
    assert result.returncode == 0, result.stderr
    assert pipeline.files() == complete
    assert (
        "Markets kept though no longer in the database: 1" in (pipeline.output_dir / "execution_report.txt").read_text()
    )


def test_traded_rows_that_outlive_their_ladder_partition_are_not_lost(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.message("1.103", "2026-02-05 23:59:59.9995+00", prices=(), traded=(4.0,))
    small.query("DROP TABLE stream_ingest.ladder_20260205")
    assert pipeline.run("ExportAll").returncode == 0
    row = index_of(pipeline)["1.103"]
    assert (row["total_tick_records"], row["last_tick_timestamp"]) == ("5", "2026-02-05T23:59:59.999500Z")


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_history_in_pieces_equals_one_at_once(server, tmp_path_factory, data):
    """Ten deliveries with a run between each, late rows and updated sizes included."""
    recording = Recording(ticks=4_000, markets=6, days=2, seed=data.draw(st.integers(0, 1000)))
    offsets = sorted(data.draw(st.lists(st.integers(0, 2 * 86_400), min_size=3, max_size=9)))
    moments = [recording.start + datetime.timedelta(seconds=offset) for offset in offsets]
    source = new_source(server)
    pipeline = Pipeline(tmp_path_factory.mktemp("pieces") / "out", source.environment)
    for after, until in zip([None, *moments], [*moments, None]):
        load(recording, server.conninfo(source.name), after=after, until=until)
        if data.draw(st.booleans()):
            source.query(
                "UPDATE stream_ingest.traded_volume t SET size_traded = size_traded + 1 FROM (SELECT market_id,"
                " max(publish_time) AS newest FROM stream_ingest.traded_volume GROUP BY 1) n WHERE t.market_id ="
                " n.market_id AND t.publish_time = n.newest"
            )
            for (market_id,) in source.query("SELECT DISTINCT market_id FROM stream_ingest.traded_volume"):
                if pipeline.market(market_id).exists():  # the message had not settled: the next run reads it again
                    os.utime(pipeline.market(market_id), (0, 0))
        result = pipeline.run("ExportAll")
        assert result.returncode == 0, result.stderr
    assert pipeline.files() == fresh(pipeline)


def test_metadata_follows_the_database_and_keeps_what_it_forgets(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    path = pipeline.output_dir / "markets" / "marketId=1.101_metadata.json"
    small.query(
        "INSERT INTO stream_ingest.market_lifecycle_events VALUES ('1.101', 'SETTLED', false, '2026-02-05 14:00+00',"
        " '2026-02-05 14:00+00')"
    )
    small.query("UPDATE public.runners SET runner_name = NULL WHERE market_id = '1.101' AND selection_id = 1")
    small.query("DELETE FROM public.runners WHERE market_id = '1.101' AND selection_id = 2")
    assert pipeline.run("ExportAll").returncode == 0
    text = path.read_text()
    assert '"SETTLED"' in text and '"One"' in text and '"Two"' in text and '"numberOfRunners": 2' in text
    path.write_text("junk")
    small.query("TRUNCATE stream_ingest.market_lifecycle_events")
    assert pipeline.run("ExportAll").returncode == 0
    assert '"marketStatus": null' in path.read_text()


def test_an_index_copied_elsewhere_is_trusted_after_one_look(pipeline):
    assert pipeline.run("ExportAll").returncode == 0
    copy = Pipeline(pipeline.output_dir.parent / "copy", pipeline.environment)
    shutil.copytree(pipeline.output_dir, copy.output_dir)
    assert copy.run("ExportAll").returncode == 0
    before = copy.stamps()
    assert "Nothing to do" in copy.run("ExportAll").stderr
    assert copy.stamps() == before and copy.files() == pipeline.files()


def test_old_partitions_are_warned_of(pipeline, small):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.102'")
    assert pipeline.run("ExportAll").returncode == 30
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    assert "WARNING: 1 market with ticks in old partitions" in report and "'1.102'" in report.split("WARNING")[1]


def test_metadata_files_are_read_only_when_something_touched_them(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    path = pipeline.output_dir / "markets" / "marketId=1.101_metadata.json"
    content = path.read_bytes()
    known = pipeline.output_dir / ".journal" / "metadata.states"
    for damage in (b"", content.replace(b"30", b"31"), content[:-9]):
        path.write_bytes(damage)
        result = pipeline.run("ExportAll")
        assert result.returncode == 0 and "1 metadata file written" in result.stderr, result.stderr
        assert path.read_bytes() == content
    stamp = path.stat().st_mtime_ns
    flipped = bytearray(known.read_bytes())
    for at in range(len(flipped) // 4, len(flipped) // 2):
        flipped[at] ^= 0xFF
    for lost in (b"", b"junk", known.read_bytes()[:100], bytes(flipped)):
        known.write_bytes(lost)
        assert "Nothing to do" in pipeline.run("ExportAll").stderr
        assert path.stat().st_mtime_ns == stamp and len(known.read_bytes()) > 60
    small.query("UPDATE public.runners SET runner_name = 'New' WHERE market_id = '1.101' AND selection_id = 2")
    assert pipeline.run("ExportAll").returncode == 0
    assert b'"New"' in path.read_bytes()


def test_one_market_alone_has_its_newest_traded_tick_too(pipeline, small):
    assert pipeline.run("ExportAll").returncode == 0
    small.message("1.103", "2026-02-05 23:59:59.9995+00", prices=(), traded=(4.0,))
    small.query("DROP TABLE stream_ingest.ladder_20260205")
    assert pipeline.run("ExportMarket", "--market-id", "1.103").returncode == 0
    assert pipeline.run("BuildIndex").returncode == 0
    assert index_of(pipeline)["1.103"]["last_tick_timestamp"] == "2026-02-05T23:59:59.999500Z"


@pytest.mark.parametrize(
    "arguments, code",
    [
        (("ExportMarket", "--market-id", "1.102"), 0),
        (("ConsolidateDay", "--date", "2026-02-06"), 0),
        (("ConsolidateDay", "--date", "2026-02-07"), 20),
    ],
)
def test_a_database_with_ladder_rows_of_the_index_is_no_other_one(pipeline, small, arguments, code):
    small.query("DELETE FROM public.runners; DELETE FROM public.markets")
    assert pipeline.run("ConsolidateDay", "--date", "2026-02-05").returncode == 0
    result = pipeline.run(*arguments)
    assert result.returncode == code, result.stderr
