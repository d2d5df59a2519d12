"""What tests ask of an export: its market files, their ticks and versions; a program of a later version."""

import json
import shutil

import pyarrow.parquet as pq

from tasks.market_files import market_file
from tasks.ticks.schema import FORMAT_VERSION
from tests.conftest import ROOT


def market_files(pipeline):
    """Return the bytes of all market files, by name."""
    return {path.name: path.read_bytes() for path in (pipeline.output_dir / "markets").glob(f"*.{pipeline.format}")}


def ticks_in(pipeline, market_id):
    """Return the rows of a market file as a reader gets them."""
    path = pipeline.market(market_id, pipeline.format)
    if pipeline.format == "jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return pq.read_table(path).to_pylist()


def versions(pipeline):
    """Return the format versions of all market files."""
    paths = (pipeline.output_dir / "markets").glob(f"*.{pipeline.format}")
    return {market_file.version(path) for path in paths}


def a_newer_program(directory):
    """Write the sources of a version to come: one column more."""
    shutil.copytree(ROOT / "tasks", directory / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", directory / "config")
    shutil.copy(ROOT / "luigi.cfg", directory)
    schema = directory / "tasks" / "ticks" / "schema.py"
    text = schema.read_text()
    end = "\n)\n\n\n@dataclasses.dataclass(frozen=True, eq=False)"
    version, last = f"FORMAT_VERSION = {FORMAT_VERSION}\n", "    size: npt.NDArray[np.float64]\n"
    assert text.count(end) == text.count(version) == text.count(last) == 1
    column = 'Column("extra", pa.int32(), "one more", "extra", source=("7", "8"), since=3),\n'
    text = text.replace(end, f"\n    {column}{end[1:]}").replace(version, "FORMAT_VERSION = 3\n")
    schema.write_text(text.replace(last, last + "    extra: Ints\n"))
    return {"PYTHONPATH": str(directory)}
