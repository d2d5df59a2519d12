"""Golden exports, unpacked, with a database that has the rows they were made of."""

import dataclasses
import shutil
import tarfile

import pytest

from tasks.demo.load import create_schema, load
from tasks.demo.recording import Recording
from tests.conftest import BY_HAND, ROOT, Pipeline, Source, new_source

GOLDEN_DAY = "2026-02-04"
AS_IN_0_1_0 = dataclasses.replace(Recording.tiny(), sums_of_sums=False)


def recorded_in_0_1_0(server) -> Source:
    """Create a database with the rows that the golden exports were made of."""
    source = new_source(server, schema=False)
    connection = server.connect(source.name)
    create_schema(connection)
    connection.close()
    load(AS_IN_0_1_0, server.conninfo(source.name))
    return source


@pytest.fixture(scope="session")
def recorded(server):
    """The database that the golden exports were made of; read only."""
    return recorded_in_0_1_0(server)


@pytest.fixture(params=BY_HAND)
def golden(request, tmp_path, recorded):
    """A golden export, unpacked, and a pipeline on it; .format is what it is in."""
    with tarfile.open(ROOT / "tests" / "golden" / f"0.1.0_{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="tar")
    pipeline = Pipeline(tmp_path / request.param, recorded.environment)
    pipeline.format = request.param
    return pipeline


@pytest.fixture
def spark(request):
    """Skip what needs Spark, unless it was asked for and there is a Java."""
    if not request.config.getoption("--engines"):
        pytest.skip("--engines")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a Java")
