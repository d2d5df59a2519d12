"""Restore: an export back in PostgreSQL, row by row what it was, and refused where it would mix or cannot be."""

import contextlib
import os
import signal
import time

import pytest

from tests.conftest import Pipeline, Source, fill, fresh, new_source

LADDER = "market_id, selection_id, side, level, price, size, publish_time, received_time"
TRADED = "market_id, selection_id, price, size_traded, publish_time, received_time"
RESTORED = {"PGOPTIONS": "-c search_path=restored"}


@pytest.fixture
def exported(source: Source, tmp_path) -> Pipeline:
    """An export with names, states, a market without ticks, and numbers that are none."""
    fill(source)
    source.market("1.104", event_id="31", runners=())
    source.message("1.105", "2026-02-06 09:00:00.5+00", prices=(float("nan"), 0.1 + 0.2), size=-0.0)
    source.query(
        "INSERT INTO stream_ingest.market_lifecycle_events VALUES ('1.101', 'CLOSED', NULL, '2026-02-05 13:00+00',"
        " now()), ('1.101', 'OPEN', true, '2026-02-05 12:00+00', now()), ('1.102', NULL, false, '2026-02-05 12:00+00',"
        " now())"
    )
    pipeline = Pipeline(tmp_path / "tick export", source.environment)
    assert pipeline.run("ExportAll", "--include-markets-without-ticks").returncode == 0
    return pipeline


def restore(pipeline: Pipeline, *options: str, **environment: str):
    """Restore into the schema restored."""
    return pipeline.run("Restore", "--schema", "restored", *options, **environment)


def tables(source: Source) -> list[tuple]:
    """Return the tables of the restored schema."""
    return source.query("SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text = 'restored'")


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_the_rows_are_those_of_the_source_and_an_export_of_them_has_the_same_bytes(exported, source, server, format):
    if format == "jsonl":
        exported = Pipeline(exported.output_dir.with_name("text"), exported.environment)
        assert exported.run("ExportAll", "--format", format, "--include-markets-without-ticks").returncode == 0
    done = restore(exported, "--compare")
    assert done.returncode == 0, done.stderr
    assert "0 rows only there, 0 rows only in the export" in done.stderr
    for table, columns in (("ladder_levels", LADDER), ("traded_volume", TRADED)):
        for one, other in (("stream_ingest", "restored"), ("restored", "stream_ingest")):
            rest = f"SELECT {columns} FROM {one}.{table} EXCEPT ALL SELECT {columns} FROM {other}.{table}"
            assert source.query(rest) == []
    other = new_source(server, schema=False)
    again = Pipeline(exported.output_dir, other.environment)
    assert restore(again).returncode == 0
    again.environment |= RESTORED
    files = fresh(again, "again", "--format", format, "--include-markets-without-ticks")
    expected = exported.files()
    for pages in (files, expected):  # it names a market that has no ticks: only the recorder's database knows of it
        del pages["condition.json"]
    assert files == expected and len(files) > 8


def test_tables_are_as_the_platform_has_them(exported, source):
    assert restore(exported).returncode == 0
    shape = """SELECT table_name, column_name, data_type, character_maximum_length FROM information_schema.columns
                WHERE table_schema {} AND table_name NOT LIKE 'ladder_%%2026%%' AND table_name NOT LIKE '%%settlement'
                  AND table_name <> 'market_liquidity_history' ORDER BY table_name, ordinal_position"""
    there = source.query(shape.format("IN ('public', 'stream_ingest') AND table_name NOT LIKE 'ladder_20%%'"))
    assert source.query(shape.format("= 'restored'")) == there
    keys = """SELECT tablename, regexp_replace(indexdef, '^.* USING ', '') FROM pg_indexes WHERE schemaname {}
               AND tablename IN ('ladder_levels', 'traded_volume', 'market_lifecycle_events', 'runners', 'markets')
               ORDER BY 1, 2"""
    assert source.query(keys.format("= 'restored'")) == source.query(keys.format("IN ('public', 'stream_ingest')"))


def test_a_schema_that_is_not_empty_is_refused_and_left_alone(exported, source):
    source.query("CREATE SCHEMA restored; CREATE TABLE restored.mine (a int)")
    refused = restore(exported)
    assert refused.returncode == 2 and "is not empty (it has mine)" in refused.stderr, refused.stderr
    assert tables(source) == [("mine",)]
    for schema in ("public", "stream_ingest", "pg_toast", "information_schema", "A", 'x"; DROP'):
        refused = exported.run("Restore", "--schema", schema)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "--schema is" in refused.stderr


def test_more_than_select_is_needed_there_only(exported, source):
    user = f"reader_{source.name}"
    source.query(
        f"CREATE ROLE {user} LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA stream_ingest, public TO {user};"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA stream_ingest, public TO {user}"
    )
    reader = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": "reader"}
    refused = restore(exported, **reader)
    assert refused.returncode == 35 and f'CREATE SCHEMA "restored" AUTHORIZATION "{user}";' in refused.stderr
    source.query("CREATE SCHEMA restored")
    refused = restore(exported, **reader)
    assert refused.returncode == 35 and f'GRANT CREATE, USAGE ON SCHEMA "restored" TO "{user}";' in refused.stderr
    source.query(f'GRANT CREATE, USAGE ON SCHEMA "restored" TO "{user}"')
    done = restore(exported, "--compare", **reader)
    assert done.returncode == 0, done.stderr


def test_rows_that_the_export_lacks_and_rows_that_the_platform_dropped_are_counted(exported, source):
    source.query("DROP TABLE stream_ingest.ladder_20260206")
    dropped = restore(exported, "--compare")
    assert dropped.returncode == 0 and "0 rows only there, 20 rows only in the export" in dropped.stderr, dropped.stderr
    source.query("DROP SCHEMA restored CASCADE")
    source.message("1.101", "2026-02-05 10:30:00+00")
    lacking = restore(exported, "--compare")
    assert lacking.returncode == 30 and "have 7 rows of these markets that the export lacks" in lacking.stderr
    assert len(tables(source)) > 6


def test_rows_that_share_a_key_are_restored_as_they_are(source, tmp_path):
    source.query(
        "ALTER TABLE stream_ingest.ladder_levels DROP CONSTRAINT ladder_levels_pkey;"
        "ALTER TABLE stream_ingest.traded_volume DROP CONSTRAINT traded_volume_pkey"
    )
    fill(source)
    source.message("1.101", "2026-02-05 10:00:00.123+00", size=99.0)
    pipeline = Pipeline(tmp_path / "out", source.environment)
    assert pipeline.run("ExportAll").returncode == 0
    done = restore(pipeline, "--compare")
    assert done.returncode == 0, done.stderr
    assert "ladder_levels and traded_volume got no primary key" in done.stderr
    assert "0 rows only there, 0 rows only in the export" in done.stderr


def test_a_damaged_file_is_never_restored(exported, source):
    content = bytearray(exported.market("1.101").read_bytes())
    content[100] ^= 1
    exported.market("1.101").write_bytes(content)
    failed = restore(exported)
    assert failed.returncode == 30 and "marketId=1.101.parquet: its SHA-256 is" in failed.stderr, failed.stderr
    assert tables(source) == []


def test_what_stands_there_is_compared_with_the_files_before_anybody_sees_it(exported, source):
    source.query("CREATE SCHEMA restored")
    source.query("""CREATE FUNCTION public.lose() RETURNS event_trigger LANGUAGE plpgsql AS $$
           BEGIN
               IF to_regclass('restored.idx_traded_volume_market_time') IS NULL
                  AND to_regclass('restored.traded_volume_pkey') IS NOT NULL THEN
                   UPDATE restored.traded_volume SET size_traded = size_traded + 1 WHERE ctid = '(0,1)';
               END IF;
           END $$""")
    source.query("CREATE EVENT TRIGGER lose ON ddl_command_end EXECUTE FUNCTION public.lose()")
    failed = restore(exported)
    assert failed.returncode == 30 and "traded rows of 2026-02-05: schema restored has" in failed.stderr, failed.stderr
    assert tables(source) == []


def test_killed_while_it_works_nothing_is_left_of_it(exported, source):
    for pause_s in (0.3, 0.6, 0.9, 1.1):
        process = exported.start("Restore", "--schema", "restored")
        time.sleep(pause_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            source.query("DROP SCHEMA restored CASCADE")
            continue
        while source.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ):
            time.sleep(0.05)
        assert tables(source) == []
    assert restore(exported).returncode == 0


def test_compare_needs_the_recorders_tables(exported, server):
    other = Pipeline(exported.output_dir, new_source(server, schema=False).environment)
    failed = restore(other, "--compare")
    assert failed.returncode == 35 and "has no table stream_ingest.ladder_levels" in failed.stderr
    assert failed.stderr.count("\n") == 1
