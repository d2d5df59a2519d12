"""Exports of earlier versions, met in every way: they are read and kept, and written again only where a refresh is."""

import hashlib
import os
import shutil
import tarfile

import pyarrow.parquet as pq
import pytest

from tasks.errors import NoRoom
from tasks.export_directory import directory_scan
from tasks.exporting import file_upgrade
from tasks.market_files import market_file
from tasks.storage.atomic_files import NewFile
from tasks.storage.layout import Layout
from tasks.ticks.schema import FORMAT_VERSION
from tests.conftest import Pipeline, index_of
from tests.flow.conftest import GOLDEN_DAY as DAY
from tests.flow.conftest import recorded_in_0_1_0
from tests.flow.golden_exports import a_newer_program, market_files, ticks_in, versions, with_columns_of

TICKS = 2_625 + 1_778


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
    assert again.returncode == 0 and with_columns_of(before, path.read_bytes()) == before, again.stderr
    path.unlink()
    result = golden.run("ConsolidateDay", "--date", DAY, "--offline")
    assert result.returncode == 0 and with_columns_of(before, path.read_bytes()) == before, result.stderr
    whole = golden.run("ConsolidateAll", "--offline")
    assert whole.returncode == 0 and f"{TICKS:,} rows written" in whole.stderr, whole.stderr


def test_a_refresh_keeps_its_ticks_with_and_without_the_database_having_them(golden, server):
    rows = index_of(golden)
    market_id = max(rows, key=lambda name: int(rows[name]["total_tick_records"]))
    options = ("ExportMarket", "--market-id", market_id, "--refresh", "--format", golden.format)
    files, old = market_files(golden), ticks_in(golden, market_id)
    before = (golden.output_dir / rows[market_id]["file_path"]).read_bytes()
    result = golden.run(*options)
    assert result.returncode == 0, result.stderr
    refreshed = (golden.output_dir / rows[market_id]["file_path"]).read_bytes()
    assert ticks_in(golden, market_id) == old, "today's format, the same ticks"
    assert (refreshed == before) == (golden.format == "jsonl"), "lines are written as they were"
    others = {name: content for name, content in market_files(golden).items() if market_id not in name}
    assert others.items() <= files.items(), "no other file is written again"
    dropped = recorded_in_0_1_0(server)
    dropped.query("DELETE FROM stream_ingest.ladder_levels WHERE publish_time < %s", DAY)
    dropped.query("DELETE FROM stream_ingest.traded_volume WHERE publish_time < %s", DAY)
    (golden.output_dir / rows[market_id]["file_path"]).write_bytes(before)
    result = golden.run(*options, **dropped.environment)
    assert (golden.output_dir / rows[market_id]["file_path"]).read_bytes() == refreshed, result.stderr
    assert golden.run("BuildIndex", "--format", golden.format, **dropped.environment).returncode == 0
    assert golden.run("VerifyExport", **dropped.environment).returncode == 0
    assert not list(golden.output_dir.rglob("*.damaged*"))


def test_it_is_archived(golden):
    result = golden.run("Archive", "--offline", "--date", DAY)
    assert result.returncode == 0, result.stderr
    with tarfile.open(golden.output_dir.parent / f"{golden.output_dir.name}_20260204.tar.gz") as archive:
        names = set(archive.getnames())
    assert {f"{golden.output_dir.name}/{row['file_path']}" for row in index_of(golden).values()} <= names


def test_it_is_upgraded(golden):
    rows, before = index_of(golden), market_files(golden)
    ticks = {market_id: ticks_in(golden, market_id) for market_id in rows}
    times = {path.name: path.stat().st_mtime_ns // 1000 for path in (golden.output_dir / "markets").iterdir()}
    result = golden.run("UpgradeExport")
    assert result.returncode == 0, result.stderr
    after = index_of(golden)
    assert versions(golden) == {FORMAT_VERSION}
    assert {market_id: ticks_in(golden, market_id) for market_id in after} == ticks
    assert times == {path.name: path.stat().st_mtime_ns // 1000 for path in (golden.output_dir / "markets").iterdir()}
    counts = ("event_id", "first_tick_timestamp", "last_tick_timestamp", "total_tick_records", "total_messages")
    for market_id, row in rows.items():
        assert [row[name] for name in counts] == [after[market_id][name] for name in counts]
    assert (market_files(golden) == before) == (golden.format == "jsonl")
    stamps = golden.stamps()
    again = golden.run("UpgradeExport")
    assert again.returncode == 0 and "Nothing to do" in again.stderr and golden.stamps() == stamps, again.stderr
    # as if exported today, to the byte
    fresh = Pipeline(golden.output_dir.with_name("fresh"), golden.environment)
    assert fresh.run("ExportAll", "--format", golden.format).returncode == 0
    assert {name: fresh.files()[name] for name in fresh.files() if name.startswith("markets/")} == {
        name: content for name, content in golden.files().items() if name.startswith("markets/")
    }
    for task in (("VerifyExport",), ("ConsolidateDay", "--date", DAY, "--format", golden.format)):
        result = golden.run(*task)
        assert result.returncode == 0, result.stderr


def test_an_upgrade_that_is_killed_loses_nothing_and_goes_on(golden, monkeypatch):
    if golden.format == "jsonl":
        return  # its files are as they were
    rows = index_of(golden)
    ticks = {market_id: ticks_in(golden, market_id) for market_id in rows}
    for kill_at in (2, 5):
        child = os.fork()
        if not child:
            written, publish = [], NewFile.publish

            def die(file):
                if len(written) == kill_at:
                    os._exit(9)
                written.append(file)
                publish(file)

            NewFile.publish = die
            layout = Layout(golden.output_dir)
            disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
            for market_id in file_upgrade.older_files(layout, disk.facts):
                file_upgrade.upgrade(layout, market_id, disk)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert versions(golden) == {1, FORMAT_VERSION}
        assert {market_id: ticks_in(golden, market_id) for market_id in rows} == ticks
    result = golden.run("UpgradeExport")
    assert result.returncode == 0, result.stderr
    assert versions(golden) == {FORMAT_VERSION} and not list(golden.output_dir.rglob("*.damaged*"))
    assert {market_id: ticks_in(golden, market_id) for market_id in index_of(golden)} == ticks
    assert golden.run("VerifyExport").returncode == 0


def test_an_upgrade_without_room_changes_nothing(golden, monkeypatch):
    layout = Layout(golden.output_dir, golden.format)
    disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
    before = golden.stamps()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    for market_id in disk.facts:
        with pytest.raises(NoRoom):
            file_upgrade.upgrade(layout, market_id, disk)
    assert golden.stamps() == before


def test_without_index_and_ledger_the_database_vouches_for_its_files(golden):
    before = market_files(golden)
    for path in (golden.output_dir / "index.csv", golden.output_dir / ".ledger", golden.output_dir / ".journal"):
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    result = golden.run("ExportAll", "--format", golden.format)
    assert result.returncode == 0, result.stderr
    assert market_files(golden) == before and not list(golden.output_dir.rglob("*.damaged*"))
    assert golden.run("VerifyExport").returncode == 0


def test_a_version_to_come_reads_and_upgrades_it_and_is_refused_by_todays(golden, tmp_path):
    newer = a_newer_program(tmp_path / "newer")
    before, rows = market_files(golden), index_of(golden)
    for task in (("VerifyExport",), ("ExportAll", "--format", golden.format), ("ConsolidateAll", "--offline")):
        result = golden.run(*task, **newer)
        assert result.returncode == 0 and "damaged" not in result.stderr, result.stderr
    assert market_files(golden) == before
    market_id = max(rows, key=lambda name: int(rows[name]["total_tick_records"]))
    old = ticks_in(golden, market_id)
    for task in (
        ("ExportMarket", "--market-id", market_id, "--refresh", "--format", golden.format),
        ("BuildIndex", "--format", golden.format),
        ("VerifyExport",),
    ):
        result = golden.run(*task, **newer)
        assert result.returncode == 0, result.stderr
    refreshed = ticks_in(golden, market_id)
    assert {row.pop("extra") for row in refreshed} == {7, 8} and refreshed == old
    result = golden.run("UpgradeExport", **newer)
    assert result.returncode == 0, result.stderr
    assert golden.run("VerifyExport", "--offline", **newer).returncode == 0
    # today's program: names what it does not know, and leaves it alone
    stamps = golden.stamps()
    refresh = ("ExportMarket", "--market-id", market_id, "--refresh", "--format", golden.format)
    for task in (refresh, ("ConsolidateAll", "--offline"), ("VerifyExport",), ("UpgradeExport",)):
        result = golden.run(*task)
        assert result.returncode == 30 and "Update the pipeline" in result.stderr, (task, result.stderr)
        assert "Traceback" not in result.stderr
    shutil.rmtree(golden.output_dir / ".journal")
    (golden.output_dir / ".ledger").unlink()
    result = golden.run("ExportAll", "--format", golden.format)
    assert result.returncode == 30 and "Update the pipeline" in result.stderr, result.stderr
    after = golden.stamps()
    assert {name: stamp for name, stamp in after.items() if name.startswith("markets/")} == {
        name: stamp for name, stamp in stamps.items() if name.startswith("markets/")
    }


def test_index_ledger_and_metadata_of_a_version_to_come_are_left_alone(golden):
    assert golden.run("ExportAll", "--format", golden.format).returncode == 0
    index, ledger = golden.output_dir / "index.csv", golden.output_dir / ".ledger"
    metadata = next((golden.output_dir / "markets").glob("*_metadata.json"))
    for path, newer in (
        (index, index.read_bytes().replace(b"checksum\n", b"checksum,more\n", 1)),
        (ledger, ledger.read_bytes().replace(b"ledger 1\n", b"ledger 2\n", 1)),
        (metadata, metadata.read_bytes().replace(b'  "runners": [', b'  "venue": null,\n  "runners": [', 1)),
    ):
        before = path.read_bytes()
        assert newer != before
        path.write_bytes(newer)
        result = golden.run("ExportAll", "--format", golden.format)
        assert result.returncode == 30 and "Update the pipeline" in result.stderr, (path, result.stderr)
        assert path.read_bytes() == newer and "Traceback" not in result.stderr
        path.write_bytes(before)


def test_a_column_that_somebody_has_added_is_no_damage(golden):
    if golden.format == "jsonl":
        return  # a line with more fields is a newer version's
    path = next((golden.output_dir / "markets").glob("*.parquet"))
    before = market_file.inspect(path, path.name[9:-8])
    table = pq.read_table(path)
    pq.write_table(table.append_column("note", [["x"] * len(table)]), path)
    after = market_file.inspect(path, path.name[9:-8])
    assert after[:4] == before[:4]
