"""A reader keeps its snapshot, also past a read that fails."""

import pytest

from tasks.errors import DatabaseError, UnreadableRow
from tasks.postgres.server import Server
from tasks.postgres.tick_reader import Rows, TickReader
from tests.conftest import connect


@pytest.fixture
def reader(small, monkeypatch):
    for name, value in small.environment.items():
        monkeypatch.setenv(name, value)
    with TickReader(Server.from_environment()) as opened:
        yield opened


def test_what_comes_after_a_failed_read_is_of_the_same_moment(small, reader):
    small.message("1.102", "2026-02-05 10:00+00", selection_id=1 << 50)  # the packed integer overflows in the server
    reader.begin_snapshot()
    small.message("1.101", "2026-02-05 10:30+00")
    with pytest.raises(UnreadableRow):
        reader.read(Rows(("1.101", "1.102")), None, 1000)
    assert len(reader.read(Rows(("1.101",)), None, 1000)) == 42
    with pytest.raises(UnreadableRow):
        reader.read(Rows(("1.102",)), None, 1000)
    with reader.of_same_snapshot() as other:
        assert len(other.read(Rows(("1.101",)), None, 1000)) == 42
    reader.begin_snapshot()
    assert len(reader.read(Rows(("1.101",)), None, 1000)) == 49


def test_a_lost_connection_is_said_to_be_lost(small, reader):
    reader.begin_snapshot()
    with connect(small) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
            " datname = current_database()"
        )
    with pytest.raises(DatabaseError):
        reader.read(Rows(("1.101",)), None, 1000)
