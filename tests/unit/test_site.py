"""./run_pipeline.sh docs: the site has every page, no link on it leads nowhere, and it asks no host."""

import re
import subprocess
import sys

from tests.conftest import ROOT


def docs(*arguments):
    """Run the command."""
    return subprocess.run([sys.executable, "-m", "tasks", "docs", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_site_has_every_page_and_loads_nothing_from_the_network(tmp_path):
    site = tmp_path / "a site"
    result = docs(str(site))  # Sphinx fails on a link that leads nowhere, and on a page that no other leads to
    assert result.returncode == 0 and result.stdout == f"Open {site / 'index.html'}\n", result.stderr
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        html = (site / page).read_text()
        assert not re.search(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//', html), page
        assert not re.search(r'<link[^>]* rel="stylesheet"[^>]* href="(?:https?:)?//', html), page
    overview = (site / "overview.html").read_text()
    assert "Every night" in overview and 'href="operations.html"' in overview, "the README is a page of it"


def test_a_wrong_option_is_one_line():
    for arguments in (("one", "two"), ("--out",)):
        result = docs(*arguments)
        assert (
            result.returncode == 2
            and len(result.stderr.splitlines()) == 1
            and "docs takes one directory" in result.stderr
        )
