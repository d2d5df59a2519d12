"""The pipeline only reads: the server's own statistics say so, for a role that may do no more, and for a superuser."""

import contextlib
import time

import pytest

from tests.conftest import Pipeline, Source, ago, fill, new_source, reader

DAY = ("--date", "2026-02-05")
TASKS = [
    ("ExportAll", "--include-markets-without-ticks", "--workers", "2"),
    ("ConsolidateDay", *DAY),
    ("ConsolidateDayDirect", *DAY),
    ("Archive", "--date", "2026-03-01"),
    ("VerifyExport",),
    ("nightly",),
]
#: The others, with --walk.
MORE = [
    ("ExportMarket", "--market-id", "1.101", "--refresh"),
    ("ConsolidateAll",),
    ("ConsolidateRange", "--from", "2026-02-05", "--to", "2026-02-06"),
    ("BuildStates",),
    ("BuildStreams",),
    ("BuildRunnerSummary",),
    ("PlotMarket", "--market-id", "1.101"),
    ("BuildCatalogue",),
]


def written(source: Source) -> dict[str, object]:
    """Return what the server counts of changes, when all other sessions have ended and have reported theirs."""
    with contextlib.closing(source.server.connect(source.name)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tick_export'")
                if cursor.fetchone() == (0,):
                    break
                time.sleep(0.05)
            # a transaction gets its number with its first change, be it of a row, a table, a role or a lock on a row
            cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            changes: dict[str, object] = {"the next transaction that changes anything": cursor.fetchone()}
            cursor.execute(
                "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = current_database()"
            )
            changes["rows of the database"] = cursor.fetchone()
            cursor.execute(
                "SELECT relid::regclass::text, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables"
                " WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY 1"
            )
            changes["rows of each table"] = cursor.fetchall()
            return changes


def read(source: Source) -> tuple[int, int]:
    """Return how many transactions have ended in the database, and how many rows were read."""
    return source.query(
        "SELECT xact_commit + xact_rollback, tup_returned FROM pg_stat_database WHERE datname = current_database()"
    )[0]


@pytest.mark.parametrize("role", ["reader", "superuser"])
def test_no_task_changes_anything(request, server, tmp_path, role):
    source = fill(new_source(server))
    source.partition(ago(1))
    source.message("1.102", f"{ago(1)} 10:00:00+00")  # nightly makes the CSV of yesterday
    environment = reader(source) if role == "reader" else source.environment
    pipeline = Pipeline(tmp_path / "out", environment)
    before, had_read = written(source), read(source)
    assert len(before["rows of each table"]) > 3
    walked = MORE * request.config.getoption("--walk")
    for task in [*TASKS, *walked] if role == "reader" else TASKS[:1]:
        done = pipeline.run(*task)
        assert done.returncode == 0, done.stderr
        assert written(source) == before, task
    has_read = read(source)
    assert has_read[0] > had_read[0] + 5 and has_read[1] > had_read[1] + 100
    source.query("UPDATE public.markets SET market_name = 'x'")
    assert all(written(source)[name] != before[name] for name in before), "a change would have been counted"
