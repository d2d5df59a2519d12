"""Rows that come while a run is under way, with values that no file can hold: they fail their own market alone."""

import re

import pytest

from tests.conftest import Pipeline, index_of
from tests.faults.proxy import StallingProxy

#: Values of rows that come while a run is under way, each to a market of its own.
_LATE = [
    ("ladder_levels", "publish_time", "infinity"),
    ("ladder_levels", "publish_time", "-infinity"),
    ("ladder_levels", "received_time", "294276-12-31 23:59:59.999999+00"),
    ("ladder_levels", "price", "NaN"),
    ("traded_volume", "publish_time", "294276-12-31 23:59:59.999999+00"),
    ("traded_volume", "publish_time", "-infinity"),
    ("traded_volume", "publish_time", "4713-01-01 00:00:00+00 BC"),
    ("traded_volume", "received_time", "infinity"),
    ("traded_volume", "size_traded", "Infinity"),
    ("traded_volume", "price", "NaN"),
]


def late(*columns: str, before: bool = False) -> set[str]:
    """Return the markets whose late row has its value in one of the columns; before: those too with a time before
    all others.
    """
    return {
        f"1.3{number:02}"
        for number, (_, column, value) in enumerate(_LATE)
        if column in columns or before and (value == "-infinity" or value.endswith("BC"))
    }


@pytest.fixture
def recorded(source, tmp_path):
    """A source with a market for each of _LATE and one more, and the pipeline on it."""
    source.partition("2026-02-05")
    source.query("CREATE TABLE stream_ingest.ladder_older PARTITION OF stream_ingest.ladder_levels DEFAULT")
    for number in range(len(_LATE) + 1):
        source.market(f"1.3{number:02}")
        source.message(f"1.3{number:02}", "2026-02-05 10:00:00+00")
    return source, Pipeline(tmp_path / "out", source.environment)


def run_meanwhile(source, pipeline, keeps, task, *options):
    """Run a task; before its first statement with a text is asked, the rows of _LATE come. Return exit code, log."""
    with StallingProxy(int(source.environment["POSTGRES_PORT"]), keeps=keeps) as proxy:
        process = pipeline.start(task, *options, POSTGRES_PORT=str(proxy.port))
        while not proxy.is_kept.wait(0.1):
            assert process.poll() is None, process.stderr.read()
        for number, (table, column, value) in enumerate(_LATE):
            size = "size" if table == "ladder_levels" else "size_traded"
            row = {"selection_id": "1", "price": "5", size: "6"}
            row |= {"publish_time": "2026-02-05 10:00:00+00", "received_time": "2026-02-05 10:00:00+00"}
            row |= {"side": "B", "level": "5"} if table == "ladder_levels" else {}
            row |= {"market_id": f"1.3{number:02}", column: value}
            source.query(
                f"INSERT INTO stream_ingest.{table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
                *row.values(),
            )
        proxy.resume()
        said = process.communicate()[1]
    assert "Traceback" not in said, said
    return process.returncode, said


@pytest.mark.parametrize(
    ("task", "failing"),
    [("ExportAll", late("publish_time", "received_time")), ("ConsolidateDayDirect", late("received_time"))],
)
def test_what_becomes_extreme_before_it_is_read_fails_its_market_alone(recorded, task, failing):
    source, pipeline = recorded
    options = ["--date", "2026-02-05"] if task == "ConsolidateDayDirect" else []
    code, said = run_meanwhile(source, pipeline, b"octet_length(repeat", task, *options)
    assert code == 30, said
    assert (
        set(re.findall(r"arket (1\.3\d\d)(?: failed)?: a row has a (?:publish|received)_time before", said)) == failing
    ), said
    if task == "ExportAll":
        done = set(index_of(pipeline))
    else:
        content = (pipeline.output_dir / "consolidated_ticks_2026_02_05.csv").read_text()
        done = set(re.findall(r",(1\.3\d\d),", content))
    assert done == {f"1.3{number:02}" for number in range(len(_LATE) + 1)} - failing, said


def test_what_becomes_extreme_while_it_is_verified_is_a_difference_of_its_market_alone(recorded):
    source, pipeline = recorded
    assert pipeline.run("ExportAll").returncode == 0
    code, said = run_meanwhile(source, pipeline, b"AS wanted(market, until)", "VerifyExport")
    assert code == 30, said
    report = (pipeline.output_dir / "verification_report.txt").read_text()
    differs = set(re.findall(r"^DIFFERENCE: market (1\.3\d\d)\b", report, re.M))
    assert differs == late("received_time", "price", "size_traded", before=True), report
