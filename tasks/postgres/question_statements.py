"""The SQL of the small queries: which markets there are, how new and how large they are, and their metadata."""

#: Whether a file can hold a time: infinity and the years before 1 and after 9999 exist neither at Betfair nor in
#: Python.
WRITABLE = "({0} >= '0001-01-01Z'::timestamptz AND {0} < '10000-01-01Z'::timestamptz)"

#: Microseconds since 1970; a time after the year 9999 becomes the largest integer, so that only its own market fails.
MICROSECONDS = (
    "CASE WHEN {0} >= '10000-01-01Z' THEN 9223372036854775807 WHEN NOT isfinite({0}) THEN -9223372036854775807"
    " ELSE round(extract(epoch FROM {0}) * 1000000)::int8 END"
)

#: The server's time.
CLOCK = "SELECT " + MICROSECONDS.format("statement_timestamp()")

LEAVES = """
    SELECT n.nspname, c.relname, c.relkind, has_table_privilege(c.oid, 'SELECT'),
           coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int
      FROM (SELECT relid FROM pg_partition_tree(to_regclass(%(table)s)) WHERE isleaf
             UNION SELECT to_regclass(%(table)s)) AS leaf(oid)
      JOIN pg_class c ON c.oid = leaf.oid AND c.relkind <> 'p'
      JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY c.relname
"""

#: Every market id of a table in one index probe each, instead of a scan.
MARKET_IDS = """
    WITH RECURSIVE walk AS (
        (SELECT market_id FROM {table} ORDER BY market_id LIMIT 1)
        UNION ALL
        SELECT (SELECT market_id FROM {table} WHERE market_id > walk.market_id ORDER BY market_id LIMIT 1)
          FROM walk WHERE walk.market_id IS NOT NULL)
    SELECT market_id FROM walk WHERE market_id IS NOT NULL
"""

#: The same for a table without the platform's indexes.
MARKET_IDS_SCANNED = "SELECT DISTINCT market_id FROM {table} WHERE market_id IS NOT NULL ORDER BY 1"

#: The runners of each market with their newest publish_time, in one index probe each.
RUNNERS_OF = """
    WITH RECURSIVE walk AS (
        (SELECT selection_id, publish_time FROM {table} WHERE market_id = wanted.market_id
          ORDER BY selection_id, publish_time DESC LIMIT 1)
        UNION ALL
        SELECT next.* FROM walk CROSS JOIN LATERAL (
            SELECT selection_id, publish_time FROM {table}
             WHERE market_id = wanted.market_id AND selection_id > walk.selection_id
             ORDER BY selection_id, publish_time DESC LIMIT 1) AS next)
    SELECT selection_id, publish_time FROM walk
"""

NEWEST = (
    """
    SELECT wanted.market_id, """
    + MICROSECONDS.format("newest.publish_time")
    + """
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL (SELECT max(publish_time) AS publish_time FROM ("""
    + RUNNERS_OF
    + """) AS runner) AS newest
     WHERE newest.publish_time IS NOT NULL
"""
)

NEWEST_SCANNED = (
    "SELECT market_id, "
    + MICROSECONDS.format("max(publish_time)")
    + " FROM {table} WHERE market_id = ANY (%(ids)s::text[]) GROUP BY market_id HAVING max(publish_time) IS NOT NULL"
)

#: A sample of a table's pages: how many rows each market has, and when.
SAMPLE = (
    """
    SELECT market_id, (floor(date_part('epoch', publish_time) / %(step_s)s) * %(step_s)s)::int8, count(*)
      FROM {table} TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (0)
     WHERE """
    + WRITABLE.format("publish_time")
    + """ AND (%(ids)s::text[] IS NULL OR market_id = ANY (%(ids)s::text[]))
     GROUP BY 1, 2
"""
)

#: The runners of markets with a row in [lower, upper), in two index probes each.
RUNNERS_BETWEEN = (
    """
    SELECT wanted.market_id, runner.selection_id
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL ("""
    + RUNNERS_OF
    + """) AS runner
     CROSS JOIN LATERAL (
         SELECT FROM {table} AS tick
          WHERE tick.market_id = wanted.market_id AND tick.selection_id = runner.selection_id
            AND tick.publish_time >= %(lower)s::timestamptz AND tick.publish_time < %(upper)s::timestamptz
          LIMIT 1) AS found
     WHERE runner.publish_time >= %(lower)s::timestamptz
"""
)

RUNNERS_BETWEEN_SCANNED = """
    SELECT DISTINCT market_id, selection_id FROM {table}
     WHERE market_id = ANY (%(ids)s::text[])
       AND publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
"""

#: How many rows of [lower, upper) each market has on each UTC day, counted in the index, runner by runner.
DAY_COUNTS = (
    """
    SELECT wanted.market_id, (tick.publish_time AT TIME ZONE 'UTC')::date - date '1970-01-01', count(*)
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
     CROSS JOIN LATERAL ("""
    + RUNNERS_OF
    + """) AS runner
     CROSS JOIN LATERAL (
         SELECT publish_time FROM {table} AS tick
          WHERE tick.market_id = wanted.market_id AND tick.selection_id = runner.selection_id
            AND tick.publish_time >= %(lower)s::timestamptz AND tick.publish_time < %(upper)s::timestamptz
         ) AS tick
     WHERE runner.publish_time >= %(lower)s::timestamptz
     GROUP BY 1, 2
"""
)

DAY_COUNTS_SCANNED = """
    SELECT market_id, floor(extract(epoch FROM publish_time) / 86400)::int8, count(*) FROM {table}
     WHERE market_id = ANY (%(ids)s::text[])
       AND publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
     GROUP BY 1, 2
"""

#: Never run, only planned: the plan names the tables that can hold rows of [lower, upper).
BETWEEN = """
    EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT FROM {table}
     WHERE publish_time >= %(lower)s::timestamptz AND publish_time < %(upper)s::timestamptz
"""

EVENT_IDS = "SELECT market_id, event_id FROM {markets} AS market"

#: The markets that start in [lower, upper), with that moment.
MARKETS_STARTING = "SELECT market_id, " + MICROSECONDS.format("market_start_time") + """ FROM {markets} AS market
     WHERE market_start_time >= %(lower)s::timestamptz AND market_start_time < %(upper)s::timestamptz
"""

METADATA = (
    """
    SELECT wanted.market_id, m.event_id, m.market_name, m.market_type,
           CASE WHEN """
    + WRITABLE.format("m.market_start_time")
    + " THEN "
    + MICROSECONDS.format("m.market_start_time")
    + """ END,
           (SELECT status FROM {lifecycle} AS l
             WHERE l.market_id = wanted.market_id AND status IS NOT NULL AND """
    + WRITABLE.format("publish_time")
    + """
             ORDER BY publish_time DESC, received_time DESC, status DESC LIMIT 1),
           (SELECT in_play FROM {lifecycle} AS l
             WHERE l.market_id = wanted.market_id AND in_play IS NOT NULL AND """
    + WRITABLE.format("publish_time")
    + """
             ORDER BY publish_time DESC, received_time DESC, status DESC NULLS LAST, in_play DESC LIMIT 1),
           runner.ids, runner.names,
           (SELECT count(*) FROM {lifecycle} AS l WHERE l.market_id = wanted.market_id
               AND (publish_time < '0001-01-01Z'::timestamptz OR publish_time >= '10000-01-01Z'::timestamptz))
      FROM unnest(%(ids)s::text[]) AS wanted(market_id)
      LEFT JOIN {markets} AS m ON m.market_id = wanted.market_id
     CROSS JOIN LATERAL (
         SELECT array_agg(selection_id ORDER BY selection_id) AS ids, array_agg(runner_name ORDER BY selection_id)
                AS names
           FROM {runners} AS r WHERE r.market_id = wanted.market_id) AS runner
"""
)
