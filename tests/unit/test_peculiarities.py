"""The peculiarities of the invented recording: late rows, twins and the rest, each where it was asked for."""

import contextlib
from collections.abc import Iterator

import psycopg2
import pytest

from tasks.demo.local_server import PostgresServer
from tasks.demo.recording import Recording
from tests.unit.recording_database import filled, query


@pytest.fixture(scope="module", params=["tiny", "demo"])
def database(request: pytest.FixtureRequest, server: PostgresServer) -> Iterator["psycopg2.extensions.connection"]:
    """A connection to a database with such a recording."""
    with contextlib.closing(
        filled(server, f"generator_{request.param}", getattr(Recording, request.param)())
    ) as connection:
        yield connection


class TestPeculiarities:
    """What the demo shows and the tests need, in the database."""

    def test_partitions(self, database: "psycopg2.extensions.connection") -> None:
        rows = query(
            database,
            """SELECT tableoid::regclass::text, min(publish_time)::date, max(publish_time)::date
                                    FROM stream_ingest.ladder_levels GROUP BY 1 ORDER BY 1""",
        )
        assert len(rows) >= 2 and rows[-1][0] == "stream_ingest.ladder_levels_older"
        assert all(table.endswith(f"{first:%Y%m%d}") and first == last for table, first, last in rows[:-1])

    def test_markets_without_ticks(self, database: "psycopg2.extensions.connection") -> None:
        assert query(
            database,
            """SELECT 1 FROM public.markets WHERE market_id NOT IN (SELECT market_id FROM stream_ingest.ladder_levels
                                   UNION SELECT market_id FROM stream_ingest.traded_volume)""",
        )

    def test_a_market_with_ticks_that_nobody_knows(self, database: "psycopg2.extensions.connection") -> None:
        assert (
            len(
                query(
                    database,
                    """SELECT DISTINCT market_id FROM stream_ingest.ladder_levels
                                       WHERE market_id NOT IN (SELECT market_id FROM public.markets)""",
                )
            )
            == 1
        )

    def test_traded_rows_newer_than_the_ladder(self, database: "psycopg2.extensions.connection") -> None:
        assert query(
            database,
            """SELECT market_id FROM stream_ingest.ladder_levels l GROUP BY 1 HAVING max(publish_time) <
                                  (SELECT max(publish_time) FROM stream_ingest.traded_volume t
                                      WHERE t.market_id = l.market_id)""",
        )

    def test_markets_without_trades_and_beyond_midnight(self, database: "psycopg2.extensions.connection") -> None:
        assert query(
            database,
            """SELECT market_id FROM stream_ingest.ladder_levels
                                   WHERE market_id NOT IN (SELECT market_id FROM stream_ingest.traded_volume)""",
        )
        assert query(
            database,
            "SELECT market_id FROM stream_ingest.ladder_levels GROUP BY 1 HAVING count(DISTINCT"
            " publish_time::date) > 1",
        )

    def test_events(self, database: "psycopg2.extensions.connection") -> None:
        types = query(database, "SELECT event_id, array_agg(DISTINCT market_type::text) FROM public.markets GROUP BY 1")
        kinds = [set(names) for _, names in types]
        assert {"MATCH_ODDS_FT", "OVER_UNDER_25_FT", "NEXT_GOAL"} in kinds and {"WIN", "PLACE"} in kinds

    def test_names(self, database: "psycopg2.extensions.connection") -> None:
        names = [name for (name,) in query(database, "SELECT runner_name FROM public.runners")]
        assert None in names
        for hard in (",", '"', "'", "="):
            assert any(hard in name for name in names if name), hard
        assert any(name.startswith(("=", "+")) for name in names if name)
        assert any(ord(max(name)) > 0xFFFF for name in names if name), "no emoji"
        assert query(database, "SELECT 1 FROM public.events WHERE event_name IS NULL")
        assert query(database, "SELECT 1 FROM public.markets WHERE market_name IS NULL")
        assert query(database, "SELECT 1 FROM public.markets WHERE market_name LIKE '%,%'")

    def test_lifecycle(self, database: "psycopg2.extensions.connection") -> None:
        assert query(
            database,
            "SELECT DISTINCT status FROM stream_ingest.market_lifecycle_events WHERE status IS NOT NULL ORDER BY 1",
        ) == [("CLOSED",), ("OPEN",), ("SUSPENDED",)]
        for column in ("status", "in_play"):
            assert query(database, f"SELECT 1 FROM stream_ingest.market_lifecycle_events WHERE {column} IS NULL")
        assert query(
            database,
            "SELECT 1 FROM stream_ingest.market_lifecycle_events GROUP BY market_id, status HAVING count(*) > 2",
        )

    def test_received_time(self, database: "psycopg2.extensions.connection") -> None:
        assert query(
            database,
            """SELECT 1 FROM stream_ingest.ladder_levels l JOIN stream_ingest.traded_volume t
                                   USING (market_id, publish_time) WHERE l.received_time < t.received_time LIMIT 1""",
        )

    def test_settlement_and_liquidity(self, database: "psycopg2.extensions.connection") -> None:
        assert query(
            database,
            "SELECT DISTINCT runner_status FROM public.market_runner_settlement WHERE runner_status = 'WINNER'",
        )
        assert (
            query(
                database,
                # size_traded is a running sum of cumulative figures: what it grew by last is what is matched, or more
                # where two messages of one millisecond were stored as one
                """WITH changed AS (
                       SELECT market_id, selection_id, price, publish_time,
                              size_traded - coalesce(lag(size_traded) OVER w, 0) AS volume,
                              size_traded IS DISTINCT FROM lag(size_traded) OVER w AS is_new
                         FROM stream_ingest.traded_volume
                       WINDOW w AS (PARTITION BY market_id, selection_id, price ORDER BY publish_time))
                   SELECT 1 FROM stream_ingest.market_liquidity_history h WHERE total_matched > (
                       SELECT coalesce(sum(volume), 0)::numeric(20, 2) FROM (
                           SELECT DISTINCT ON (selection_id, price) volume FROM changed
                            WHERE is_new AND changed.market_id = h.market_id AND changed.publish_time <= h.publish_time
                            ORDER BY selection_id, price, changed.publish_time DESC) AS newest)
                      AND h.publish_time = (SELECT max(publish_time) FROM stream_ingest.market_liquidity_history AS last
                                             WHERE last.market_id = h.market_id)""",
            ) == []
        )
