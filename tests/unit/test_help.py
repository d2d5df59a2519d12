"""Help: one for every command, of the options that it uses, and an option that it does not use is refused."""

import contextlib
import re

import pytest
from luigi.cmdline_parser import CmdlineParser

import tasks
import tasks.every_task  # the command line finds tasks among those that are loaded
from tasks.command_line import front_door, nightly
from tasks.command_line.help_layout import fitted
from tasks.command_line.task_help import EXIT_CODES
from tasks.demo import show
from tasks.workflow.outcome import _refuse_unused


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command line that needs no database; give exit code, standard output and standard error."""

    def run(command, *arguments):
        try:
            code = front_door._run(command, list(arguments))
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    monkeypatch.setattr(front_door, "_read_env_file", lambda path: None)
    return run


@pytest.mark.parametrize("name", tasks.PUBLIC)
def test_every_task_has_help_on_the_options_that_it_uses(run, name):
    code, text, error = run(name, "--help")
    assert code == 0 and not error and run(name, "-h") == (code, text, error)
    assert f"usage: ./run_pipeline.sh {name}" in text and "exit codes:" in text
    options = re.findall(r"^  (--\S+)", text, re.MULTILINE)
    assert len(options) == len({*options}), "each once"
    assert {"--workers", "--scheduler-url", "--debug", "--output-dir"} <= {*options}
    assert all(len(line) <= 120 for line in text.splitlines())
    used = {key.replace("_", "-") for key, _ in getattr(tasks, name).get_params()}
    unused = {key.replace("_", "-") for key in getattr(tasks, name).unused_options}
    assert {f"--{key}" for key in used - unused} == {*options} - {"--workers", "--scheduler-url", "--debug", "--help"}


@pytest.mark.parametrize("name", tasks.PUBLIC)
def test_help_says_what_is_written_and_its_examples_are_command_lines_that_the_task_takes(run, name):
    _, text, _ = run(name, "--help")
    task = getattr(tasks, name)
    assert "Writes, under --output-dir: " in text and task.writes and task.examples
    for given in task.examples:
        assert f"  ./run_pipeline.sh {name} {given}".rstrip() in text.splitlines()
        options = given.split()
        _refuse_unused(name, [name, *options])
        with CmdlineParser.global_instance([name, *options]) as parser:
            made = parser.get_task_obj()
        used = {key for key, _ in task.get_params() if key not in task.unused_options}
        named = {option[2:].replace("-", "_") for option in options if option.startswith("--")} - {"workers"}
        assert named <= used and isinstance(made, task), given


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(
    "arguments", [("--help",), *((name, "--help") for name in ("nightly", "demo", "test", "docs"))]
)
def test_the_help_of_all_that_is_no_task_is_as_wide_as_the_terminal_too(monkeypatch, capsys, columns, arguments):
    monkeypatch.setenv("COLUMNS", str(columns))
    with contextlib.suppress(SystemExit):
        front_door.main(arguments)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= min(columns, 100) and "usage: ./run_pipeline.sh" in text, text
    assert "exit codes" in text or "exit code is" in text
    assert re.search(r"^ *--help  .*this text|^ *--help$\n +this text|sh --help", text, re.MULTILINE), text


def test_a_text_of_help_is_laid_out_without_losing_a_word(monkeypatch):
    for columns in (60, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        for text in (front_door.HELP, front_door.TEST_HELP, nightly.HELP, show.HELP, EXIT_CODES):
            assert fitted(text).split() == text.split(), columns


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("name", tasks.PUBLIC)
def test_help_is_as_wide_as_the_terminal_and_says_what_values_look_like(run, name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    _, text, _ = run(name, "--help")
    assert max(map(len, text.splitlines())) <= min(columns, 100), text
    assert "(default )" not in text and "True" not in text
    for option, value in {
        "--format": "parquet|jsonl",
        "--export-metadata": "true|false",
        "--to": "YYYY-MM-DD" if name == "ConsolidateRange" else "ADDRESS",
        "--from": "YYYY-MM-DD" if name == "ConsolidateRange" else "ADDRESS",
        "--days": "DAY,DAY",
        "--recheck-days": "N",
    }.items():
        assert f"  {option} " not in text or f"  {option} {value}" in text, option


@pytest.mark.parametrize("name", tasks.PUBLIC)
def test_an_option_that_a_task_does_not_use_is_refused(run, name):
    for key in getattr(tasks, name).unused_options - {"format", "export_metadata", "offline"}:
        option = key.replace("_", "-")
        for given in (f"--{option}=true", f"--{name}-{option}=true"):
            code, _, error = run(name, given)
            assert code == 2 and len(error.splitlines()) == 1, error
            assert error.startswith(f"error: {name} does not use --{option}.")


@pytest.mark.parametrize("option", ["--recheck-days=3", "--include-markets-without-ticks", "--allow-other-database"])
@pytest.mark.parametrize("name", ["ExportAll", "ConsolidateAll", "Archive"])
def test_an_option_about_the_database_is_refused_where_there_is_none(run, name, option):
    code, _, error = run(name, "--offline", option)
    assert code == 2 and len(error.splitlines()) == 1 and option.split("=")[0] in error, error


@pytest.mark.parametrize("name", tasks.PUBLIC)
def test_options_that_scripts_give_to_every_task_are_accepted(name):
    """They are common to all tasks, whether a task has a use for them or not."""
    _refuse_unused(name, [name, "--format", "jsonl", "--export-metadata", "false"])


@pytest.mark.parametrize("name", ["nightly", "demo", "test", "docs"])
def test_every_subcommand_has_help(run, name):
    code, text, error = run(name, "--help")
    assert code == 0 and f"usage: ./run_pipeline.sh {name}" in text and not error
