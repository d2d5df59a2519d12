"""Damage to plant in an export, for VerifyExport to find."""

import os
import shutil

import pyarrow.parquet as pq

from tasks.ticks.schema import SCHEMA
from tests.flow.rewritten_export import (
    DAY_CSV,
    DAY_REPORT,
    MARKET,
    META,
    column,
    content,
    day_files,
    directory,
    fix_up,
    flip,
    index_cell,
    metadata,
    order,
    set_to,
    swapped,
    table_of,
)


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


def other_rows(layout):
    """Write the market's Parquet in other row groups, its JSONL with other spaces, and make the index agree."""
    path = layout.market_file(MARKET)
    if layout.format == "parquet":
        pq.write_table(table_of(layout).cast(SCHEMA), path, row_group_size=10)
    else:
        path.write_bytes(path.read_bytes().replace(b'"price":', b'"price": '))
    fix_up(layout)


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
        "index.csv: line 5: found a second row",
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
