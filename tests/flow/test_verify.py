"""VerifyExport: every kind of damage is found and named, and what is no damage is not."""

import dataclasses
import os
import re
import shutil

import numpy as np
import pytest

import tasks.market_files.parquet
import tasks.market_files.text_lines
from tasks.export_directory import directory_scan
from tasks.postgres.database import Database
from tasks.postgres.server import Server
from tasks.storage.layout import Layout
from tasks.verification.export_check import verify
from tests.conftest import BY_HAND, FORMATS, Pipeline, fill, new_source
from tests.flow.planted_damage import DAMAGE
from tests.flow.rewritten_export import MARKET, changed, differences, fewer, rewrite, swapped


@pytest.fixture(scope="module")
def exports(server, tmp_path_factory):
    """One export in each format, never changed, and the source of both."""
    source, directory = fill(new_source(server)), tmp_path_factory.mktemp("exports")
    for format in BY_HAND:
        result = Pipeline(directory / format, source.environment).run("ExportAll", "--format", format)
        assert result.returncode == 0, result.stderr
    return source, directory


@pytest.fixture(params=BY_HAND)
def export(request, exports, tmp_path) -> Layout:
    """A copy of the export, to be damaged."""
    shutil.copytree(exports[1] / request.param, tmp_path / "export")
    return Layout(tmp_path / "export", request.param)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_without_a_database(export, name):
    assert differences(export) == []
    damage, words = DAMAGE[name]
    damage(export)
    words = words.format(file=f"markets/marketId={MARKET}.{export.format}", format=export.format)
    found = differences(export)
    assert any(words in difference for difference in found), found
    assert all(re.search(r": found .+, expected .+\. [A-Z].+\.$", difference) for difference in found), found


def swapped_sizes(ticks):
    """Let two ladder rows exchange their sizes: every sum of a single column stays."""
    size = ticks.size.copy()
    first, second = 0, int(np.flatnonzero(size != size[0])[0])
    size[[first, second]] = size[[second, first]]
    return dataclasses.replace(ticks, size=size)


FORGED = {
    "a row left out": (fewer, "traded rows of 2026-02-05: found 17, expected 18 (database)"),
    "a message left out": (lambda ticks: ticks[14:], "ladder rows of 2026-02-05: found 16, expected 24 (database)"),
    "a price": (changed("price", 0, 1.99), "ladder rows of 2026-02-05, sum of price"),
    "a size in its last bit": (changed("size", 0, np.nextafter(11.5, 12)), "sum of size"),
    "NaN for a price": (changed("price", 0, np.nan), "ladder rows of 2026-02-05, sum of not_finite"),
    "a time": (changed("received_at", 3, 0), "sum of delay_us"),
    "two sizes that changed places": (swapped_sizes, "ladder rows of 2026-02-05, sum of mixed"),
    "a runner": (lambda ticks: dataclasses.replace(ticks, selection_id=ticks.selection_id + 1), "sum of selection_id"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_a_forged_index_hides_the_database_tells(exports, export, name):
    change, words = FORGED[name]
    rewrite(export, change)
    assert differences(export) == []
    found = differences(export, exports[0])
    assert any(
        f"market {MARKET}: markets/marketId={MARKET}.{export.format}: " in difference and words in difference
        for difference in found
    ), found


#: What happens to the database, and what of the report must be there.
CHANGED = {
    "UPDATE stream_ingest.ladder_levels SET size = size + 1e-9 WHERE market_id = '1.101' AND level = 1": "sum of size",
    "UPDATE stream_ingest.traded_volume SET size_traded = 'NaN' WHERE market_id = '1.101' AND price = 2.0": (
        "sum of not_finite"
    ),
    "UPDATE stream_ingest.traded_volume SET price = price + 1 WHERE market_id = '1.101' AND price = 2.0": (
        "sum of price"
    ),
    "UPDATE stream_ingest.ladder_levels SET received_time = received_time + '1 us' WHERE market_id = '1.101'": (
        "sum of delay_us"
    ),
    "DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.101' AND level = 1": (
        "ladder rows of 2026-02-05: found 24, expected 12"
    ),
    "DELETE FROM stream_ingest.traded_volume WHERE market_id = '1.101'": (
        "traded rows of 2026-02-05: found 18, expected 0"
    ),
    "INSERT INTO stream_ingest.traded_volume VALUES ('1.101', 1, 9, 9, '2026-02-05 11:00+00', '2026-02-05 11:00+00')": (
        "found 18, expected 19"
    ),
    "INSERT INTO stream_ingest.ladder_levels VALUES ('1.100', 1, 'B', 0, 9, 9, '20260205 11:00Z', '20260205 11:00Z')": (
        "market 1.100: markets/marketId=1.100.parquet: the file: found nothing"
    ),
    "UPDATE public.markets SET market_name = 'B v A' WHERE market_id = '1.101'": (
        "marketName: found A v B, expected B v A (database)"
    ),
    "UPDATE public.runners SET runner_name = 'Three' WHERE market_id = '1.101' AND selection_id = 1": "runners: found",
    "INSERT INTO public.events VALUES ('31'); UPDATE public.markets SET event_id = '31' WHERE market_id = '1.101'": (
        "event_id: found 30, expected 31"
    ),
}


@pytest.fixture
def fresh(server, exports):
    """A source of its own with the rows of the exports."""
    return fill(new_source(server)), Layout(exports[1] / "parquet", "parquet")


@pytest.mark.parametrize("statement", CHANGED)
def test_a_change_in_the_database_is_found(fresh, statement):
    source, layout = fresh
    assert differences(layout, source) == []
    source.query(statement)
    found = differences(layout, source)
    assert any(CHANGED[statement] in difference for difference in found), found
    assert all("market 1.10" in difference for difference in found)


def test_what_the_database_may_do_is_no_difference(fresh):
    source, layout = fresh
    source.query(
        "DROP TABLE stream_ingest.ladder_20260205; DELETE FROM stream_ingest.traded_volume WHERE publish_time <"
        " '2026-02-05 11:30+00'"
    )
    source.message("1.102", "2026-02-06 10:00+00")
    source.message("1.200", "2026-02-06 10:00+00")
    source.query(
        "INSERT INTO stream_ingest.market_lifecycle_events VALUES ('1.101', 'CLOSED', false, '2026-02-06 11:00+00',"
        " '2026-02-06 11:00+00')"
    )
    assert differences(layout, source) == []
    source.query("UPDATE stream_ingest.traded_volume SET size_traded = 1 WHERE market_id = '1.102' AND price = 2.0")
    assert differences(layout, source) != []


def test_late_rows_of_a_market_that_went_on_are_no_difference(fresh):
    source, layout = fresh
    source.message("1.101", "2026-02-05 12:00:00.123+00", selection_id=3)  # a late part of the file's last message
    assert any("found" in difference for difference in differences(layout, source))
    source.message("1.101", "2026-02-05 12:10:00+00")
    with Database(Server.from_environment(source.environment)) as database:
        verdict = verify(layout, database, 900_000_000)
    assert verdict.differences == [] and any("market 1.101 has newer ticks" in note for note in verdict.notes)
    source.query(
        "UPDATE stream_ingest.ladder_levels SET price = 3 WHERE market_id = '1.101' AND publish_time < '2026-02-05"
        " 11:30+00'"
    )
    assert any("sum of price" in difference for difference in differences(layout, source))


def test_numbers_that_are_none_add_up_too(server, tmp_path):
    source = new_source(server)
    source.partition("2026-02-05")
    source.message(
        "1.101",
        "2026-02-05 10:00+00",
        prices=(float("nan"), float("inf"), -0.0, 0.1 + 0.2),
        traded=(float("-inf"), float("nan")),
    )
    for format in FORMATS:
        pipeline = Pipeline(tmp_path / format, source.environment)
        assert pipeline.run("ExportAll", "--format", format).returncode == 0
        assert differences(Layout(tmp_path / format, format), source) == []


def test_what_the_pipeline_keeps_beside_is_no_stray(export):
    for name in (".lock", ".index.csv.host.1.tmp", "verification_report.txt"):
        (export.output_dir / name).write_text("")
    shutil.copyfile(export.market_file(MARKET), export.markets_dir / f"{export.market_file(MARKET).name}.damaged.2")
    verdict = verify(export, None, 0)
    assert not verdict.differences and "damaged.2" in verdict.notes[0]
    for path in export.markets_dir.glob("*_metadata.json"):
        path.unlink()
    assert not differences(export, metadata_required=False) and len(differences(export)) == 3


def test_messages_cut_by_the_batches_are_checked_whole(export, monkeypatch):
    monkeypatch.setattr(tasks.market_files.parquet, "_READ_ROWS", 5)
    monkeypatch.setattr(tasks.market_files.text_lines, "_BLOCK_BYTES", 1_000)
    assert differences(export) == []
    swapped(20, 21)(export)
    assert any("order: found row 21" in difference for difference in differences(export))


@pytest.mark.parametrize("export", ["parquet"], indirect=True)
def test_the_command_writes_a_report_and_ends_with_30(export, exports):
    pipeline = Pipeline(export.output_dir, exports[0].environment)
    good = pipeline.run("VerifyExport")
    assert good.returncode == 0, good.stderr
    report = (export.output_dir / "verification_report.txt").read_text()
    assert report.splitlines()[-1].startswith("VERIFIED: 3 markets with 74 ticks"), report
    os.unlink(export.market_file("1.102"))
    bad = pipeline.run("VerifyExport", "--offline", POSTGRES_PORT="1")
    assert bad.returncode == 30 and "Traceback" not in bad.stderr, bad.stderr
    report = (export.output_dir / "verification_report.txt").read_text()
    assert f"market 1.102: markets/marketId=1.102.{export.format}: the file: found nothing" in report
    assert report.splitlines()[-1].startswith("FAILED: 1 difference in 1 file; ")
    nothing = Pipeline(export.output_dir.parent / "nothing", exports[0].environment).run("VerifyExport", "--offline")
    assert nothing.returncode == 2 and "is not an export" in nothing.stderr
    assert pipeline.run("VerifyExport", POSTGRES_PORT="1").returncode == 35
    assert directory_scan.list_files(export).keys() == {"1.101", "1.103"}
