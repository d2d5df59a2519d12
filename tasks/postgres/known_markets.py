"""The markets that the database lists, and whether it has ticks for them."""

from collections.abc import Collection

from psycopg2 import sql

from tasks.postgres.database import Database
from tasks.postgres.question_statements import MARKETS_STARTING
from tasks.postgres.source_tables import LADDER, MARKETS, TRADED
from tasks.storage.file_names import is_market_id
from tasks.ticks.value_text import time_text

_DAY_US = 86_400_000_000


def without_ticks(
    database: Database, lower_us: int, upper_us: int, with_ticks: Collection[str]
) -> dict[int, list[str]]:
    """Return the markets that start in [lower_us, upper_us) and have no ticks, by the UTC day of their start (days
    since 1970). with_ticks: markets that are known to have ticks.
    """
    statement = sql.SQL(MARKETS_STARTING).format(markets=database.source_tables.rows(MARKETS))
    rows = database.query(statement, {"lower": time_text(lower_us), "upper": time_text(upper_us)})
    starts = {market_id: start for market_id, start in rows if market_id not in with_ticks and is_market_id(market_id)}
    if starts:
        for table in (*database.tables(LADDER), *database.tables(TRADED)):
            for market_id in database.newest(table, sorted(starts)):
                starts.pop(market_id, None)
    found: dict[int, list[str]] = {}
    for market_id in sorted(starts):
        found.setdefault(starts[market_id] // _DAY_US, []).append(market_id)
    return found
