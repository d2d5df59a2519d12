"""The source database that tests fill: the recorder's schema and rows in it."""

import contextlib
import dataclasses

from tasks.demo.local_server import PostgresServer


@dataclasses.dataclass
class Source:
    """A source database with the recorder's schema."""

    server: PostgresServer
    name: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the pipeline here."""
        return self.server.environment(self.name)

    def query(self, statement: str, *values: object) -> list[tuple]:
        """Run a statement and commit; return its rows, if it has any."""
        with (
            contextlib.closing(self.server.connect(self.name)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def partition(self, day: str) -> None:
        """Create the partition of a UTC day."""
        self.query(
            f"CREATE TABLE stream_ingest.ladder_{day.replace('-', '')} PARTITION OF stream_ingest.ladder_levels "
            f"FOR VALUES FROM ('{day} 00:00+00') TO (timestamptz '{day} 00:00+00' + interval '1 day')"
        )

    def market(
        self,
        market_id: str,
        event_id: str = "30",
        runners: tuple[tuple[int, str | None], ...] = ((1, "One"), (2, "Two")),
    ) -> None:
        """Add a row of public.markets and its runners."""
        self.query("INSERT INTO public.events VALUES (%s) ON CONFLICT DO NOTHING", event_id)
        self.query(
            "INSERT INTO public.markets VALUES (%s, %s, 'MATCH_ODDS_FT', 'A v B', '2026-02-05 12:00+00')",
            market_id,
            event_id,
        )
        for selection_id, name in runners:
            self.query("INSERT INTO public.runners VALUES (%s, %s, %s)", market_id, selection_id, name)

    def message(
        self,
        market_id: str,
        time: str,
        prices: tuple[float, ...] = (2.0, 2.02),
        traded: tuple[float, ...] = (2.0, 2.02, 1.98),
        selection_id: int = 1,
        size: float = 10.5,
    ) -> None:
        """Add a message of one runner: a BACK and a LAY row a price, and a traded row a traded price."""
        self.query(
            """INSERT INTO stream_ingest.ladder_levels
                      SELECT %s, %s, side, n - 1, price, %s + n, %s, timestamptz %s + interval '13 milliseconds'
                        FROM unnest(%s::float8[]) WITH ORDINALITY AS p(price, n), unnest(ARRAY['B', 'L']) AS side""",
            market_id,
            selection_id,
            size,
            time,
            time,
            list(prices),
        )
        self.query(
            """INSERT INTO stream_ingest.traded_volume
                      SELECT %s, %s, price, %s + n, %s, timestamptz %s + interval '13 milliseconds'
                        FROM unnest(%s::float8[]) WITH ORDINALITY AS p(price, n)""",
            market_id,
            selection_id,
            size * 10,
            time,
            time,
            list(traded),
        )

    def ticks(self) -> int:
        """Count the ticks of both tables."""
        return self.query(
            "SELECT (SELECT count(*) FROM stream_ingest.ladder_levels) + (SELECT count(*) FROM"
            " stream_ingest.traded_volume)"
        )[0][0]
