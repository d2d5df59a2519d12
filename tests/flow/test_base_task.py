"""What every task can rely on: the directory is claimed for it, looking changes nothing, no failure is forgotten."""

import json
import subprocess
import sys
import textwrap

import filelock
import pytest

import tasks
from tasks.export_directory.journal import Failed, Journal
from tasks.publishing import manifest

#: The tasks that export markets or days need to be told which.
OPTIONS = {
    "ExportMarket": ("--market-id", "1.101"),
    "PlotMarket": ("--market-id", "1.101"),
    "BuildStream": ("--market-id", "1.101"),
    "ConsolidateDay": ("--date", "2026-02-05"),
    "ConsolidateDayDirect": ("--date", "2026-02-05"),
    "ConsolidateRange": ("--from", "2026-02-05", "--to", "2026-02-05"),
    "Restore": ("--schema", "restored"),
}


def run_program(pipeline, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in place of `python -m tasks`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env=pipeline.full_environment(),
        cwd=pipeline.output_dir.parent,
        capture_output=True,
        text=True,
    )


LOOK = """
    import contextlib, json, sys
    import tasks.every_task
    from tasks.workflow.outcome import parsed
    for name, *options in json.loads(sys.argv[1]):
        with contextlib.suppress(SystemExit), parsed(name, options) as task:
            task.requires(), task.output(), task.complete()
            print(name)
"""


def test_looking_makes_nothing_and_takes_no_lock(pipeline):
    published = pipeline.output_dir.with_name("published")
    published.mkdir()
    (published / manifest.NAME).write_bytes(manifest.Manifest().render())
    options = OPTIONS | {"Publish": ("--to", published.as_uri()), "Fetch": ("--from", published.as_uri())}
    commands = json.dumps(
        [[name, *options.get(name, ()), "--output-dir", str(pipeline.output_dir)] for name in tasks.PUBLIC]
    )
    looked = run_program(pipeline, LOOK, commands)
    assert "ExportAll" in looked.stdout and not pipeline.output_dir.exists(), looked.stderr
    assert pipeline.run("ExportAll").returncode == 0
    (pipeline.output_dir / ".lock").unlink()
    before = sorted(pipeline.output_dir.rglob("*")), pipeline.stamps()
    looked = run_program(pipeline, LOOK, commands)
    assert looked.stdout.split() == list(tasks.PUBLIC), looked.stderr
    assert (sorted(pipeline.output_dir.rglob("*")), pipeline.stamps()) == before


A_NEW_TASK = """
    import sys
    import tasks.every_task
    from tasks.workflow.base_task import ExportTask
    from tasks.workflow.exit_codes import stop
    from luigi.retcodes import run_with_retcodes

    class WritePage(ExportTask):
        def complete(self):
            return False

        def work(self):
            (self.layout.output_dir / "page.html").write_text("written")
            return {"1.5": "it is bad"} if "bad" in str(self.output_dir) else None

    run_with_retcodes(["WritePage", *sys.argv[1:]])
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_task_cannot_forget_the_lock(pipeline, workers):
    page, options = pipeline.output_dir / "page.html", ("--output-dir", str(pipeline.output_dir), "--workers", workers)
    assert run_program(pipeline, A_NEW_TASK, *options).returncode == 0
    page.unlink()
    with filelock.FileLock(pipeline.output_dir / ".lock"):
        refused = run_program(pipeline, A_NEW_TASK, *options)
    assert refused.returncode == 10 and "Another run works in" in refused.stderr and not page.exists()


def test_a_new_task_that_leaves_markets_out_fails_by_their_names(pipeline):
    bad = pipeline.output_dir.with_name("bad")
    failed = run_program(pipeline, A_NEW_TASK, "--output-dir", str(bad))
    assert failed.returncode == 30 and "1 market failed ('1.5': it is bad), all others are done." in failed.stderr
    assert (bad / "page.html").exists()


def test_a_large_market_that_fails_in_a_run_over_all_stops_no_other_and_alone_fails_itself(small, pipeline):
    small.query("UPDATE stream_ingest.ladder_levels SET received_time = 'infinity' WHERE market_id = '1.102'")
    each_alone = """
        import sys
        import tasks.every_task
        from tasks.workflow import plan
        from tasks.workflow.outcome import run_task
        plan.ALONE_ROWS = 0
        sys.exit(run_task(sys.argv[1], sys.argv[2:]))
    """
    options = ("--output-dir", str(pipeline.output_dir), "--workers", "2")
    debugged = each_alone.replace("import sys", "import os, sys; os.environ['TICK_EXPORT_DEBUG'] = '1'")
    every = run_program(pipeline, debugged, "ExportAll", *options)
    assert every.returncode == 30 and "1 market failed ('1.102'" in every.stderr, every.stderr
    assert every.stderr.count("done      ExportMarket(") == 3, every.stderr
    assert pipeline.market("1.101").exists() and pipeline.market("1.103").exists()
    assert len((pipeline.output_dir / "index.csv").read_text().splitlines()) == 3
    alone = run_program(pipeline, each_alone, "ExportMarket", "--market-id", "1.102", *options)
    assert alone.returncode == 30 and "Market 1.102: " in alone.stderr
    assert "MarketFailed" not in alone.stderr and "markets failed" not in alone.stderr


def test_failures_of_a_run_can_be_read_again_and_those_of_another_do_not_count(tmp_path):
    journal = Journal(tmp_path / ".journal")
    journal.failed(Failed("1.1", "bad"))
    assert journal.failed_since(0) == journal.failed_since(0) == {"1.1": "bad"}
    assert journal.failed_since(4e9) == {}


@pytest.mark.parametrize(
    "command",
    [
        ("ConsolidateDay", "--date", "2026-02-05"),
        ("ConsolidateDayDirect", "--date", "2026-02-05"),
        ("ExportMarket", "--market-id", "1.101"),
        ("BuildMetadata",),
        ("VerifyExport",),
        ("nightly",),
    ],
)
def test_an_option_that_a_task_does_not_use_is_refused(pipeline, command):
    result = pipeline.run(*command, "--include-markets-without-ticks")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(
        "error: unrecognized arguments: --include-markets-without-ticks. See ./run_pipeline"
    )
    assert not pipeline.output_dir.exists()
