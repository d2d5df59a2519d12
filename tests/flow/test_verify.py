"""VerifyExport: every kind of damage is found and named, and what is no damage is not."""

import dataclasses
import hashlib
import json
import os
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.market_files.parquet
import tasks.market_files.text_lines
from tasks.day_csv import consolidation_report, export_source
from tasks.export_directory import directory_scan, index_csv
from tasks.market_files import market_file
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_file import MarketWriter
from tasks.postgres.database import Database
from tasks.postgres.server import Server
from tasks.storage.layout import Layout
from tasks.ticks.schema import SCHEMA
from tasks.ticks.tick_arrays import Ticks
from tasks.verification.export_check import verify
from tests.conftest import FORMATS, Pipeline, Source, fill, new_source

MARKET = "1.101"
DAY = 86_400_000_000


@pytest.fixture(scope="module")
def exports(server, tmp_path_factory):
    """One export in each format, never changed, and the source of both."""
    source, directory = fill(new_source(server)), tmp_path_factory.mktemp("exports")
    for format in FORMATS:
        result = Pipeline(directory / format, source.environment).run("ExportAll", "--format", format)
        assert result.returncode == 0, result.stderr
    return source, directory


@pytest.fixture(params=FORMATS)
def export(request, exports, tmp_path) -> Layout:
    """A copy of the export, to be damaged."""
    shutil.copytree(exports[1] / request.param, tmp_path / "export")
    return Layout(tmp_path / "export", request.param)


def differences(layout: Layout, source: Source | None = None, **options) -> list[str]:
    """Verify an export; return its differences as text."""
    if source is None:
        return [str(difference) for difference in verify(layout, None, 0, **options).differences]
    with Database(Server.from_environment(source.environment)) as database:
        return [str(difference) for difference in verify(layout, database, 0, **options).differences]


def fix_up(layout: Layout) -> None:
    """Make the index say what lies there, and remove the ledger, as a forger would."""
    layout.ledger.unlink(missing_ok=True)
    rows = {}
    for market_id, row in index_csv.read(layout.index).items():
        path = layout.market_file(market_id)
        content, ticks = path.read_bytes(), Ticks.concatenate(list(market_file.read(path)))
        times = ticks.publish_time
        rows[market_id] = dataclasses.replace(
            row,
            facts=FileFacts(
                int(times.min()),
                int(times.max()),
                len(times),
                len(np.unique(times)),
                len(content),
                hashlib.sha256(content).hexdigest(),
            ),
        )
    layout.index.write_bytes(b"".join(index_csv.render(rows)))
    layout.execution_report.unlink(missing_ok=True)


def table_of(layout: Layout) -> pa.Table:
    """Return the rows of the market as a plain table."""
    return pa.Table.from_batches(list(market_file.batches(layout.market_file(MARKET)))).unify_dictionaries()


def put(layout: Layout, table: pa.Table) -> None:
    """Write rows as they are into the market file, and make the index agree."""
    path = layout.market_file(MARKET)
    if layout.format == "parquet":
        pq.write_table(table.cast(SCHEMA), path)
    else:
        rows = table.to_pylist()
        for row in rows:
            for name in ("received_at", "publish_time"):
                row[name] = row[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    fix_up(layout)


def rewrite(layout: Layout, change) -> None:
    """Write changed ticks as the pipeline writes them, and make the index agree."""
    path = layout.market_file(MARKET)
    ticks = change(Ticks.concatenate(list(market_file.read(path))))
    with MarketWriter(path, MARKET) as writer:
        writer.write(ticks)
        writer.finish(0)
        writer.file.publish()
    fix_up(layout)


def column(name, change):
    """Return a damage that changes one column's values, as a list, in place."""

    def damage(layout):
        table = table_of(layout)
        values = table.column(name).to_pylist()
        change(values)
        at = table.schema.get_field_index(name)
        put(
            layout, table.set_column(at, table.schema.field(name), pa.array(values).cast(table.schema.field(name).type))
        )

    return damage


def set_to(name, value, row=0):
    """Return a damage that sets one value of a column."""
    return column(name, lambda values: values.__setitem__(row, value))


def order(change):
    """Return a damage that takes rows in another order, some twice or not at all."""
    return lambda layout: put(layout, table_of(layout).take(change(table_of(layout).num_rows)))


def swapped(first, second):
    """Return the row numbers with two of them swapped."""

    def change(count):
        rows = list(range(count))
        rows[first], rows[second] = rows[second], rows[first]
        return rows

    return order(change)


def content(change, name=None):
    """Return a damage to the bytes of a file: the market file if no name is given."""

    def damage(layout):
        path = layout.output_dir / name if name else layout.market_file(MARKET)
        path.write_bytes(change(path.read_bytes()))

    return damage


def index_cell(name, value):
    """Return a damage to one field of the market's row in the index."""

    def damage(layout):
        lines = [line.split(",") for line in layout.index.read_text().splitlines()]
        lines[1][index_csv.COLUMNS.index(name)] = value
        layout.index.write_text("\n".join(",".join(line) for line in lines) + "\n")

    return damage


def metadata(**changes):
    """Return a damage to the market's metadata."""

    def damage(layout):
        path = layout.metadata_file(MARKET)
        known = json.loads(path.read_text())
        for key, change in changes.items():
            known[key] = change(known[key]) if callable(change) else change
        path.write_text(json.dumps(known))

    return damage


def flip(data, at=-30):
    """Return bytes with one bit of one byte flipped."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def other_market(layout):
    """Put another market's file in the market's place, and make the index agree."""
    shutil.copyfile(layout.market_file("1.102"), layout.market_file(MARKET))
    fix_up(layout)


def other_columns(layout):
    """Leave a column out, and make the index agree on size and checksum."""
    table = table_of(layout).drop_columns(["sequence"])
    path = layout.market_file(MARKET)
    if layout.format == "parquet":
        pq.write_table(table, path)
    else:
        path.write_bytes(b"".join(line.split(b',"sequence"')[0] + b"}\n" for line in path.read_bytes().splitlines()))


def linked(layout):
    """Move the market's file elsewhere and leave a link to it."""
    path = layout.market_file(MARKET)
    os.rename(path, layout.output_dir.parent / path.name)
    path.symlink_to(layout.output_dir.parent / path.name)


def dangling(layout):
    """Leave a link to nothing in place of the market's file."""
    path = layout.market_file(MARKET)
    path.unlink()
    path.symlink_to("nowhere")


def directory(layout):
    """Put a directory in place of the market's file."""
    layout.market_file(MARKET).unlink()
    layout.market_file(MARKET).mkdir()


def other_rows(layout):
    """Write the market's Parquet in other row groups, its JSONL with other spaces, and make the index agree."""
    path = layout.market_file(MARKET)
    if layout.format == "parquet":
        pq.write_table(table_of(layout).cast(SCHEMA), path, row_group_size=10)
    else:
        path.write_bytes(path.read_bytes().replace(b'"price":', b'"price": '))
    fix_up(layout)


def day_files(change_report=lambda text: text, change_csv=lambda content: content, **inputs):
    """Return a damage to a consolidated day, of which only what the report says of it counts here."""

    def damage(layout):
        rows = index_csv.read(layout.index)
        content = b"header\n"
        lines = [
            "Total rows read (after date filter): 46",
            "Duplicates removed: 4",
            "Rows written: 42",
            "",
            (
                f"File: {DAY_CSV}, {len(content)} bytes, written 2026-02-06T00:00:00.000000Z, SHA-256"
                f" {hashlib.sha256(content).hexdigest()}"
            ),
            "",
            consolidation_report._INPUTS,
        ]
        made_of = export_source.inputs(layout, (rows["1.101"], rows["1.103"]))
        lines += [f"{name} 21 {inputs.get('data', made.data)} {made.metadata}" for name, made in made_of.items()]
        (layout.output_dir / DAY_CSV).write_bytes(content)
        (layout.output_dir / DAY_REPORT).write_text("\n".join(lines) + "\n")
        assert differences(layout) == []
        (layout.output_dir / DAY_CSV).write_bytes(change_csv(content))
        (layout.output_dir / DAY_REPORT).write_text(change_report("\n".join(lines) + "\n"))

    return damage


META = f"markets/marketId={MARKET}_metadata.json"
DAY_CSV, DAY_REPORT = "consolidated_ticks_2026_02_05.csv", "consolidation_report_2026_02_05.txt"
#: Damage, and what of its report must be there. {file} is the market file.
DAMAGE = {
    "a byte flipped": (content(flip), "{file}: checksum"),
    "a byte flipped at the start": (content(lambda data: flip(data, 9)), "{file}: checksum"),
    "cut short": (content(lambda data: data[:-7]), "{file}: file_size_bytes"),
    "emptied": (content(lambda data: b""), "{file}: checksum"),
    "junk of the same size": (content(lambda data: b"x" * len(data)), "{file}: content"),
    "something added": (content(lambda data: data + b"{}\n"), "{file}: file_size_bytes"),
    "the file missing": (lambda layout: layout.market_file(MARKET).unlink(), "{file}: the file: found nothing"),
    "another market's file": (other_market, "{file}: market_id: found 1.102"),
    "a column missing": (other_columns, "{file}: content"),
    "rows of another market": (set_to("market_id", "1.102", 5), "{file}: market_id: found 1.102 in row 5"),
    "rows swapped in a message": (swapped(0, 1), "{file}: order"),
    "messages swapped": (swapped(0, 20), "{file}: "),
    "ladder after traded": (swapped(0, 13), "{file}: order"),
    "all rows backwards": (order(lambda count: list(range(count))[::-1]), "{file}: "),
    "a wrong sequence in a ladder row": (set_to("sequence", 5), "{file}: sequence: found 5 in row 0"),
    "every sequence of traded rows 0": (
        column("sequence", lambda values: values.__setitem__(slice(-3, None), [0, 0, 0])),
        "{file}: sequence",
    ),
    "a level that is none": (set_to("level", 9), "{file}: level"),
    "a level in a traded row": (set_to("level", 3, -1), "{file}: level: found 3"),
    "another text for a side": (set_to("side", "BAK"), "{file}: side: found BAK"),
    "no side in a ladder row": (set_to("side", None), "{file}: record_type"),
    "a side in a traded row": (set_to("side", "LAY", -1), "{file}: "),
    "another record type": (set_to("record_type", "traded"), "{file}: record_type: found traded in row 0"),
    "another change type": (set_to("change_type", "snapshot", 3), "{file}: change_type: found snapshot in row 3"),
    "in play": (set_to("in_play", True, 2), "{file}: in_play: found True in row 2"),
    "a volume in a ladder row": (set_to("traded_volume", 1.0), "{file}: traded_volume: found 1.0 in row 0"),
    "a volume that is not the size": (set_to("traded_volume", 1.0, -1), "{file}: traded_volume: found 1.0"),
    "index: no such file path": (index_cell("file_path", "markets/x.parquet"), "index.csv: line 2, file_path"),
    "index: too many ticks": (
        index_cell("total_tick_records", "43"),
        "{file}: total_tick_records: found 42, expected 43",
    ),
    "index: too few messages": (index_cell("total_messages", "2"), "{file}: total_messages: found 3, expected 2"),
    "index: another first tick": (
        index_cell("first_tick_timestamp", "2026-02-05T10:00:00.124000Z"),
        "{file}: first_tick_timestamp",
    ),
    "index: another last tick": (
        index_cell("last_tick_timestamp", "2026-02-05T12:00:00.122999Z"),
        "{file}: last_tick_timestamp",
    ),
    "index: no last tick": (index_cell("last_tick_timestamp", ""), "{file}: last_tick_timestamp"),
    "index: another size": (index_cell("file_size_bytes", "1"), "{file}: file_size_bytes"),
    "index: another checksum": (index_cell("checksum", "0" * 64), "{file}: checksum"),
    "index: no checksum": (index_cell("checksum", ""), "index.csv: line 2: found checksum ''"),
    "index: another event": (index_cell("event_id", "31"), f"{META}: eventId: found 30, expected 31"),
    "index: no number": (index_cell("total_messages", "many"), "index.csv: line 2"),
    "index: a time in another way": (
        index_cell("first_tick_timestamp", "2026-02-05 10:00:00.123+00:00"),
        "index.csv: line 2",
    ),
    "index: market id": (index_cell("market_id", "../1.101"), "index.csv: line 2"),
    "index: a row doubled": (
        content(lambda data: data + data.splitlines(keepends=True)[1], "index.csv"),
        "index.csv: line 5: found the market a",
    ),
    "index: a row missing": (
        content(lambda data: b"".join(data.splitlines(keepends=True)[i] for i in (0, 2, 3)), "index.csv"),
        "{file}: the file",
    ),
    "index: another order": (
        content(lambda data: b"".join(data.splitlines(keepends=True)[i] for i in (0, 3, 2, 1)), "index.csv"),
        "index.csv: content: found another order",
    ),
    "index: columns": (content(lambda data: data.replace(b"event_id", b"event"), "index.csv"), "index.csv: columns"),
    "index: not UTF-8": (content(lambda data: b"\xff" + data, "index.csv"), "index.csv: content"),
    "index: missing": (lambda layout: layout.index.unlink(), "index.csv: the file: found nothing"),
    "a stray market file": (
        lambda layout: shutil.copyfile(layout.market_file(MARKET), layout.market_file("1.999")),
        "marketId=1.999.{format}: the file: found a stray",
    ),
    "a stray file": (
        lambda layout: (layout.output_dir / "notes.txt").write_text("x"),
        "notes.txt: the file: found a stray",
    ),
    "a stray directory": (
        lambda layout: (layout.markets_dir / "more").mkdir(),
        "markets/more: the file: found a stray",
    ),
    "metadata of no market": (
        lambda layout: shutil.copyfile(layout.metadata_file(MARKET), layout.metadata_file("1.999")),
        "marketId=1.999_metadata.json: the file: found a stray",
    ),
    "metadata missing": (lambda layout: layout.metadata_file(MARKET).unlink(), f"{META}: the file: found nothing"),
    "metadata: junk": (content(lambda data: b"junk", META), f"{META}: content: found 'junk'"),
    "metadata: a list": (content(lambda data: b"[]", META), f"{META}: content"),
    "metadata: a wrong number of runners": (
        metadata(numberOfRunners=3),
        f"{META}: numberOfRunners: found 3, expected 2 runners",
    ),
    "metadata: another market": (metadata(marketId="1.102"), f"{META}: marketId: found 1.102, expected 1.101"),
    "metadata: a runner twice": (
        metadata(runners=lambda runners: runners + runners[:1], numberOfRunners=3),
        f"{META}: runners",
    ),
    "metadata: runners in another order": (metadata(runners=lambda runners: runners[::-1]), f"{META}: runners"),
    "metadata: a runner's keys": (
        metadata(runners=lambda runners: [{"selectionId": 1}, {"selectionId": 2}]),
        f"{META}: keys of a runner",
    ),
    "metadata: a start that is no time": (metadata(marketStartTime="soon"), f"{META}: marketStartTime"),
    "metadata: in play": (metadata(inPlay="yes"), f"{META}: inPlay"),
    "a link in place of the file": (linked, "{file}: the file: found a symbolic link to "),
    "a link to nothing": (dangling, "{file}: the file: found a symbolic link to nowhere"),
    "a directory in place of the file": (directory, "{file}: the file: found a directory"),
    "another way to write the rows": (other_rows, "{file}: "),
    "report: more markets than the index": (
        content(lambda data: data.replace(b"Markets: 3", b"Markets: 4"), "execution_report.txt"),
        "execution_report.txt: Markets: found 4, expected 3",
    ),
    "report: emptied": (
        content(lambda data: b"", "execution_report.txt"),
        "execution_report.txt: Total tick records: found nothing",
    ),
    "day: a byte flipped": (day_files(change_csv=lambda content: flip(content, 1)), f"{DAY_CSV}: checksum"),
    "day: cut short": (day_files(change_csv=lambda content: content[:-1]), f"{DAY_CSV}: size in bytes"),
    "day: partial": (day_files(lambda text: f"PARTIAL DAY: x\n{text}"), f"{DAY_REPORT}: the day: found a part of it"),
    "day: other rows read": (
        day_files(lambda text: text.replace(": 46", ": 45")),
        f"{DAY_REPORT}: total rows read: found 45, expected 46",
    ),
    "day: other rows written": (
        day_files(lambda text: text.replace(": 42", ": 43")),
        f"{DAY_REPORT}: rows written: found 43, expected 42",
    ),
    "day: other duplicates": (
        day_files(lambda text: text.replace(": 4\n", ": 5\n")),
        f"{DAY_REPORT}: rows written: found 42, expected 41",
    ),
    "day: other rows of a market": (
        day_files(lambda text: text.replace(" 21 ", " 22 ", 1)),
        f"{DAY_REPORT}: rows written of all markets: found 43, expected 42",
    ),
    "day: a market left out": (
        day_files(lambda text: "\n".join(text.splitlines()[:-1])),
        f"market 1.103: {DAY_REPORT}: inputs",
    ),
    "day: report emptied": (day_files(lambda text: ""), f"{DAY_REPORT}: content"),
    "day: no report": (
        lambda layout: (layout.output_dir / DAY_CSV).write_text("x"),
        f"{DAY_CSV}: the file: found a CSV without a report",
    ),
    "day: no CSV": (
        lambda layout: (day_files()(layout), (layout.output_dir / DAY_CSV).unlink()),
        f"{DAY_CSV}: the file: found nothing",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_without_a_database(export, name):
    assert differences(export) == []
    damage, words = DAMAGE[name]
    damage(export)
    words = words.format(file=f"markets/marketId={MARKET}.{export.format}", format=export.format)
    found = differences(export)
    assert any(words in difference for difference in found), found
    assert all(re.search(r": found .+, expected .+\. [A-Z].+\.$", difference) for difference in found), found


def fewer(ticks):
    """Leave the last traded row out."""
    return ticks[:-1]


def changed(name, rows, value):
    """Return a change of ticks that sets a column."""

    def change(ticks):
        values = getattr(ticks, name).copy()
        values[rows] = value
        return dataclasses.replace(ticks, **{name: values}).sorted()

    return change


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
    "UPDATE stream_ingest.ladder_levels SET received_time = received_time + interval '1 microsecond'"
    " WHERE market_id = '1.101'": ("sum of delay_us"),
    "DELETE FROM stream_ingest.ladder_levels WHERE market_id = '1.101' AND level = 1": (
        "ladder rows of 2026-02-05: found 24, expected 12"
    ),
    "DELETE FROM stream_ingest.traded_volume WHERE market_id = '1.101'": (
        "traded rows of 2026-02-05: found 18, expected 0"
    ),
    "INSERT INTO stream_ingest.traded_volume VALUES ('1.101', 1, 9, 9, '2026-02-05 11:00+00', '2026-02-05 11:00+00')": (
        "found 18, expected 19"
    ),
    "INSERT INTO stream_ingest.ladder_levels"
    " VALUES ('1.100', 1, 'B', 0, 9, 9, '2026-02-05 11:00+00', '2026-02-05 11:00+00')": (
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
    assert nothing.returncode == 2 and "is no export" in nothing.stderr
    assert pipeline.run("VerifyExport", POSTGRES_PORT="1").returncode == 35
    assert directory_scan.list_files(export).keys() == {"1.101", "1.103"}
