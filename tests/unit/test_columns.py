"""A column of a tick is declared in ticks/schema.py; here is every place that has to know it."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.day_csv import flat_csv
from tasks.market_files import formats, market_file
from tasks.market_files.market_file import MarketWriter
from tasks.market_files.time_span import Span
from tasks.postgres import stored_sums
from tasks.postgres.tick_reader import TickReader
from tasks.ticks import day_sums, schema
from tasks.ticks.schema import COLUMNS, Column
from tasks.ticks.tick_arrays import Ticks
from tests.conftest import ROOT, TWO_TICKS, new_source

ARRAYS = {field.name for field in dataclasses.fields(Ticks)} - {"market"}


def in_arrays(column: Column, path: Path) -> bool:
    """tick_arrays.py: a field of Ticks, empty(), to_table, from_batch."""
    table = TWO_TICKS.to_table("1.5", TWO_TICKS.sequence())
    (batch,) = table.to_batches()
    again = Ticks.from_batch(batch)
    return column.name in table.column_names and (
        column.source is None
        or column.array in ARRAYS
        and np.array_equal(getattr(again, column.array), getattr(TWO_TICKS, column.array))
    )


def in_market_file(name: str) -> Callable[[Column, Path], bool]:
    """The class of a format in market_files/."""

    def knows(column: Column, path: Path) -> bool:
        path = path / f"marketId=1.5.{name}"
        with MarketWriter(path, "1.5") as writer:
            writer.write(TWO_TICKS)
            writer.finish(0)
            writer.file.publish()
        whole = Ticks.concatenate(list(market_file.read(path)))
        part = Ticks.concatenate(list(market_file.read_span(path, 0, Span(2_000_000, 3_000_000), 10)))
        if formats.named(name).is_text and column.name not in path.read_text().splitlines()[0]:
            return False
        return column.source is None or (
            np.array_equal(getattr(whole, column.array), getattr(TWO_TICKS, column.array))
            and np.array_equal(getattr(part, column.array), getattr(TWO_TICKS, column.array)[1:])
        )

    return knows


def in_jsonl(column: Column, path: Path) -> bool:
    """market_files/jsonl.py: _OBJECT, in the order of the schema."""
    lines = b"".join(bytes(text) for text in formats.named("jsonl").text(TWO_TICKS, "1.5", TWO_TICKS.sequence()))
    return list(json.loads(lines.splitlines()[0])) == [known.name for known in schema.COLUMNS]


def in_csv(column: Column, path: Path) -> bool:
    """day_csv/flat_csv.py: COLUMNS and render."""
    text = b"".join(
        bytes(text)
        for text in flat_csv.render(flat_csv.consolidated(TWO_TICKS), [flat_csv.describe("1.5", "30", None)])
    )
    rows = [line.split(",") for line in text.decode().splitlines()]
    if column.name not in flat_csv.COLUMNS or {len(row) for row in rows} != {len(flat_csv.COLUMNS)}:
        return False
    values = {row[flat_csv.COLUMNS.index(column.name)] for row in rows}
    return column.source is None or len(values) == 2


def in_checksum(column: Column, path: Path) -> bool:
    """ticks/day_sums.py: _numbers."""
    if column.source is None:
        return True
    values = getattr(TWO_TICKS, column.array)
    changed = dataclasses.replace(
        TWO_TICKS, **{column.array: np.where([True, False], values + values.dtype.type(1), values)}
    )
    if column.array == "side":
        changed = dataclasses.replace(TWO_TICKS, side=np.array([0, 2], np.int8))
    before, after = (
        dict(((day, traded), sums) for day, traded, sums in day_sums.by_day(rows)) for rows in (TWO_TICKS, changed)
    )
    return before[0, False].mixed != after[0, False].mixed and before[0, True] == after[0, True]


def in_readme(column: Column, path: Path) -> bool:
    """README.md: the table under "A tick"."""
    return re.search(rf"^\| `{column.name}` \|", (ROOT / "README.md").read_text(), re.MULTILINE) is not None


PLACES = {
    "tick_arrays.py": in_arrays,
    "parquet.py": in_market_file("parquet"),
    "jsonl.py": in_market_file("jsonl"),
    "jsonl.py, _OBJECT": in_jsonl,
    "flat_csv.py": in_csv,
    "day_sums.py": in_checksum,
    "README.md": in_readme,
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_knows_every_column(place, tmp_path):
    missing = [column.name for column in COLUMNS if not PLACES[place](column, tmp_path)]
    assert not missing, f"{place} does not know {missing}: {PLACES[place].__doc__}"


def test_every_array_of_ticks_is_a_column_of_its_own():
    assert {column.array for column in COLUMNS if column.source} == ARRAYS


@pytest.mark.parametrize("place", PLACES)
def test_a_column_that_a_place_does_not_know_is_found_out(place, tmp_path, monkeypatch):
    forgotten = dataclasses.replace(COLUMNS[5], name="forgotten", array="forgotten")
    monkeypatch.setattr(schema, "COLUMNS", (*COLUMNS, forgotten))
    try:
        assert not PLACES[place](forgotten, tmp_path)
    except (AttributeError, KeyError):
        pass


def test_sql_and_its_decoder_know_every_column(server):
    """The statements in postgres/ with the decoder in tick_reader.py, and stored_sums.py: each array comes as the
    database has it, and its checksum by SQL is the one of the ticks."""
    from tasks.postgres.database import Database
    from tasks.postgres.server import Server
    from tasks.postgres.source_tables import LADDER, TRADED
    from tasks.postgres.tick_reader import Rows

    source = new_source(server)
    source.partition("1970-01-01")
    source.query(
        "INSERT INTO stream_ingest.ladder_levels VALUES ('1.5', 11, 'L', 3, 2.5, 10.25,"
        " '1970-01-01 00:00:01Z', '1970-01-01 00:00:01.5Z')"
    )
    source.query(
        "INSERT INTO stream_ingest.traded_volume VALUES"
        " ('1.5', 12, 3.5, 20.5, '1970-01-01 00:00:02Z', '1970-01-01 00:00:02.7Z')"
    )
    where = Server.from_environment(source.environment)
    with TickReader(where) as reader:
        reader.begin_snapshot()
        found = reader.read(Rows(("1.5",)), None, 10)
    for name in ARRAYS:
        values = getattr(found, name)
        assert np.array_equal(
            values, getattr(TWO_TICKS, name)
        ), f"tick_reader.py reads {name} as {values}. If that is right, make TWO_TICKS in tests/conftest.py have it."
    expected = {traded: sums for _, traded, sums in day_sums.by_day(TWO_TICKS)}
    with Database(where) as database:
        for table in (LADDER, TRADED):
            ((_, _, sums),) = stored_sums.sums(database, table, {"1.5": 10_000_000})
            assert sums == expected[table == TRADED], f"stored_sums.py adds {table} up otherwise"
