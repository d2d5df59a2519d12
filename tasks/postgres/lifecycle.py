"""Read market_lifecycle_events: status and in-play of markets over time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg2 import sql

from tasks.postgres.database import Database
from tasks.postgres.question_statements import MICROSECONDS, WRITABLE
from tasks.postgres.source_tables import LIFECYCLE

_ROWS = (
    """
    SELECT wanted.market_id, event.times, event.statuses, event.in_plays
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL (
         SELECT array_agg("""
    + MICROSECONDS.format("publish_time")
    + """ ORDER BY {order}) AS times, array_agg(status::text ORDER BY {order}) AS statuses,
                array_agg(in_play ORDER BY {order}) AS in_plays
           FROM {lifecycle} AS l
          WHERE l.market_id = wanted.market_id AND (status IS NOT NULL OR in_play IS NOT NULL) AND """
    + WRITABLE.format("publish_time")
    + """) AS event
     WHERE event.times IS NOT NULL
"""
)

#: Of rows with the same publish_time, the one received last comes last; ties are broken by the values.
_ORDER = "publish_time, received_time, status NULLS FIRST, in_play NULLS FIRST"


class LifecycleRows(NamedTuple):
    """The lifecycle rows of a market, ordered by time (microseconds since 1970). Of rows with the same time, the last
    one counts.
    """

    market_id: str
    times: Sequence[int]
    statuses: Sequence[str | None]
    in_plays: Sequence[bool | None]


def lifecycle_rows(database: Database, market_ids: Sequence[str]) -> list[LifecycleRows]:
    """Return the lifecycle rows of each of these markets that has any."""
    statement = sql.SQL(_ROWS).format(lifecycle=database.source_tables.rows(LIFECYCLE), order=sql.SQL(_ORDER))
    rows: list[tuple[Any, ...]] = database.query(statement, {"ids": list(market_ids)})
    return [LifecycleRows(*row) for row in rows]
