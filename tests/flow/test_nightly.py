"""`nightly`, as cron starts it: on days that are counted from today, since it takes the date from the clock."""

import os
import re
import shutil
import subprocess
import sys

import filelock
import pytest

import tasks.every_task  # noqa: F401  (Luigi knows the tasks that are loaded)
from tasks.command_line.nightly import nightly
from tests.conftest import ROOT, Pipeline, Source, ago, new_source


def record(source: Source, *days: int) -> None:
    """Record days, counted back from today: a market of each, and one that goes on past each midnight."""
    for number in days:
        day = ago(number)
        source.partition(day)
        source.market(f"1.{500 + number}")
        source.message(f"1.{500 + number}", f"{day} 12:00:00.5+00")
        for time in ("00:00:00+00", "23:59:59.999+00"):
            source.message("1.400", f"{day} {time}")


def csvs(pipeline: Pipeline) -> dict[str, int]:
    """Return the days that have a CSV, with its rows."""
    return {
        path.stem.removeprefix("consolidated_ticks_").replace("_", "-"): len(path.read_bytes().splitlines()) - 1
        for path in sorted(pipeline.output_dir.glob("consolidated_ticks_*.csv"))
    }


@pytest.fixture
def recorder(server) -> Source:
    """A source with one market that all days share."""
    source = new_source(server)
    source.market("1.400")
    return source


@pytest.fixture
def night(recorder, tmp_path) -> Pipeline:
    """The pipeline between the recorder and an output directory."""
    return Pipeline(tmp_path / "out", recorder.environment)


def test_yesterday_the_day_before_and_again_and_missed_nights(night, recorder):
    record(recorder, 6, 5)
    recorder.query("DROP TABLE stream_ingest.ladder_" + ago(6).replace("-", ""))  # dropped before anybody exported it
    recorder.query("DELETE FROM stream_ingest.traded_volume WHERE publish_time < %s", f"{ago(5)} 00:00+00")
    record(recorder, 4, 2, 1)  # the recorder was down three days ago
    first = night.run("nightly", "--workers", "2")
    assert first.returncode == 0, first.stderr
    assert csvs(night) == {ago(2): 21, ago(1): 21}
    assert f"nightly: {ago(2)} done, {ago(1)} done." in first.stderr
    before = night.stamps()
    again = night.run("nightly")
    assert again.returncode == 0 and night.stamps() == before
    assert again.stderr.count("Nothing to do") == 3, "two days and the report"
    late = night.run("nightly", "--catch-up", "6")
    assert late.returncode == 20 and csvs(night) == {ago(5): 21, ago(4): 21, ago(2): 21, ago(1): 21}, late.stderr
    for number in (6, 3):
        assert f"There are no ticks on {ago(number)} (UTC) in the database or in a market file." in late.stderr
    assert (
        f"nightly: {ago(6)} no ticks, {ago(5)} done, {ago(4)} done, {ago(3)} no ticks, {ago(2)} done, {ago(1)} done."
        in late.stderr
    ) and "Traceback" not in late.stderr
    of_all = {"index.csv", "condition.json", "report.html"}
    assert {name: stamp for name, stamp in night.stamps().items() if name in before.keys() - of_all} == {
        name: stamp for name, stamp in before.items() if name not in of_all
    }, "days that were there were made again"
    alone = Pipeline(night.output_dir.parent / "alone", night.environment)
    assert alone.run("ExportAll").returncode == 0
    for number in (5, 4, 2, 1):
        assert alone.run("ConsolidateDay", "--date", ago(number)).returncode == 0
    assert {name: text for name, text in night.files().items() if "report" not in name} == {
        name: text for name, text in alone.files().items() if "report" not in name
    }


def test_a_day_without_ticks_stops_no_other_and_counts_once(night, recorder):
    record(recorder, 2)
    down = night.run("nightly", "--format", "jsonl")
    assert (
        down.returncode == 20 and csvs(night) == {ago(2): 21} and night.market("1.502", "jsonl").exists()
    ), down.stderr
    assert (
        f"no ticks on {ago(1)} (UTC)" in down.stderr
        and f"ERROR   nightly: {ago(2)} done, {ago(1)} no ticks." in down.stderr
    )
    other = Pipeline(night.output_dir.parent / "other", night.environment)
    recorder.query("DROP TABLE stream_ingest.ladder_" + ago(2).replace("-", ""))
    recorder.query("DELETE FROM stream_ingest.traded_volume")
    record(recorder, 1)
    next_night = other.run("nightly")  # the day before is looked at once more, and was told the night before
    assert (
        next_night.returncode == 0
        and csvs(other) == {ago(1): 21}
        and f"no ticks on {ago(2)} (UTC)" in next_night.stderr
    )
    assert other.run("nightly", "--catch-up", "2").returncode == 20, "a day that was asked for"


def test_late_ticks_of_the_day_before_make_it_anew(night, recorder):
    record(recorder, 2, 1)
    assert night.run("nightly").returncode == 0
    kept = (night.output_dir / f"consolidated_ticks_{ago(1).replace('-', '_')}.csv").stat().st_ino
    recorder.message("1.502", f"{ago(2)} 12:00:01+00")
    result = night.run("nightly")
    assert result.returncode == 0 and csvs(night) == {ago(2): 28, ago(1): 21}, result.stderr
    assert (night.output_dir / f"consolidated_ticks_{ago(1).replace('-', '_')}.csv").stat().st_ino == kept


def test_a_database_that_is_down_is_told_once(night):
    result = night.run("nightly", "--catch-up", "5", POSTGRES_PORT="1")
    errors = [line for line in result.stderr.splitlines() if "rror" in line]
    assert (
        result.returncode == 35 and len(errors) == 1 and "127.0.0.1" in errors[0] and "Traceback" not in result.stderr
    ), result.stderr
    assert not night.files()


def test_a_full_disk_fails_clearly_and_the_next_night_carries_on(night, recorder):
    record(recorder, 2, 1)
    recorder.message(
        "1.501",
        f"{ago(1)} 13:00+00",
        prices=tuple(1 + n / 100 for n in range(8)),
        traded=tuple(1 + n / 100 for n in range(300)),
    )

    result = night.run_on_a_small_disk("nightly", 20_000)
    assert (
        result.returncode == 30 and "Traceback" not in result.stderr and "File too large" in result.stderr
    ), result.stderr
    assert f"nightly: {ago(2)} done, {ago(1)} FAILED (exit code 30)." in result.stderr
    assert csvs(night) == {ago(2): 21} and not list(night.output_dir.rglob("*.tmp"))
    assert night.run("nightly").returncode == 0 and csvs(night) == {ago(2): 21, ago(1): 337}


def test_a_second_start_exits_10_and_touches_nothing(night, recorder):
    record(recorder, 2, 1)
    night.output_dir.mkdir()
    with filelock.FileLock(night.output_dir / ".lock"):
        result = night.run("nightly")
    assert (
        result.returncode == 10 and result.stderr.count("Another run works in") == 1 and not night.files()
    ), result.stderr
    assert night.run("nightly").returncode == 0


def test_mistakes_end_with_2_and_the_way_out(capsys):
    for arguments, words in (
        (["--catch-up", "-1"], "--catch-up is '-1'"),
        (["--catch-up", "367"], "from 0 to 366"),
        (["--catch-up"], "expected one argument"),
        (["--date", "2026-02-05"], "nightly determines the days itself"),
        (["--offline"], "--offline makes no sense"),
        (["--format", "csv"], "--format is 'csv'"),
    ):
        with pytest.raises(SystemExit) as end:
            nightly(arguments)
        error = capsys.readouterr().err
        assert end.value.code == 2 and words in error and error.count("\n") == 1, (arguments, error)


def test_help_names_every_exit_code(capsys):
    with pytest.raises(SystemExit) as end:
        nightly(["--help"])
    text = capsys.readouterr().out
    assert not end.value.code and set(re.findall(r"(?:^|  )(\d+) +\w", text, re.MULTILINE)) == {
        "0",
        "2",
        "10",
        "20",
        "25",
        "30",
        "35",
        "40",
    }


def test_cron_gives_next_to_nothing(night, recorder, tmp_path):
    """The wrapper itself under `env -i`, in a copy of the project: settings from .env alone, another working
    directory.
    """
    record(recorder, 2, 1)
    project = tmp_path / "project"
    for name in ("tasks", "config"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("luigi.cfg", "setup.cfg", "pyproject.toml", "run_pipeline.sh"):
        shutil.copy(ROOT / name, project)
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={project} exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    made_from = subprocess.run(
        "cat setup.cfg pyproject.toml config/*.txt | cksum",
        shell=True,
        cwd=project,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (project / ".venv" / "made-from").write_text(made_from)
    (project / ".env").write_text("".join(f"{name}={value}\n" for name, value in recorder.environment.items()))
    for number, bare in enumerate(
        (["PATH=/usr/bin:/bin"], ["PATH=/usr/bin:/bin", "HOME=/nonexistent", "SHELL=/bin/sh", "LOGNAME=nobody"])
    ):
        out = tmp_path / f"bare {number}"
        result = subprocess.run(
            ["env", "-i", *bare, str(project / "run_pipeline.sh"), "nightly", "--output-dir", str(out)],
            cwd="/",
            env=dict(os.environ),
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
        assert csvs(Pipeline(out, {})) == {ago(2): 21, ago(1): 21}


def record_whole_days(source: Source, days: range, markets: int = 4) -> None:
    """Record days, counted back from today: markets that are open from midnight to midnight, a message every 3 min."""
    for number in days:
        day = ago(number)
        source.partition(day)
        for market in range(markets):
            market_id = f"1.{number}{market}"
            source.market(market_id, runners=((1, "One"),))
            source.query("UPDATE public.markets SET market_start_time = %s WHERE market_id = %s", day, market_id)
            source.query(
                """INSERT INTO stream_ingest.ladder_levels
                   SELECT %s, 1, side, 0, CASE side WHEN 'B' THEN 2.0 ELSE 2.02 END, 5, t, t + interval '9 ms'
                     FROM generate_series(timestamptz %s, timestamptz %s + interval '1439 min', '3 min') AS t,
                          unnest(ARRAY['B', 'L']) AS side""",
                market_id,
                f"{day} 00:00+00",
                f"{day} 00:00+00",
            )


def test_ten_hours_cut_out_of_yesterday_are_named_everywhere_and_a_setting_makes_the_exit_code_tell(
    server, tmp_path, recorder
):
    record_whole_days(recorder, range(1, 6))
    clean = Pipeline(tmp_path / "clean", recorder.environment)
    result = clean.run("nightly", "--catch-up", "5")
    assert result.returncode == 0 and result.stderr.splitlines()[-1].endswith(f"{ago(1)} done."), result.stderr
    day_report = f"consolidation_report_{ago(1).replace('-', '_')}.txt"
    assert "Condition: good\n" in (clean.output_dir / day_report).read_text()
    recorder.query(
        "DELETE FROM stream_ingest.ladder_levels WHERE publish_time > %s AND publish_time < %s",
        f"{ago(1)} 03:00+00",
        f"{ago(1)} 13:00+00",
    )
    recorder.query("INSERT INTO public.markets VALUES ('1.999', '30', 'WIN', 'Lost', %s)", f"{ago(1)} 09:00+00")
    settings = tmp_path / "told.cfg"
    settings.write_text("[tick_export]\ncondition_exit_code = 7\n")
    cut = Pipeline(tmp_path / "cut", recorder.environment)
    for code, environment in ((0, {}), (7, {"LUIGI_CONFIG_PATH": str(settings)})):
        result = cut.run("nightly", "--catch-up", "5", **environment)
        assert result.returncode == code, result.stderr
        hole = f"nothing was recorded from {ago(1)}T03:00:00.000Z to {ago(1)}T13:00:00.000Z (10 h 0 min)"
        last = result.stderr.splitlines()[-1]
        assert f"{ago(4)} done, " in last and f"{ago(1)} done. {ago(1)}: partial; {hole}; 41 % fewer" in last
        assert last.endswith("1 market known without ticks."), last
    assert f"Condition: partial; {hole}; 41 % fewer ticks" in (cut.output_dir / day_report).read_text()


def test_a_few_missing_markets_are_no_reason_for_the_exit_code(recorder, tmp_path):
    record_whole_days(recorder, range(1, 3))
    recorder.query("INSERT INTO public.markets VALUES ('1.999', '30', 'WIN', 'Lost', %s)", f"{ago(1)} 09:00+00")
    settings = tmp_path / "told.cfg"
    settings.write_text("[tick_export]\ncondition_exit_code = 7\n")
    result = Pipeline(tmp_path / "out", recorder.environment).run("nightly", LUIGI_CONFIG_PATH=str(settings))
    assert result.returncode == 0, result.stderr
    assert f"{ago(1)}: 1 market known without ticks." in result.stderr.splitlines()[-1]
