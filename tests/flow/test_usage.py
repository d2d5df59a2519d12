"""Wrong usage: options, values and configurations that cannot be; one line and an exit code each."""

import subprocess

import pytest

from tests.conftest import Pipeline, index_of, new_source


@pytest.mark.parametrize("luigi", [False, True])
def test_mistakes_get_one_line_and_an_exit_code(pipeline, small, luigi):
    cases = [
        (("ExportAll", "--format", "xml"), {}, 2, "--format is 'xml', expected parquet or jsonl"),
        (("ExportMarket", "--market-id", "../x"), {}, 2, "expected a Betfair market id"),
        (("ExportAll", "--export-metadata", "maybe"), {}, 2, "expected true or false"),
        (("ExportAll",), {"POSTGRES_PASSWORD": "geheim-und-falsch"}, 35, "password authentication failed"),
        (("ExportAll",), {"POSTGRES_DB": "nowhere"}, 35, 'database "nowhere" does not exist'),
        (("ExportAll",), {"POSTGRES_DB": "postgres"}, 35, "has no table public.markets"),
        (("ExportAll",), {"POSTGRES_PORT": "1"}, 35, "No connection"),
        (("ExportAll",), {"POSTGRES_PORT": "many"}, 35, "POSTGRES_PORT is 'many'"),
    ]
    for arguments, environment, code, text in cases:
        result = pipeline.run(*arguments, luigi=luigi, **environment)
        assert result.returncode == code, (arguments, result.stderr)
        errors = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        assert len(errors) == 1 and text in errors[0], (arguments, result.stderr)
        assert "Traceback" not in result.stderr and "geheim" not in result.stderr
        assert not pipeline.output_dir.exists()


def test_an_unknown_task_or_option_is_wrong_usage(pipeline):
    assert pipeline.run("ExportEverything").returncode == 2
    assert pipeline.run("ExportAll", "--colour", "red").returncode == 2


def test_an_unwritable_directory(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    pipeline = Pipeline(tmp_path / "file" / "out", small.environment)
    result = subprocess.run(
        pipeline.command("ExportAll"), env=pipeline.full_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 30 and "Cannot write to" in result.stderr and "Traceback" not in result.stderr


def test_the_other_format_and_another_database_are_refused(pipeline, server):
    assert pipeline.run("ExportAll").returncode == 0
    before = pipeline.stamps()
    other_format = pipeline.run("ExportAll", "--format", "jsonl")
    assert other_format.returncode == 2 and "an export has one format" in other_format.stderr
    other = new_source(server)
    other.partition("2026-02-05")
    other.market("1.900")
    other.message("1.900", "2026-02-05 10:00+00")
    refused = pipeline.run("ExportAll", **other.environment)
    assert refused.returncode == 2 and "knows none of them" in refused.stderr
    assert pipeline.stamps() == before
    assert pipeline.run("ExportAll", "--allow-other-database", **other.environment).returncode == 0
    assert list(index_of(pipeline)) == ["1.101", "1.102", "1.103", "1.900"]


def test_resume_is_accepted_and_help_explains(pipeline):
    result = pipeline.run("ExportAll", "--resume")
    assert result.returncode == 0 and "--resume is not needed" in result.stderr
    for arguments in ((), ("--help",)):
        command = pipeline.command(*arguments)[: 4 + len(arguments)]
        overview = subprocess.run(command, capture_output=True, text=True, env=pipeline.full_environment())
        assert overview.returncode == 0 and "ExportMarket" in overview.stdout and "exit codes" in overview.stdout
    options = pipeline.run("ExportMarket", "--help")
    assert options.returncode == 0 and "--refresh" in options.stdout and "--market-id" in options.stdout


def test_a_misspelt_key_in_the_configuration_is_an_error(pipeline, tmp_path):
    for text, word in (
        ("[tick_export]\nsettle_minute = 3\n", "settle_minute"),
        ("[retcodes]\nnot_run = 3\n", "retcodes"),
    ):
        (tmp_path / "mine.cfg").write_text(text)
        for luigi in (False, True):
            result = pipeline.run("ExportAll", luigi=luigi, LUIGI_CONFIG_PATH=str(tmp_path / "mine.cfg"))
            assert result.returncode == 2 and word in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("ExportAll", "--workers", "abc"), "--workers has an invalid value"),
        (
            ("ConsolidateDay", "--date", "2026-02-05", "--workers", "0"),
            "--workers is 0, expected a whole number above 0",
        ),
        (("VerifyExport", "--workers", "-1"), "--workers is -1"),
        (("ExportAll", "--nonsense"), "unrecognized arguments: --nonsense"),
        (("ExportMarket", "--market-id", "1.101", "--offline"), "cannot be --offline"),
        (("BuildIndex", "--offline"), "is not an export"),
    ],
)
def test_wrong_options_are_one_line(pipeline, arguments, words):
    result = pipeline.run(*arguments)
    lines = [line for line in result.stderr.splitlines() if line]
    assert result.returncode == 2 and len(lines) == 1 and words in lines[0], result.stderr
    assert not pipeline.output_dir.exists()


@pytest.mark.parametrize(
    "text, words",
    [
        (
            "[tick_export]\nsettle_minutes = soon\n",
            "settle_minutes = soon in section [tick_export], expected a whole number, 0 or more",
        ),
        ("[core]\nworkers = x\n", "workers = x"),
        ("[retcode]\ntask_failed =\n", "task_failed = "),
        ("[core]\nlog_level = LOUD\n", "log_level = LOUD"),
        ("[tick_export]\noutput_url = http://a/%20b\n", "'%' must be followed"),
    ],
)
def test_wrong_values_in_the_configuration_are_one_line(pipeline, tmp_path, text, words):
    (tmp_path / "mine.cfg").write_text(text)
    for luigi in (False, True):
        result = pipeline.run("ExportAll", luigi=luigi, LUIGI_CONFIG_PATH=str(tmp_path / "mine.cfg"))
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_a_configuration_that_is_not_there_is_told(pipeline, tmp_path):
    result = pipeline.run("ExportAll", LUIGI_CONFIG_PATH=str(tmp_path / "none.cfg"))
    assert result.returncode == 2 and "there is no such file" in result.stderr


@pytest.mark.parametrize("task", ["BuildIndex", "BuildMetadata"])
def test_a_task_with_nothing_to_do_says_so_if_it_was_asked_for(pipeline, task):
    assert pipeline.run("ExportAll").returncode == 0
    result = pipeline.run(task)
    assert result.returncode == 0 and result.stderr.count("Nothing to do: ") == 1, result.stderr
    whole = pipeline.run("ConsolidateAll")
    assert whole.returncode == 0 and "Nothing to do" not in whole.stderr, whole.stderr
