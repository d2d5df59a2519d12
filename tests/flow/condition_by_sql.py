"""The reasons of condition.json, recomputed by SQL on the source database: counts and intervals of markets and days."""

import datetime
import json
from pathlib import Path
from typing import Any

#: The price ladder of Betfair's documentation: from, below, step, in hundredths.
_LADDER = """
    SELECT (hundredths / 100.0)::float8 AS price
      FROM (VALUES (101, 199, 1), (200, 298, 2), (300, 395, 5), (400, 590, 10), (600, 980, 20), (1000, 1950, 50),
                   (2000, 2900, 100), (3000, 4800, 200), (5000, 9500, 500), (10000, 100000, 1000))
        AS part(first, last, step), generate_series(first, last, step) AS hundredths"""

_TABLES = f"""
    CREATE TEMP TABLE ladder_price AS {_LADDER};
    CREATE TEMP TABLE tick AS
        SELECT market_id, publish_time, received_time, selection_id, side::text, level::int, price, size
          FROM stream_ingest.ladder_levels
        UNION ALL
        SELECT market_id, publish_time, received_time, selection_id, NULL, NULL, price, size_traded
          FROM stream_ingest.traded_volume
         WHERE market_id IN (SELECT market_id FROM stream_ingest.ladder_levels);
    CREATE TEMP TABLE message AS
        SELECT *, row_number() OVER (PARTITION BY market_id ORDER BY publish_time) AS n,
               lead(publish_time) OVER (PARTITION BY market_id ORDER BY publish_time) AS after
          FROM (SELECT market_id, publish_time, min(received_time) AS first_received,
                       max(received_time) AS last_received, bool_or(side IS NOT NULL) AS has_ladder, count(*) AS ticks
                  FROM tick GROUP BY market_id, publish_time) AS grouped;
    CREATE TEMP TABLE flaw AS
        SELECT 'off_ladder_price' AS reason, market_id, publish_time, count(*) AS count FROM tick
         WHERE NOT EXISTS (SELECT FROM ladder_price WHERE ladder_price.price = tick.price) GROUP BY 2, 3
        UNION ALL SELECT 'repeated_publish_time', market_id, publish_time, 1 FROM message
         WHERE last_received <> first_received
        UNION ALL SELECT 'negative_latency', market_id, publish_time, 1 FROM message WHERE first_received < publish_time
        UNION ALL SELECT 'high_latency', market_id, publish_time, 1 FROM message
         WHERE last_received - publish_time > interval '5 s'
        UNION ALL SELECT 'crossed_book', market_id, publish_time, count(*)
          FROM (SELECT market_id, publish_time, max(price) FILTER (WHERE side = 'B') AS back,
                       max(price) FILTER (WHERE side = 'L') AS lay
                  FROM tick WHERE level = 0 GROUP BY market_id, publish_time, selection_id) AS best
         WHERE back >= lay GROUP BY 2, 3
        UNION ALL SELECT 'levels_out_of_order', market_id, publish_time, count(*)
          FROM tick JOIN (SELECT market_id, publish_time, selection_id, side, level + 1 AS level, price AS better
                            FROM tick WHERE side IS NOT NULL) AS before
               USING (market_id, publish_time, selection_id, side, level)
         WHERE CASE side WHEN 'B' THEN price >= better ELSE price <= better END GROUP BY 2, 3
        UNION ALL SELECT 'volume_fell', market_id, publish_time, count(*)
          FROM (SELECT market_id, publish_time, sum(size) AS volume, lag(sum(size))
                       OVER (PARTITION BY market_id, selection_id ORDER BY publish_time) AS before
                  FROM tick WHERE side IS NULL GROUP BY market_id, publish_time, selection_id) AS runner
         WHERE volume < before - 0.005 GROUP BY 2, 3
        UNION ALL SELECT 'no_first_image', market_id, publish_time, 1 FROM message WHERE n = 1 AND NOT has_ladder;
    CREATE TEMP TABLE pace AS
        SELECT market_id, publish_time, after, step, n,
               (SELECT array_agg(near ORDER BY near DESC) FROM unnest(around) AS near) AS around
          FROM (SELECT *, array_agg(step) OVER (PARTITION BY market_id ORDER BY n
                          ROWS BETWEEN 20 PRECEDING AND 20 FOLLOWING EXCLUDE CURRENT ROW) AS around
                  FROM (SELECT *, extract(epoch FROM after - publish_time)::float8 AS step FROM message
                         WHERE after IS NOT NULL) AS steps) AS windows
         WHERE step >= 20;
    CREATE TEMP TABLE limits AS
        SELECT pace.*, counts.* FROM pace, LATERAL (
            SELECT count(*) AS known, max(near) AS second, avg(near) + 14 * stddev_pop(near) AS random
              FROM unnest(around[2:]) AS near) AS counts
         WHERE cardinality(around) >= 9;
"""
_GAPS = """
    SELECT market_id, publish_time, after FROM limits LEFT JOIN in_play USING (market_id)
     WHERE CASE WHEN publish_time >= off THEN step >= 20 AND step >= trunc(greatest(2 * second, random) * 1e6) / 1e6
                ELSE step >= 120 AND step >= trunc(greatest(3 * second, random) * 1e6) / 1e6 END
       AND step > greatest(2 * second, random)
     ORDER BY 1, 2"""
_RUNS = """
    SELECT reason, market_id, min(publish_time), max(publish_time), sum(count)::bigint, count(*)
      FROM (SELECT flaw.*, n - row_number() OVER (PARTITION BY reason, market_id ORDER BY n) AS run
              FROM flaw JOIN message USING (market_id, publish_time)) AS numbered
     GROUP BY reason, market_id, run ORDER BY 1, 2, 3"""

Reasons = dict[tuple[str, str], tuple[int, int, list[tuple[str, str, int]]]]


def text(moment: datetime.datetime) -> str:
    """Return a time as condition.json has it."""
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def of_database(connection: Any, in_play: dict[str, datetime.datetime]) -> Reasons:
    """Return by market and reason the count, the messages and all intervals; in_play: from when a market was."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(_TABLES)
        cursor.execute("CREATE TEMP TABLE in_play (market_id text, off timestamptz)")
        cursor.executemany("INSERT INTO in_play VALUES (%s, %s)", list(in_play.items()))
        found: Reasons = {}
        cursor.execute(_RUNS)
        for reason, market_id, first, last, count, messages in cursor.fetchall():
            before = found.get((market_id, reason), (0, 0, []))
            interval = (text(first), text(last), count)
            found[market_id, reason] = before[0] + count, before[1] + messages, [*before[2], interval]
        cursor.execute(_GAPS)
        for market_id, first, last in cursor.fetchall():
            before = found.get((market_id, "gap"), (0, 0, []))
            found[market_id, "gap"] = before[0] + 1, before[1] + 1, [*before[2], (text(first), text(last), 1)]
    return found


def of_condition(path: Path) -> Reasons:
    """Return the same as condition.json has it, without the notes on metadata."""
    metadata = {"no_metadata", "no_runner_name", "runner_without_ticks", "in_play_unknown"}
    return {
        (market["market_id"], reason["reason"]): (
            reason["count"],
            reason["messages"],
            [(interval["from"], interval["to"], interval["count"]) for interval in reason["intervals"]],
        )
        for market in json.loads(path.read_text())["markets"]
        for reason in market["reasons"]
        if reason["reason"] not in metadata
    }
