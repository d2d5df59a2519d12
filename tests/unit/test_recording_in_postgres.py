"""The invented recording in a database: loaded in pieces, summed up, interrupted."""

import contextlib
import datetime
import os
import signal
import threading

import adbc_driver_postgresql.dbapi
import pyarrow as pa
import pytest

from tasks.demo.load import _append, create_schema, load
from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tests.unit.recording_database import filled, query

TABLES = {
    "stream_ingest.ladder_levels": "market_id, selection_id, side, level, price, size, publish_time, received_time",
    "stream_ingest.traded_volume": "market_id, selection_id, price, size_traded, publish_time, received_time",
    "stream_ingest.market_lifecycle_events": "market_id, status, in_play, publish_time, received_time",
    "stream_ingest.market_liquidity_history": "market_id, publish_time, total_matched, max_runner_ltp",
    "public.events": "event_id, event_name, home_team, away_team, open_date",
    "public.markets": "market_id, event_id, market_type, market_name, market_start_time, segment, total_matched",
    "public.runners": "market_id, selection_id, runner_name",
    "public.market_settlement": "market_id, settled_at, source, created_at",
    "public.market_runner_settlement": "market_id, selection_id, runner_status",
}


def test_loaded_in_pieces_or_at_once(server: PostgresServer) -> None:
    recording = Recording.tiny()
    cuts = [recording.start + datetime.timedelta(hours=hours) for hours in (0, 20.5, 24, 48)]
    with (
        contextlib.closing(filled(server, "at_once", recording)) as whole,
        contextlib.closing(filled(server, "in_pieces", recording, *cuts)) as pieces,
    ):
        for table, columns in TABLES.items():
            statement = f"SELECT {columns} FROM {table} ORDER BY {columns}"
            assert query(whole, statement) == query(pieces, statement) != [], table
        tables = (
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'stream_ingest.ladder_levels'::regclass"
            " ORDER BY 1"
        )
        assert query(whole, tables) == query(pieces, tables)
        keys = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'stream_ingest' ORDER BY 1"
        server.create_database("schema_only")
        with contextlib.closing(server.connect("schema_only")) as untouched:
            create_schema(untouched)
            expected = {definition.replace(" ON ONLY ", " ON ") for (definition,) in query(untouched, keys)}
        assert expected <= {definition.replace(" ON ONLY ", " ON ") for (definition,) in query(whole, keys)}


def test_the_summary_says_what_is_there(server: PostgresServer) -> None:
    recording = Recording.tiny(seed=3)
    server.create_database("summary")
    with contextlib.closing(server.connect("summary")) as connection:
        create_schema(connection)
        summary = load(recording, server.conninfo("summary"))
        counts = [
            query(connection, f"SELECT count(*) FROM stream_ingest.{name}")[0][0]
            for name in ("ladder_levels", "traded_volume")
        ]
        assert counts == [summary.ladder_rows, summary.traded_rows]
        with_ticks = query(connection, "SELECT count(DISTINCT market_id) FROM stream_ingest.ladder_levels")[0][0]
        assert with_ticks == summary.markets - summary.markets_without_ticks
        days = query(
            connection,
            "SELECT DISTINCT (publish_time AT TIME ZONE 'UTC')::date FROM stream_ingest.ladder_levels ORDER BY 1",
        )
        assert tuple(day for (day,) in days) == summary.days


def test_ctrl_c_while_the_driver_writes_is_an_interrupt(server: PostgresServer) -> None:
    server.create_database("slow")
    with contextlib.closing(server.connect("slow")) as connection, connection, connection.cursor() as cursor:
        cursor.execute("""CREATE TABLE slow (n bigint);
                          CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
                              AS 'BEGIN PERFORM pg_sleep(3600); RETURN new; END';
                          CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()""")
    interrupt = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
    with (
        adbc_driver_postgresql.dbapi.connect(server.conninfo("slow"), autocommit=True) as adbc,
        pytest.raises(KeyboardInterrupt),
    ):
        interrupt.start()
        _append(adbc, "public", "slow", pa.table({"n": [1]}))
