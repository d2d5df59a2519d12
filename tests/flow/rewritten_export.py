"""Rewrite parts of an export, as a careful forger or a fault would."""

import dataclasses
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.day_csv import consolidation_report, export_source
from tasks.export_directory import index_csv
from tasks.market_files import market_file
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_file import MarketWriter
from tasks.postgres.database import Database
from tasks.postgres.server import Server
from tasks.storage.layout import Layout
from tasks.ticks.schema import SCHEMA
from tasks.ticks.tick_arrays import Ticks
from tasks.verification.export_check import verify
from tests.conftest import Source

MARKET = "1.101"


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


def directory(layout):
    """Put a directory in place of the market's file."""
    layout.market_file(MARKET).unlink()
    layout.market_file(MARKET).mkdir()


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


DAY = 86_400_000_000


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
