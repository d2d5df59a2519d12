"""index.csv: what is written is what is read, nothing else is taken for one, and it needs little memory."""

import csv
import tracemalloc

import pytest

from tasks.errors import UnreadableIndex
from tasks.export_directory import index_csv
from tasks.export_directory.index_csv import COLUMNS, Index, IndexRow
from tasks.export_directory.packed_records import Packed
from tasks.market_files.file_facts import FileFacts
from tasks.storage.layout import Layout

FACTS = FileFacts(1_770_293_454_031_000, 1_770_293_454_031_001, 3, 2, 4711, "0f" * 32)
EMPTY = FileFacts(None, None, 0, 0, 1234, "ab" * 32)


def index_of(layout, facts, event_id=lambda market_id: f"3{market_id[2:]}"):
    packed = Packed(FileFacts)
    packed.update(facts)
    return Index(layout, {market_id: event_id(market_id) for market_id in facts}, packed)


def write(rows, path):
    path.write_bytes(b"".join(index_csv.render(rows)))
    return path


@pytest.mark.parametrize(
    "event_id",
    ["31408543", "", "a,b", 'he said "go"', "two\nlines", "a\rb", "a\r\nb", "\r\n", "é", " ", "NA", "1e3", "007"],
)
@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_what_is_written_is_read(tmp_path, event_id, format):
    rows = index_of(Layout(tmp_path, format), {"1.10": FACTS, "1.9": EMPTY}, lambda _: event_id)
    path = write(rows, tmp_path / "index.csv")
    assert dict(index_csv.read(path)) == dict(rows)
    assert index_csv.read(path)["1.9"] == IndexRow("1.9", event_id, f"markets/marketId=1.9.{format}", EMPTY)
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == list(COLUMNS) and [line[:2] for line in lines[1:]] == [["1.10", event_id], ["1.9", event_id]]


def test_many_rows_are_written_in_order(tmp_path):
    rows = index_of(Layout(tmp_path), {f"1.{number}": FACTS for number in range(7_001)})
    path = write(rows, tmp_path / "index.csv")
    assert [line.split(b",")[0].decode() for line in path.read_bytes().splitlines()[1:]] == sorted(rows)
    assert dict(index_csv.read(path)) == dict(rows)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content + b"\n\n",
        lambda content: content.replace(b"\n", b"\r\n"),
    ],
)
def test_what_a_spreadsheet_program_has_saved_is_read(tmp_path, change):
    rows = index_of(Layout(tmp_path), {"1.10": FACTS, "1.9": EMPTY})
    path = write(rows, tmp_path / "index.csv")
    path.write_bytes(change(path.read_bytes()))
    assert dict(index_csv.read(path)) == dict(rows)


def test_no_file_is_an_empty_index(tmp_path):
    assert not index_csv.read(tmp_path / "index.csv")
    assert not index_csv.read(write(index_of(Layout(tmp_path), {}), tmp_path / "index.csv"))


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda text: "", "has columns"),
        (lambda text: text.replace("event_id", "event"), "has columns"),
        (lambda text: text + "1.7\n", "9 values"),
        (lambda text: text.replace(",4711,", ","), "9 values"),
        (lambda text: text.replace(",4711,", ",4711.0,"), "4711.0"),
        (lambda text: text + text.splitlines()[1] + "\n", "two rows"),
        (lambda text: text.replace("marketId=1.9", "marketId=1.8"), "file_path"),
        (lambda text: text.replace("1.9.parquet", "1.9.jsonl"), "file_path"),
        (lambda text: text.replace("markets/marketId=1.9", "../1.9"), "file_path"),
        (lambda text: text.replace("1.9", "x"), "is not a market id"),
        (lambda text: text.replace(",4711,", f",{1 << 63},"), "64 bits"),
        (lambda text: text.replace("0f" * 32, "0f" * 31), "not a SHA-256"),
        (lambda text: text.replace("0f" * 32, "0g" * 32), "hexadecimal"),
        (lambda text: text.replace("T12:10:54", " 12:10:54"), "not a time"),
        (lambda text: text.replace("1.9,", '"1.9,'), "unexpected end"),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, change, problem):
    path = write(index_of(Layout(tmp_path), {"1.10": FACTS, "1.9": FACTS}), tmp_path / "index.csv")
    path.write_text(change(path.read_text()))
    with pytest.raises(UnreadableIndex, match=problem) as raised:
        index_csv.read(path)
    assert str(path) in str(raised.value)


def test_an_index_takes_little_memory(tmp_path):
    markets = 40_000
    path = write(
        index_of(Layout(tmp_path), {f"1.{200_000_000 + number}": FACTS for number in range(markets)}),
        tmp_path / "index.csv",
    )
    tracemalloc.start()
    try:
        rows = index_csv.read(path)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rows) == markets
    assert held < 750 * markets  # 500 bytes each, and what the table of interned texts happens to grow by
    assert peak < held + 20_000_000


def test_packed_records_are_the_records():
    packed = Packed(FileFacts)
    packed["1.1"], packed["1.2"] = FACTS, EMPTY
    other = Packed(FileFacts)
    other["1.2"] = FileFacts(*EMPTY)
    assert packed != other
    other.take("1.1", packed)
    assert packed == other and packed == {"1.2": EMPTY, "1.1": FACTS} and list(packed) == ["1.1", "1.2"]
    other["1.2"] = FACTS
    assert packed != other and (packed | other)["1.2"] == FACTS and packed["1.2"] == EMPTY
    del other["1.2"]
    assert "1.2" not in other and other.get("1.2") is None and len(other) == 1
    with pytest.raises(ValueError):
        packed["1.3"] = FACTS._replace(tick_records=object())
