"""Market files: the same bytes however the ticks were handed over, exact values, damage told apart."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import tasks.market_files.parquet
import tasks.market_files.text_lines
from tasks.errors import DamagedFile, UsageError
from tasks.exporting import refresh
from tasks.market_files import formats, market_file
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.market_file import MarketWriter
from tasks.ticks import schema
from tasks.ticks.tick_arrays import TRADED, Ticks
from tests.conftest import BY_HAND, made_of


def many(messages: int, seed: int = 1, first: int = 0) -> Ticks:
    """Return messages of 20 ladder rows and 10 traded rows each, one a second."""
    random = np.random.default_rng(seed)
    times = np.repeat(1_770_000_000_000_000 + 1_000_000 * np.arange(first, first + messages), 30)
    count = len(times)
    side = np.tile(np.r_[np.zeros(10), np.ones(10), np.full(10, TRADED)], messages).astype(np.int8)
    level = np.where(side == TRADED, 0, np.tile(np.arange(30) % 8, messages)).astype(np.int16)
    price = np.round(1.01 + np.tile(np.arange(30), messages) * 0.02, 2)
    return made_of(
        np.zeros(count, np.int64),
        times,
        times + 13_000 + random.integers(0, 9, count),
        np.tile(np.arange(30) // 8 + 7, messages),
        side,
        level,
        price,
        np.round(random.random(count) * 1000, 2),
    ).sorted()


def write(path: Path, ticks: Ticks, cuts: tuple[int, ...] = ()) -> FileFacts:
    """Write ticks to a market file in pieces that end at those messages."""
    with MarketWriter(path, "1.5") as writer:
        edges = [0, *(cut * 30 for cut in cuts), len(ticks)]
        for start, stop in zip(edges, edges[1:]):
            writer.write(ticks[start:stop])
        facts, _ = writer.finish(0)
        writer.file.flush_to_disk()
        writer.file.publish()
    return facts


@pytest.mark.parametrize("format", BY_HAND)
def test_bytes_do_not_depend_on_the_pieces(tmp_path, format, monkeypatch):
    monkeypatch.setattr(tasks.market_files.parquet, "ROW_GROUP_ROWS", 1_000)
    ticks = many(500)
    facts = [
        write(tmp_path / f"{number}.{format}", ticks, cuts)
        for number, cuts in enumerate([(), (1,), (100, 101, 300), tuple(range(1, 500)), (250,)])
    ]
    assert len(set(facts)) == 1
    assert facts[0].checksum == hashlib.sha256((tmp_path / f"0.{format}").read_bytes()).hexdigest()
    assert facts[0].tick_records == 15_000 and facts[0].messages == 500


def test_row_groups_are_cut_at_fixed_counts_with_the_time_range_in_their_statistics(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.market_files.parquet, "ROW_GROUP_ROWS", 1_000)
    write(tmp_path / "x.parquet", many(100))
    metadata = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [1000, 1000, 1000]
    column = schema.SCHEMA.get_field_index("publish_time")
    ranges = [metadata.row_group(number).column(column).statistics for number in range(3)]
    assert ranges[0].min < ranges[0].max <= ranges[1].min < ranges[1].max <= ranges[2].min
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("format", BY_HAND)
def test_what_is_written_is_read_and_inspected(tmp_path, format):
    path, ticks = tmp_path / f"x.{format}", many(50)
    facts = write(path, ticks)
    again = Ticks.concatenate(list(market_file.read(path)))
    for name in ("publish_time", "received_at", "selection_id", "side", "level", "price", "size"):
        assert np.array_equal(getattr(again, name), getattr(ticks, name)), name
    assert market_file.inspect(path, "1.5") == facts


@pytest.mark.parametrize("format", BY_HAND)
def test_no_ticks_is_a_valid_file(tmp_path, format):
    facts = write(tmp_path / f"x.{format}", Ticks.empty())
    assert (facts.tick_records, facts.messages, facts.first_tick, facts.last_tick) == (0, 0, None, None)
    assert market_file.inspect(tmp_path / f"x.{format}", "1.5") == facts
    if format == "parquet":
        assert pq.read_table(tmp_path / "x.parquet").schema.equals(schema.SCHEMA)
    else:
        assert facts.size_bytes == 0


def test_jsonl_lines_are_what_the_contract_says(tmp_path):
    ticks = many(1)[18:22]
    write(tmp_path / "x.jsonl", ticks)
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [[column.name for column in schema.COLUMNS]] * 4
    table = ticks.to_table("1.5", ticks.sequence()).to_pylist()
    for line, row in zip(lines, table, strict=True):
        for name in ("received_at", "publish_time"):
            row[name] = row[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert line == row


def test_numbers_that_json_does_not_have_survive(tmp_path):
    ticks = many(1)
    ticks.price[:3], ticks.size[-3:] = [math.nan, math.inf, -math.inf], [math.nan, -math.inf, 0.1 + 0.2]
    path = tmp_path / "x.jsonl"
    write(path, ticks)
    text = path.read_text()
    assert '"price":"NaN"' in text and '"price":"-Infinity"' in text and '"traded_volume":0.30000000000000004' in text
    again = Ticks.concatenate(list(market_file.read(path)))
    assert np.array_equal(again.price, ticks.price, equal_nan=True) and np.array_equal(
        again.size, ticks.size, equal_nan=True
    )


DAMAGE = {
    "junk": lambda content: b"junk" * 100,
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2 - 7],
    "a byte flipped": lambda content: content[:200] + bytes([content[200] ^ 0x80]) + content[201:],
}


@pytest.mark.parametrize("format", BY_HAND)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(tmp_path, format, damage):
    if format == "jsonl" and damage == "empty":
        return  # that is the file of a market without ticks; only the index knows better
    path = tmp_path / f"x.{format}"
    write(path, many(50))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(DamagedFile, match=str(path)):
        market_file.inspect(path, "1.5")


@pytest.mark.parametrize("format", BY_HAND)
def test_another_markets_file_is_damage(tmp_path, format):
    write(tmp_path / f"x.{format}", many(5))
    with pytest.raises(DamagedFile, match="holds market 1.5, expected 1.6"):
        market_file.inspect(tmp_path / f"x.{format}", "1.6")


@pytest.mark.parametrize("format", BY_HAND)
def test_ticks_out_of_order_are_damage(tmp_path, format):
    write(tmp_path / f"a.{format}", many(5))
    if format == "jsonl":
        lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "a.jsonl").write_bytes(b"".join(reversed(lines)))
    else:
        table = pq.read_table(tmp_path / "a.parquet")
        pq.write_table(table.take(list(range(len(table)))[::-1]), tmp_path / "a.parquet")
    with pytest.raises(DamagedFile, match="publish_time goes back"):
        market_file.inspect(tmp_path / f"a.{format}", "1.5")


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), MarketWriter(tmp_path / "x.parquet", "1.5") as writer:
        writer.write(many(1))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", BY_HAND)
@pytest.mark.parametrize("piece", [1, 17, 45, 1_000_000])
@pytest.mark.parametrize("dropped", [0, 30, 100])
def test_a_refresh_in_any_slices_equals_writing_it_all(tmp_path, monkeypatch, format, piece, dropped):
    """The file has messages 0 to 99, the database those from `dropped` on and 50 new ones."""
    monkeypatch.setattr(refresh, "_PIECE_ROWS", piece)
    monkeypatch.setattr(tasks.market_files.parquet, "_READ_ROWS", 64)
    monkeypatch.setattr(tasks.market_files.text_lines, "_BLOCK_BYTES", 10_000)
    whole = many(150)
    path = tmp_path / f"x.{format}"
    write(path, whole[:3000])
    wanted = write(tmp_path / f"whole.{format}", whole)
    database = whole[dropped * 30 :]
    bounds = [int(database.publish_time[row]) for row in (0, 40, len(database) // 2)]
    older = refresh.OlderTicks(path)
    with MarketWriter(tmp_path / f"y.{format}", "1.5") as writer:
        for lower, upper in zip([None, *bounds], [*bounds, None]):
            times = database.publish_time
            chosen = ((times >= lower) if lower is not None else True) & (
                (times < upper) if upper is not None else np.True_
            )
            for ticks in refresh.merged(database[np.broadcast_to(chosen, len(database))], older, upper):
                writer.write(ticks)
        facts, _ = writer.finish(0)
    assert facts == wanted


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"price":"NaN",', b""),
        lambda line: line.replace(b'"price":"NaN"', b'"price":"abc"'),
        lambda line: line.replace(b'"selection_id":', b'"selection_id":99999999999999999999'),
        lambda line: line.replace(b"{", b'{"extra":1,', 1),
        lambda line: b"[]\n",
        lambda line: b"NaN\n",
        lambda line: line.replace(b'"received_at":"', b'"received_at":"x'),
    ],
)
def test_damage_among_numbers_that_json_does_not_have_is_found(tmp_path, change):
    ticks = many(3)
    ticks.price[:] = math.nan
    path = tmp_path / "x.jsonl"
    write(path, ticks)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], change(lines[1]), lines[2]]))
    with pytest.raises(DamagedFile, match=str(path)):
        market_file.inspect(path, "1.5")


def test_a_format_is_known_by_its_name_or_refused(tmp_path):
    for name in formats.NAMES:
        assert formats.named(name) is formats.of(tmp_path / f"marketId=1.5.{name}")
    for ask in (lambda: formats.named("xls"), lambda: formats.of(tmp_path / "marketId=1.5.xls")):
        with pytest.raises(UsageError, match=f"no market file format 'xls'. Known are {', '.join(formats.NAMES)}"):
            ask()
    with pytest.raises(UsageError):
        MarketWriter(tmp_path / "marketId=1.5.xls", "1.5")
    with pytest.raises(UsageError):
        list(market_file.read(tmp_path / "marketId=1.5.xls"))
    assert not list(tmp_path.iterdir())
