"""The recipe "Add a column" done for real: schema.py of a copy of tasks/ has two columns more."""

import csv
import json
import subprocess

import pyarrow.parquet as pq
import pytest

from tasks.ticks import schema
from tests.conftest import Pipeline
from tests.unit.changed_sources import ChangedSources

COLUMNS = """
    Column("ingest_source", TEXT, "which recorder", ladder="one", traded="two"),
    Column("extra", pa.int32(), "a number", "extra", traded=None, source=("level * 3 + selection_id", "0")),
"""


@pytest.fixture
def changed(tmp_path, small):
    """A pipeline whose schema.py declares two columns more, on a database."""
    sources = ChangedSources(tmp_path, small)
    end = ")\n\n\n@dataclasses.dataclass(frozen=True, eq=False)"
    sources.insert("tasks/ticks/schema.py", end, COLUMNS.lstrip("\n"))
    sources.insert("tasks/ticks/schema.py", "\n\n#: The type of the elements of each array", "    extra: Ints\n")
    return sources.pipeline


def test_two_columns_more_by_the_declaration_alone(changed):
    subprocess.run(
        changed.command("ExportAll")[:1]
        + ["-P", "-c", f"from tasks.ticks.schema import COLUMNS; assert len(COLUMNS) == {len(schema.COLUMNS) + 2}"],
        env=changed.full_environment(),
        cwd=changed.output_dir.parent,
        check=True,
    )
    days = []
    for format in ("parquet", "jsonl"):
        pipeline = Pipeline(changed.output_dir.with_name(format), changed.environment)
        for arguments in (
            ("ExportAll", "--format", format),
            ("VerifyExport",),
            ("ConsolidateDay", "--date", "2026-02-05", "--format", format),
        ):
            result = pipeline.run(*arguments)
            assert result.returncode == 0, result.stderr
        assert "VERIFIED" in (pipeline.output_dir / "verification_report.txt").read_text()
        path = pipeline.market("1.101", format)
        rows = (
            pq.read_table(path).to_pylist()
            if format == "parquet"
            else [json.loads(line) for line in path.read_text().splitlines()]
        )
        for row in rows:
            ladder = row["record_type"] == "ladder"
            assert row["ingest_source"] == ("one" if ladder else "two")
            assert row["extra"] == (row["level"] * 3 + row["selection_id"] if ladder else None)
        days.append((pipeline.output_dir / "consolidated_ticks_2026_02_05.csv").read_bytes())
    assert changed.run("ConsolidateDayDirect", "--date", "2026-02-05").returncode == 0
    days.append((changed.output_dir / "consolidated_ticks_2026_02_05.csv").read_bytes())
    assert days[0] == days[1] == days[2]
    header, *lines = csv.reader(days[0].decode().splitlines())
    assert header[-6:-4] == ["ingest_source", "extra"]
    for line in lines:
        row = dict(zip(header, line, strict=True))
        ladder = row["record_type"] == "ladder"
        assert row["ingest_source"] == ("one" if ladder else "two")
        assert row["extra"] == (str(int(row["level"]) * 3 + int(row["selection_id"])) if ladder else "")
