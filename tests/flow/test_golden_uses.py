"""What later versions make of an export of an earlier one: report, streams, states, publication, restored tables; and
what reports say of their version."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from tasks.export_directory import market_results, market_states
from tests.conftest import Pipeline, index_of, new_source
from tests.flow.conftest import GOLDEN_DAY

DAY_REPORT = f"consolidation_report_{GOLDEN_DAY.replace('-', '_')}.txt"
REPORTS = ("execution_report.txt", "verification_report.txt", DAY_REPORT)
LADDER = "market_id, selection_id, side, level, price, size, publish_time, received_time"
TRADED = "market_id, selection_id, price, size_traded, publish_time, received_time"


def data_of(pipeline):
    """Return the market files, by name."""
    return {name: content for name, content in pipeline.files().items() if name.endswith(f".{pipeline.format}")}


def of_markets(pipeline):
    """Return size and times of everything in markets/."""
    return {name: stamp for name, stamp in pipeline.stamps().items() if name.startswith("markets/")}


def done(result):
    """Return what a run that ended well has said."""
    assert result.returncode == 0 and "damaged" not in result.stderr, result.stderr
    return result.stderr


def test_report_states_streams_and_summary_are_made_of_it_as_of_an_export_of_today(golden):
    before = of_markets(golden)
    fresh = Pipeline(golden.output_dir.with_name("fresh"), golden.environment)
    for pipeline in (golden, fresh):
        for task in ("ExportAll", "BuildStates", "BuildStreams", "BuildRunnerSummary", "Report"):
            done(pipeline.run(task, "--format", golden.format))
    assert of_markets(golden) == before, "not one market file or metadata written again"
    made, expected = golden.files(), fresh.files()
    for name in expected:
        if name.startswith(("states/", "streams/")) and not name.endswith(".json") or name == "runner_summary.csv":
            assert made[name] == expected[name], name
    assert {"condition.json", "runner_summary.parquet"} <= made.keys() and made["condition.json"] == expected[
        "condition.json"
    ]
    assert sum(name.startswith("streams/") and name.endswith(".bz2") for name in made) == len(index_of(golden))
    done(golden.run("VerifyExport"))
    market_id = next(iter(index_of(golden)))
    done(golden.run("PlotMarket", "--market-id", market_id))
    told = done(golden.run("ExportAll", "--format", golden.format))
    assert "No market file had to be written" in told, "the page links to the plot now"
    for task in ("ExportAll", "BuildStates", "BuildStreams", "BuildRunnerSummary", "Report"):
        assert "Nothing to do" in done(golden.run(task, "--format", golden.format)), task


def test_it_is_published_and_fetched(golden):
    before, address = data_of(golden), f"file://{golden.output_dir.parent}/shelf"
    (golden.output_dir.parent / "shelf").mkdir()
    done(golden.run("Publish", "--offline", "--to", address))
    fetched = Pipeline(golden.output_dir.with_name("fetched"), golden.environment)
    done(fetched.run("Fetch", "--from", address))
    fetched.format = golden.format
    assert data_of(fetched) == before
    done(fetched.run("VerifyExport"))


def test_it_is_restored_row_by_row(golden, server, recorded):
    other = new_source(server, schema=False)
    done(golden.run("Restore", "--schema", "restored", **other.environment))
    for table, columns in (("ladder_levels", LADDER), ("traded_volume", TRADED)):
        rows = [
            sorted(source.query(f"SELECT {columns} FROM {schema}.{table}"))
            for source, schema in ((recorded, "stream_ingest"), (other, "restored"))
        ]
        assert rows[0] == rows[1] and rows[0]


def test_its_reports_say_no_version_and_are_read_and_those_of_today_say_theirs(golden):
    paths = [golden.output_dir / name for name in REPORTS]
    assert not any("Format version" in path.read_text() for path in paths if path.exists())
    done(golden.run("VerifyExport"))
    assert "Nothing to do" in done(golden.run("ConsolidateDay", "--offline", "--date", GOLDEN_DAY))
    shutil.rmtree(golden.output_dir / "markets")
    for path in (golden.output_dir / "index.csv", golden.output_dir / "execution_report.txt"):
        path.unlink()
    for task in (("ExportAll",), ("ConsolidateDay", "--date", GOLDEN_DAY), ("VerifyExport",)):
        done(golden.run(*task, *([] if task == ("VerifyExport",) else ["--format", golden.format])))
    if golden.format == "parquet":  # its files are others now, so the day was made again
        assert all(re.findall("^Format version: (.*)$", path.read_text(), re.M) == ["1"] for path in paths)
    page = (golden.output_dir / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    condition = json.loads((golden.output_dir / "condition.json").read_text())
    assert data["schema_version"] == condition["schema_version"] == 1


def test_a_consolidation_report_of_a_version_to_come_is_left_alone_with_its_csv(golden):
    report = golden.output_dir / DAY_REPORT
    csv = golden.output_dir / f"consolidated_ticks_{GOLDEN_DAY.replace('-', '_')}.csv"
    report.write_text(f"Format version: 2\n{report.read_text()}")
    csv.write_bytes(csv.read_bytes() + b"more\n")
    before = golden.stamps()
    for task in (
        ("ConsolidateDay", "--date", GOLDEN_DAY, "--format", golden.format),
        ("ConsolidateDay", "--date", GOLDEN_DAY, "--offline"),
        ("ConsolidateDayDirect", "--date", GOLDEN_DAY),
        ("Archive", "--offline"),
        ("VerifyExport", "--offline"),
    ):
        result = golden.run(*task)
        assert result.returncode == 30 and "Update the pipeline" in result.stderr, (task, result.stderr)
        assert "Traceback" not in result.stderr and DAY_REPORT in result.stderr
        after = golden.stamps()
        assert (after[DAY_REPORT], after[csv.name]) == (before[DAY_REPORT], before[csv.name]), task
    assert not list(golden.output_dir.parent.glob("*.tar.gz"))


@pytest.mark.parametrize("kind", ["states", "results"])
def test_states_of_a_version_to_come_are_left_alone(golden, kind):
    done(golden.run("ExportAll", "--format", golden.format))
    done(golden.run("BuildStates", "--format", golden.format))
    path, *_ = sorted((golden.output_dir / "states").glob("marketId=*.parquet"))
    if kind == "results":
        path = path.with_name("results.parquet")
        path.write_bytes(market_results.render([]))
    table = pq.read_table(path)
    assert table.schema.equals(market_results.SCHEMA if kind == "results" else market_states.SCHEMA)
    pq.write_table(table.append_column("note", [["x"] * len(table)]), path)
    newer = path.read_bytes()
    result = golden.run("BuildStates", "--format", golden.format)
    assert result.returncode == 30 and "Update the pipeline" in result.stderr, result.stderr
    assert path.read_bytes() == newer and "Delete" not in result.stderr and "Traceback" not in result.stderr
