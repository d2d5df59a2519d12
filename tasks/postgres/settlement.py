"""Read the settlement tables, in installations that have them."""

from typing import NamedTuple

from psycopg2 import sql

from tasks.postgres.database import Database
from tasks.postgres.question_statements import MICROSECONDS, WRITABLE

_TABLES = ("market_settlement", "market_runner_settlement")

#: The schema that has both tables, readable to this user; public first.
_SCHEMA = """
    SELECT n.nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
     WHERE n.nspname IN ('public', 'stream_ingest') AND c.relname = ANY (%(names)s) AND c.relkind IN ('r', 'p', 'f')
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
     GROUP BY n.nspname HAVING count(*) = 2 ORDER BY n.nspname LIMIT 1
"""

_ROWS = (
    """
    SELECT m.market_id::text, CASE WHEN """
    + WRITABLE.format("m.settled_at")
    + " THEN "
    + MICROSECONDS.format("m.settled_at")
    + """ END, m.source::text, r.selection_id, r.runner_status::text
      FROM {markets} AS m LEFT JOIN {runners} AS r USING (market_id) ORDER BY 1, 4
"""
)


class Settled(NamedTuple):
    """The result of a runner of a settled market. settled_us: microseconds since 1970; selection_id, result: None if
    the tables have no runners for the market.
    """

    market_id: str
    settled_us: int | None
    source: str | None
    selection_id: int | None
    result: str | None


def settlements(database: Database) -> list[Settled]:
    """Return the results of all settled markets, sorted by market and runner; none if there are no such tables."""
    found = database.query(_SCHEMA, {"names": list(_TABLES)})
    if not found:
        return []
    names = {key: sql.Identifier(found[0][0], table) for key, table in zip(("markets", "runners"), _TABLES)}
    return [Settled(*row) for row in database.stream(sql.SQL(_ROWS).format(**names))]
