"""A copy of the sources that a recipe of docs/architecture.md is carried out in."""

import shutil
from pathlib import Path

from tests.conftest import ROOT, Pipeline, Source


class ChangedSources:
    """A copy of tasks/, and the pipeline that it is."""

    def __init__(self, directory: Path, source: Source) -> None:
        self.root = directory / "src"
        shutil.copytree(ROOT / "tasks", self.root / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "config", self.root / "config")
        shutil.copy(ROOT / "luigi.cfg", self.root)
        self.pipeline = Pipeline(directory / "out", source.environment | {"PYTHONPATH": str(self.root)})

    def insert(self, name: str, before: str, text: str) -> None:
        """Insert text into a file before some other text that stands there once."""
        path = self.root / name
        content = path.read_text()
        assert content.count(before) == 1, (name, before)
        path.write_text(content.replace(before, text + before))
