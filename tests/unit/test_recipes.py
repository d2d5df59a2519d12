"""docs/architecture.md says what is so: what it names exists, and its recipe for a format works."""

import re

import pyarrow as pa
import pyarrow.csv
import pytest

import tasks
from tasks.errors import DamagedFile
from tasks.export_directory import directory_scan
from tasks.export_directory.index_csv import IndexRow
from tasks.export_directory.inventory import Inventory, take_inventory
from tasks.export_directory.journal import Journal, Written
from tasks.market_files import formats, market_file
from tasks.market_files.format_versions import version_of_names
from tasks.market_files.market_file import MarketWriter
from tasks.market_files.text_lines import TextFormat
from tasks.market_files.time_span import Span
from tasks.storage.layout import Layout
from tasks.ticks.schema import COLUMNS, FORMAT_VERSION, SCHEMA, columns_of
from tasks.ticks.tick_arrays import Ticks
from tasks.verification.market_check import check_market
from tests.conftest import ROOT, TWO_TICKS

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_file_and_package_on_the_page_exists():
    for name in re.findall(r"`((?:tasks|tests|docs|config)/[\w./*]*)`", PAGE):
        assert list(ROOT.glob(name)), name
    modules = {path.name for path in (ROOT / "tasks").rglob("*.py")}
    for name in re.findall(r"`(?:\w+/)*(\w+\.py)`", PAGE):
        assert name in modules or list((ROOT / "tests").rglob(name)), name
    for name in re.findall(r"`(workflow|postgres|day_csv|command_line)/(\w+\.py)`", PAGE):
        assert (ROOT / "tasks" / name[0] / name[1]).exists(), name


def test_every_package_is_on_the_page():
    for package in (path for path in (ROOT / "tasks").iterdir() if (path / "__init__.py").exists()):
        assert f"`tasks/{package.name}`" in PAGE, package


WHOLE = {"IndexedExportTask", "WholeExportTask"}


def test_every_name_in_the_recipes_exists():
    for name, path in (
        ("class MarketFormat", "tasks/market_files/market_format.py"),
        ("class TextFormat", "tasks/market_files/text_lines.py"),
        ("_ALL:", "tasks/market_files/formats.py"),
        ("COLUMNS =", "tasks/ticks/schema.py"),
        *((f"class {name}", "tasks/whole_export.py") for name in WHOLE),
        *((f"class {name}", "tasks/workflow/base_task.py") for name in {*re.findall(r"`(\w+Task)`", PAGE)} - WHOLE),
    ):
        assert name in (ROOT / path).read_text(), (name, path)
    assert tasks.PUBLIC and "PUBLIC" in PAGE


def test_a_file_that_the_layout_owns_is_no_stray(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("a page")
    layout = Layout(tmp_path)
    assert take_inventory(layout, ()).strays == ["page.html"]
    monkeypatch.setattr(Layout, "own_files", (layout.index, tmp_path / "page.html"))
    assert take_inventory(layout, ()) == Inventory({"page.html": 6}, [], [])


class Csv(TextFormat):
    """Comma-separated values with a header."""

    name = "csv"
    row_bytes = 150

    def head(self, version=FORMAT_VERSION):
        return ",".join(column.name for column in columns_of(version)).encode() + b"\n"

    def version(self, path):
        with open(path, "rb") as file:
            return version_of_names(file.readline().decode(errors="replace").rstrip("\n").split(","), path)

    def text(self, ticks, market_id, sequence, version=FORMAT_VERSION):
        out = pa.BufferOutputStream()
        pyarrow.csv.write_csv(
            ticks.to_table(market_id, sequence),
            out,
            pyarrow.csv.WriteOptions(include_header=False, quoting_style="none"),
        )
        yield out.getvalue()

    def parse(self, lines, path):
        types = {column.name: pa.string() if column.is_text else column.type for column in COLUMNS}
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(lines),
                pyarrow.csv.ReadOptions(column_names=SCHEMA.names, use_threads=False),
                convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True),
            )
        except pa.ArrowException as error:
            raise DamagedFile(f"{path}: {error}") from None
        return table.combine_chunks().to_batches()[0]

    def time_of(self, line):
        return line.decode().split(",")[1].replace(" ", "T")


@pytest.fixture
def csv(monkeypatch):
    """The registry with one entry more."""
    monkeypatch.setitem(formats._BY_NAME, "csv", Csv())
    monkeypatch.setattr(formats, "NAMES", (*formats.NAMES, "csv"))


def test_a_format_is_a_class_and_an_entry(csv, tmp_path):
    layout = Layout(tmp_path, "csv")
    path = layout.market_file("1.5")
    path.parent.mkdir()
    with MarketWriter(path, "1.5") as writer:
        writer.write(TWO_TICKS)
        facts, stat = writer.finish(0)
        Journal(layout.journal_dir).written(Written("1.5", "new", stat, facts))
        writer.file.publish()
    header, *lines = path.read_text().splitlines()
    assert header.split(",") == SCHEMA.names and len(lines) == facts.tick_records == 2
    assert vars(Ticks.concatenate(list(market_file.read(path)))).keys() == vars(TWO_TICKS).keys()
    (part,) = market_file.read_span(path, 0, Span(2_000_000, 3_000_000), 10)
    assert part.price.tolist() == [3.5]
    assert market_file.inspect(path, "1.5") == facts
    disk = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
    directory_scan.publish_index(layout, disk, directory_scan.index_rows(layout, disk, {"1.5": "30"}))
    row = IndexRow("1.5", "30", "markets/marketId=1.5.csv", facts)
    assert not check_market(path, row).differences
    text = path.read_text()
    path.write_text(text.replace("3.5", "3.6"))
    assert {difference.what for difference in check_market(path, row).differences} == {"checksum"}
    path.write_text(text.replace(header, ",".join(sorted(SCHEMA.names))))
    assert {difference.what for difference in check_market(path, row).differences} == {"checksum", "content"}
    with pytest.raises(DamagedFile, match="begins with b'.*', expected b'received_at,"):
        list(market_file.batches(path))
    with pytest.raises(DamagedFile, match="begins with"):
        list(market_file.read_span(path, 0, Span(2_000_000, 3_000_000), 10))
