"""ConsolidateRange: each day of many, by Luigi's workers and by a Spark cluster, with the bytes of ConsolidateDay."""

import datetime
import signal
import threading
import time

import duckdb
import pytest

from tasks.cluster.shared_days import SharedDay
from tasks.day_csv import day_parts
from tasks.day_csv.consolidation import Consolidation, consolidate
from tasks.day_csv.export_source import ExportSource, indexed, with_ticks
from tasks.market_files.time_span import Span
from tasks.storage.layout import Layout
from tests.conftest import Pipeline, ago
from tests.flow.consolidations import DAY, NEXT, beside, consolidated, report_of
from tests.spark_processes import SparkCluster, free_port

RANGE = ("--from", DAY, "--to", NEXT)


@pytest.fixture
def days(pipeline: Pipeline) -> Pipeline:
    """An export whose days ConsolidateDay has made."""
    assert pipeline.run("ConsolidateDay", "--date", NEXT).returncode == 0
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    return pipeline


def test_each_day_has_the_bytes_of_consolidate_day_and_is_made_once(days, small):
    other = beside(days, "of a range")
    done = other.run("ConsolidateRange", *RANGE, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert [consolidated(other, day) for day in (DAY, NEXT)] == [consolidated(days, day) for day in (DAY, NEXT)]
    stamps = other.stamps()
    again = other.run("ConsolidateRange", *RANGE)
    assert again.returncode == 0 and "Nothing to do: the 2 days" in again.stderr and other.stamps() == stamps
    small.message("1.102", f"{NEXT} 03:30:00+00")
    assert other.run("ConsolidateRange", *RANGE, "--workers", "2").returncode == 0
    changed = {name for name, stamp in other.stamps().items() if stamp != stamps.get(name)}
    assert "consolidated_ticks_2026_02_06.csv" in changed and "consolidated_ticks_2026_02_05.csv" not in changed
    assert other.run("VerifyExport").returncode == 0
    assert other.run("ConsolidateDay", "--date", NEXT).stderr.count("Nothing to do") == 1


def test_a_day_that_fails_is_named_and_stops_no_other(days):
    expected = consolidated(days, NEXT)
    for path in days.output_dir.glob("consolidat*"):
        path.unlink()
    path = days.market("1.103")  # has ticks on the first day only
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    failed = days.run("ConsolidateRange", *RANGE, "--offline")
    assert failed.returncode == 30 and DAY in failed.stderr and path.name in failed.stderr
    assert consolidated(days, NEXT) == expected and not (days.output_dir / "consolidated_ticks_2026_02_05.csv").exists()


@pytest.mark.parametrize("offline", [(), ("--offline",)])
def test_a_day_without_ticks_is_missing_data_and_stops_no_other(days, offline):
    for path in days.output_dir.glob("consolidat*"):
        path.unlink()
    missing = days.run("ConsolidateRange", "--from", DAY, "--to", "2026-02-07", *offline)
    assert missing.returncode == 20 and "There are no ticks on 2026-02-07" in missing.stderr
    assert consolidated(days, DAY) and consolidated(days, NEXT)
    assert not list(days.output_dir.glob("*2026_02_07*"))


def test_a_day_as_parquet_has_the_rows_of_the_csv_typed(days, small):
    small.message("1.101", f"{DAY} 13:30:00+00", prices=(float("nan"), float("inf"), 1.01), size=0.1 + 0.2)
    small.query("UPDATE public.runners SET runner_name = E'a \"b\",\\nc' WHERE market_id = '1.101'")
    found = []
    for rows in ("1500000", "30"):
        for path in days.output_dir.glob("*parquet*"):
            path.unlink()
        done = days.run("ConsolidateRange", *RANGE, "--day-format", "parquet", "--chunk-rows", rows)
        assert done.returncode == 0, done.stderr
        found.append((days.output_dir / "consolidated_ticks_2026_02_05.parquet").read_bytes())
    assert found[0] == found[1]
    assert days.run("ConsolidateDay", "--date", DAY).returncode == 0
    table = duckdb.read_parquet(str(days.output_dir / "consolidated_ticks_2026_02_05.parquet"))
    text = duckdb.read_csv(
        str(days.output_dir / "consolidated_ticks_2026_02_05.csv"),
        header=True,
        dtype={"market_id": "VARCHAR", "event_id": "VARCHAR", "traded_volume": "DOUBLE", "in_play": "BOOLEAN"},
    )
    assert (
        table.columns == text.columns
        and dict(zip(table.columns, table.types))["publish_time"] == "TIMESTAMP WITH TIME ZONE"
    )
    names = ", ".join(f"{name}::varchar" for name in table.columns if "time" not in name and not name.endswith("_at"))
    times = "epoch_us(publish_time), epoch_us(received_at), epoch_us(market_start_time::timestamptz)"
    assert table.project(f"{times}, {names}").fetchall() == text.project(f"{times}, {names}").fetchall()
    assert days.run("VerifyExport").returncode == 0
    assert days.run("Archive", "--offline").returncode == 0
    with open(days.output_dir / "consolidated_ticks_2026_02_06.parquet", "ab") as file:
        file.write(b"x")
    assert days.run("VerifyExport", "--offline").returncode == 30


def test_the_parts_of_a_day_joined_are_the_day(days, tmp_path):
    layout = Layout(days.output_dir)
    span = Span.of_day(datetime.date.fromisoformat(DAY))
    rows = with_ticks(layout, indexed(layout), span)
    expected = consolidate(
        Consolidation(tmp_path / "whole.csv", tmp_path / "whole.txt", span, DAY), ExportSource(layout, rows, span)
    )
    for part_rows in (1, 5, 17, 60, 10**9):
        wanted = Consolidation(tmp_path / "joined.csv", tmp_path / "joined.txt", span, DAY)
        spans = day_parts.cut(rows, span, part_rows)
        assert spans[0].lower_us == span.lower_us and spans[-1].upper_us == span.upper_us
        assert all(one.upper_us == other.lower_us for one, other in zip(spans, spans[1:]))
        assert (len(spans) > 1) == (part_rows < 30)
        parts = [
            day_parts.write_part(layout, rows, wanted, part, tmp_path / f"part {number}")
            for number, part in enumerate(spans)
        ]
        totals = day_parts.join(layout, rows, wanted, parts)
        assert (tmp_path / "joined.csv").read_bytes() == consolidated(days)
        assert (totals.rows, totals.duplicates, totals.first_us, totals.last_us, totals.market_rows.tolist()) == (
            expected.rows,
            expected.duplicates,
            expected.first_us,
            expected.last_us,
            expected.market_rows.tolist(),
        )


@pytest.mark.parametrize("part_rows", [5, 10**9])
def test_a_day_whose_tasks_are_all_repeated_after_they_were_done_is_the_day(days, tmp_path, part_rows):
    layout = Layout(days.output_dir)
    date = datetime.date.fromisoformat(DAY)
    span = Span.of_day(date)
    rows = with_ticks(layout, indexed(layout), span)
    wanted = Consolidation(tmp_path / "again.csv", tmp_path / "again.txt", span, DAY)

    def run(calls):
        for call in calls:
            call()  # its answer gets lost, as with an executor that is killed then
        return [call() for call in calls]

    assert SharedDay(layout, date, rows, wanted, part_rows).make(run) == len(consolidated(days).splitlines()) - 1
    assert (tmp_path / "again.csv").read_bytes() == consolidated(days)
    assert not layout.day_parts_dir.exists() or not list(layout.day_parts_dir.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", NEXT, "--to", DAY), "--from is 2026-02-06, which is after --to"),
        (("--from", "2026-02-30", "--to", NEXT), "--from is '2026-02-30', expected an existing day"),
        ((*RANGE, "--day-format", "avro"), "--day-format is 'avro', expected csv or parquet"),
        ((*RANGE, "--spark-master", "http://host"), "--spark-master is 'http://host', expected the address"),
    ],
)
def test_a_wrong_option_is_one_line(pipeline, options, said):
    failed = pipeline.run("ConsolidateRange", *options)
    assert failed.returncode == 2 and said in failed.stderr and failed.stderr.count("\n") == 1


def test_a_range_up_to_today_is_refused(pipeline):
    failed = pipeline.run("ConsolidateRange", "--from", DAY, "--to", ago(0))
    assert failed.returncode == 2 and "is not over yet in UTC" in failed.stderr and failed.stderr.count("\n") == 1


def test_without_pyspark_a_cluster_is_refused_in_one_line(days):
    for path in days.output_dir.glob("consolidat*"):
        path.unlink()
    (days.output_dir.parent / "hidden").mkdir()
    (days.output_dir.parent / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *r: None if n == 'pyspark' else f(n, *r)"
    )
    failed = days.run(
        *("ConsolidateRange", *RANGE, "--offline", "--spark-master", "local[2]"),
        PYTHONPATH=str(days.output_dir.parent / "hidden"),
    )
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1, failed.stderr
    assert "--spark-master needs pyspark: pip install 'betfair-tick-export[spark]'" in failed.stderr


def test_a_cluster_that_loses_an_executor_makes_the_same_days(spark, days, tmp_path):
    expected = [consolidated(days, day) for day in (DAY, NEXT)]
    reports = [report_of(days, day) for day in (DAY, NEXT)]
    for path in days.output_dir.glob("consolidat*"):
        path.unlink()
    with SparkCluster(memory="1g") as cluster:
        options = "ConsolidateRange", *RANGE, "--offline", "--spark-master", cluster.master, "--part-rows", "9"

        def kill() -> None:
            while not (executors := cluster.executors()):
                time.sleep(0.01)
            time.sleep(3)
            executors[0].kill()

        killer = threading.Thread(target=kill)
        killer.start()
        done = days.run(*options, **SparkCluster.settings(tmp_path / "conf"))
        killer.join()
        assert done.returncode == 0, done.stderr
        assert [consolidated(days, day) for day in (DAY, NEXT)] == expected
        assert not list(days.output_dir.glob(".*tmp")) and not (days.output_dir / ".day_parts").exists()
        for lines, day in zip(reports, (DAY, NEXT)):
            varying = "Duration", "File:", "Condition:"  # offline, it does not know of markets without ticks
            figures = [line for line in lines if not line.startswith(varying)]
            assert figures == [line for line in report_of(days, day) if not line.startswith(varying)]

        path = days.market("1.103")
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        (days.output_dir / "consolidated_ticks_2026_02_06.csv").unlink()
        (days.output_dir / "consolidated_ticks_2026_02_05.csv").unlink()
        failed = days.run(*options)
        assert failed.returncode == 30 and f"{DAY}: " in failed.stderr and "Traceback" not in failed.stderr
        assert path.name in failed.stderr and consolidated(days, NEXT) == expected[1]

        process = days.start(*options)
        while not cluster.executors():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert process.returncode == 130 and "Traceback" not in said, said
    assert days.run("VerifyExport", "--offline").returncode == 30  # 1.103 is damaged; nothing else
    lost = days.run(*options[:-3], f"spark://127.0.0.1:{free_port()}")
    assert lost.returncode == 35 and "no connection (Connection refused)" in lost.stderr
    assert lost.stderr.count("\n") == 1
    without = days.run(*options, JAVA_HOME="/no/java")
    assert without.returncode == 35 and "needs Java 17" in without.stderr and without.stderr.count("\n") == 1
