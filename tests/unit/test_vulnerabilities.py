"""No pinned version has a known vulnerability by PyPI's advisories. Skipped where the package index has none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PINS = ROOT / "config" / "constraints.txt"
#: Advisories that do not concern us, each with the reason. pip-audit's ids.
ACCEPTED: dict[str, str] = {}


def audited(pins: Path) -> list[dict]:
    """Return what pip-audit finds about pinned versions: name, version and vulns of each, or a skip_reason."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"]
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if not done.stdout:
        pytest.skip(f"no advisories here: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)["dependencies"]


def test_no_pinned_version_is_known_to_be_vulnerable(tmp_path):
    one = tmp_path / "one.txt"  # one question shows whether there is anybody to ask
    one.write_text(next(line for line in PINS.read_text().splitlines() if line.startswith("luigi==")))
    if "skip_reason" in audited(one)[0]:
        pytest.skip("no advisories here: the package index has none")
    found = audited(PINS)
    assert len(found) == sum("==" in line for line in PINS.read_text().splitlines())
    # pip-audit calls what it could not look up sound
    assert [each for each in found if "skip_reason" in each] == []
    vulnerable = {
        f"{each['name']} {each['version']}": [(fault["id"], fault["fix_versions"]) for fault in each["vulns"]]
        for each in found
        if any(fault["id"] not in ACCEPTED for fault in each["vulns"])
    }
    assert vulnerable == {}
