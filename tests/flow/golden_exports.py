"""What tests ask of an export: its market files, their ticks and versions; a program of a later version."""

import csv
import io
import json
import shutil

import pyarrow.parquet as pq

from tasks.market_files import market_file
from tasks.ticks.schema import COLUMNS, FORMAT_VERSION
from tests.conftest import ROOT


def market_files(pipeline):
    """Return the bytes of all market files, by name."""
    return {path.name: path.read_bytes() for path in (pipeline.output_dir / "markets").glob(f"*.{pipeline.format}")}


def ticks_in(pipeline, market_id):
    """Return the rows of a market file as a reader gets them, without columns that came after version 1."""
    path = pipeline.market(market_id, pipeline.format)
    if pipeline.format == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = pq.read_table(path).to_pylist()
    later = {column.name for column in COLUMNS if column.since > 1}
    return [{name: value for name, value in row.items() if name not in later} for row in rows]


def versions(pipeline):
    """Return the format versions of all market files."""
    paths = (pipeline.output_dir / "markets").glob(f"*.{pipeline.format}")
    return {market_file.version(path) for path in paths}


def with_columns_of(older, content):
    """Return a CSV without the columns that an older one does not have, which came later."""
    (known, *_), (names, *rows) = (csv.reader(text.decode().splitlines()) for text in (older, content))
    if known == names:
        return content
    out = io.StringIO()
    places = [names.index(name) for name in known]
    csv.writer(out, lineterminator="\n").writerows([row[place] for place in places] for row in (names, *rows))
    return out.getvalue().encode()


def a_newer_program(directory):
    """Write the sources of a version to come: one column more."""
    shutil.copytree(ROOT / "tasks", directory / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", directory / "config")
    shutil.copy(ROOT / "luigi.cfg", directory)
    schema = directory / "tasks" / "ticks" / "schema.py"
    text = schema.read_text()
    end = "\n)\n\n\n@dataclasses.dataclass(frozen=True, eq=False)"
    version, last = f"FORMAT_VERSION = {FORMAT_VERSION}\n", "\n\n#: The type of the elements of each array"
    assert text.count(end) == text.count(version) == text.count(last) == 1
    newer = FORMAT_VERSION + 1
    column = f'Column("extra", pa.int32(), "one more", "extra", source=("7", "8"), since={newer}),\n'
    text = text.replace(end, f"\n    {column}{end[1:]}").replace(version, f"FORMAT_VERSION = {newer}\n")
    schema.write_text(text.replace(last, "    extra: Ints\n" + last))
    return {"PYTHONPATH": str(directory)}
