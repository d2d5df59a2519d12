"""PostgreSQL 14 to 18: the same rows give the same bytes from each. Those that a machine lacks come with --servers."""

import contextlib

import pytest

from tasks.demo import server_programs
from tasks.demo.local_server import PostgresServer
from tests.conftest import Pipeline, fill, new_source, reader
from tests.servers import RELEASES, programs_of

DAY = ("--date", "2026-02-05")
TASKS = [
    ("ExportAll", "--include-markets-without-ticks"),
    ("ConsolidateDay", *DAY),
    ("ConsolidateDayDirect", *DAY),
    ("VerifyExport",),
]
#: With --servers, as the others take longer.
MORE = [("ConsolidateAll",), ("BuildStates",), ("BuildStreams",), ("BuildRunnerSummary",)]


def written(server, directory, tasks):
    """Return the files of every task from rows that reach the ends of their types."""
    source = fill(new_source(server))
    source.market("1.104")
    source.query("""
        INSERT INTO stream_ingest.traded_volume VALUES
            ('1.102', 9223372036854775807, 1.01, 'Infinity', '2026-02-05 10:00:00.000001+00', '1970-01-01 00:00+00'),
            ('1.102', -9223372036854775808, 'NaN', 5e-324, '2026-02-05 10:00:00.000001+00', '9999-12-31 23:59:59+00'),
            ('1.102', 0, '-0', 1.7976931348623157e308, '2026-02-05 10:00:00.000001+00', '2026-02-05 10:00+00');
        INSERT INTO stream_ingest.market_lifecycle_events VALUES
            ('1.101', 'OPEN', false, '2026-02-05 09:00+00', '2026-02-05 09:00+00'),
            ('1.101', 'CLOSED', true, '2026-02-05 13:00+00', '2026-02-05 13:00+00');
        INSERT INTO public.market_settlement VALUES ('1.101', '2026-02-05 14:00+00', 'feed');
        INSERT INTO public.market_runner_settlement VALUES ('1.101', 1, 'WINNER')""")
    pipeline = Pipeline(directory / "out", reader(source))
    for task in tasks:
        done = pipeline.run(*task)
        assert done.returncode == 0, done.stderr
    return {name: text for name, text in pipeline.files().items() if name != "verification_report.txt"}


@pytest.fixture(scope="module")
def tasks(request):
    """What is run on each server."""
    return TASKS + MORE * request.config.getoption("--servers")


@pytest.fixture(scope="module")
def expected(server, tasks, tmp_path_factory):
    """What the server of the other tests gives."""
    return written(server, tmp_path_factory.mktemp("expected"), tasks)


@pytest.mark.parametrize("version", sorted(RELEASES))
def test_every_version_gives_the_same_bytes(request, tasks, tmp_path, version):
    programs = programs_of(version, request)
    if programs == server_programs.find_wheel() / "pginstall" / "bin":
        pytest.skip(f"PostgreSQL {version} is the server that all tests use")
    expected = request.getfixturevalue("expected")
    with PostgresServer(tcp=True, programs=programs) as server:
        with contextlib.closing(server.connect()) as connection:
            assert connection.server_version // 10000 == version
        found = written(server, tmp_path, tasks)
    assert len(found) > 10 and found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name] and "report" not in name] == []
