"""The recipe "Add a task" done for real: its code in a copy of tasks/, a path, and the task in the list."""

import re

import pytest

from tests.conftest import ROOT
from tests.unit.changed_sources import ChangedSources

PATH = '''    @property
    def sizes_page(self) -> Path:
        """data_exports/tick_export/sizes.html"""
        return self.output_dir / "sizes.html"

'''


@pytest.fixture
def changed(tmp_path, small):
    """A pipeline with the task of the recipe."""
    sources = ChangedSources(tmp_path, small)
    recipe = (ROOT / "docs" / "architecture.md").read_text().partition("**Add a task.**")[2]
    code = re.search(r"```python\n(.*?)```", recipe, re.DOTALL)[1]
    (sources.root / "tasks" / "sizes.py").write_text(code)
    sources.insert("tasks/storage/layout.py", "    @property\n    def report_state", PATH)
    sources.insert("tasks/storage/layout.py", "            self.execution_report,\n", "            self.sizes_page,\n")
    sources.insert("tasks/__init__.py", '    "PlotMarket"', '    "WriteSizes": "tasks.sizes",\n')
    return sources.pipeline


def test_a_task_is_a_file_a_path_and_an_entry(changed, small):
    page = changed.output_dir / "sizes.html"

    def run(*arguments):
        result = changed.run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stderr

    assert "3 markets" in run("WriteSizes")
    assert page.read_text().count("<li>1.10") == 3
    assert f"Nothing to do: {changed.output_dir}" in run("WriteSizes")
    small.message("1.103", "2026-02-06 10:00+00")
    before = page.read_text()
    assert "3 markets" in run("WriteSizes") and page.read_text() != before
    page.write_text("edited")
    assert "3 markets" in run("WriteSizes", "--offline") and "<li>1.103" in page.read_text()
    assert "VERIFIED" in run("VerifyExport", "--offline")
    page.unlink()
    assert "3 markets" in run("WriteSizes", "--offline") and page.exists()
    assert "Write sizes.html" in changed.run("WriteSizes", "--help").stdout
    other = changed.run("WriteSizes", "--offline", "--format", "jsonl")  # offline, the files say what they are
    assert other.returncode == 0 and "Nothing to do" in other.stderr
