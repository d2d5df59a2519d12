"""The house: what the documents say exists, the layers hold, the linters are content."""

import re
import subprocess
import sys
from pathlib import Path

import tasks
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_flake8_is_content():
    result = subprocess.run(
        [sys.executable, "-m", "flake8", "tasks", "tests"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_imports_are_in_order():
    result = subprocess.run(
        [sys.executable, "-m", "isort", "--check", "tasks", "tests"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_types_hold(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_tick_layer_knows_no_luigi():
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "setup.cfg"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_readme_names_every_task_and_every_command_in_it_exists():
    named = set(re.findall(r"run_pipeline\.sh (\w+)", README))
    assert named <= {*tasks.PUBLIC, "nightly", "demo", "test", "bench"}
    for task in tasks.PUBLIC:
        assert f"`{task}" in README, task


def test_every_option_in_the_readme_exists():
    help_text = subprocess.run(
        [sys.executable, "-m", "tasks", "ConsolidateAll", "--help-all"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for option in set(re.findall(r"`(--[a-z-]+)", README)) - {"--resume", "--debug", "--catch-up"}:
        name = option.removeprefix("--")
        assert re.search(rf"-{name}\b|{option}\b", help_text), option


def test_every_link_in_the_documents_leads_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), (document, target)


def test_every_key_in_luigi_cfg_is_explained():
    lines = (ROOT / "luigi.cfg").read_text().splitlines()
    for before, line in zip(lines, lines[1:]):
        if re.match(r"\w+ *=", line) and not re.match(
            r"(?:not_run|missing_data|task_failed|scheduling_error|unhandled_exception) *=", line
        ):
            assert before.startswith("#"), line


def test_importing_a_package_starts_nothing():
    """A quant imports a reader in a program of their own: no signal handler, no environment, no Luigi, no pandas."""
    program = """
import gc, importlib, os, pkgutil, signal, sys
before = {number: signal.getsignal(number) for number in signal.valid_signals()}, gc.isenabled(), dict(os.environ)
import tasks
for name in {packages}:
    package = importlib.import_module("tasks." + name)
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
after = {number: signal.getsignal(number) for number in signal.valid_signals()}, gc.isenabled(), dict(os.environ)
assert before == after
assert gc.get_freeze_count() == 0
print([name for name in ("luigi", "tasks.workflow", "tasks.every_task") if name in sys.modules])
"""
    packages = "('ticks', 'storage', 'market_files', 'export_directory')"
    result = subprocess.run(
        [sys.executable, "-c", program.replace("{packages}", packages)], cwd="/", capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
