"""The house: what the documents say exists, the layers hold, the linters are content."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import luigi
from luigi.task_register import Register

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
    assert named <= {*tasks.PUBLIC, "nightly", "demo", "test", "docs", "bench"}
    for task in tasks.PUBLIC:
        assert f"`{task}" in README, task


def test_the_readme_names_every_task_that_shows_in_logs_and_luigid():
    importlib.import_module("tasks.every_task")
    shown = {
        name
        for name in Register.task_names()
        if (task := Register.get_task_cls(name)).__module__.startswith("tasks.")
        and not inspect.isabstract(task)
        and not issubclass(task, luigi.Config)
    }
    assert {"ExportMarkets", "StoredTicks", *tasks.PUBLIC} <= shown
    assert {name for name in shown if f"`{name}" not in README} == set()


def test_every_option_in_the_readme_exists():
    help_text = subprocess.run(
        [sys.executable, "-m", "tasks", "ConsolidateAll", "--help-all"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for option in set(re.findall(r"`(--[a-z-]+)", README)) - {"--resume", "--debug", "--catch-up"}:
        name = option.removeprefix("--")
        assert re.search(rf"-{name}\b|{option}\b", help_text), option


def test_every_link_in_the_documents_leads_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
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
    packages = "('ticks', 'storage', 'market_files', 'export_directory', 'reader')"
    result = subprocess.run(
        [sys.executable, "-c", program.replace("{packages}", packages)], cwd="/", capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


MODULES = [path for path in sorted((ROOT / "tasks").rglob("*.py")) if path.name != "__init__.py"]


def texts(path: Path) -> list[str]:
    """Return the texts in a module that are not documentation."""
    tree = ast.parse(path.read_text())
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
    ]


def test_no_two_modules_have_one_name():
    usual = {"__init__", "__main__", "conftest"}  # Python and pytest look for these
    files = [path for folder in ("tasks", "tests") for path in (ROOT / folder).rglob("*.py")]
    names = [path.stem for path in files if path.stem not in usual]
    assert not {name for name in names if names.count(name) > 1}


def test_no_file_is_longer_than_300_lines():
    files = [path for folder in ("tasks", "tests") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    assert {str(path): length for path, length in lengths.items() if length > 300} == {}


def test_paths_are_spelled_in_storage_alone():
    spelled = re.compile(
        r"marketId=|consolidated_ticks|consolidation_report|_metadata\.json|\.damaged|\.sha256|_report\.txt"
    )
    for path in MODULES:
        found = [text for text in texts(path) if spelled.search(text) and not re.search(r"\s", text)]
        assert path.name in ("layout.py", "file_names.py") or not found, (path, found)


def test_sql_is_in_postgres_alone():
    for path in MODULES:
        found = [text for text in texts(path) if re.search(r"\b(SELECT|INSERT|EXPLAIN|CREATE TABLE)\b", text)]
        assert not found or {"postgres", "demo"} & {*path.parts} or path.name == "catalogue_sql.py", (path, found[:1])


def test_a_file_is_hashed_in_one_place():
    for path in MODULES:
        assert path.name == "file_identity.py" or "file_digest" not in path.read_text(), path


def test_no_test_imports_another():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if "bench" not in path.parts:
            found = re.findall(r"^(?:from|import) tests\.\S*test_\S+", path.read_text(), re.MULTILINE)
            assert not found, (path, found)


def test_the_product_imports_no_test():
    for path in MODULES:
        assert not re.search(r"^\s*(?:from|import) tests\b|import_module\(.tests", path.read_text(), re.MULTILINE), path
