"""The statements that create the recorder's tables in a schema of their own, fill them and compare them."""

#: The tables as the platform has them, without constraints that an export may not meet: that each market has a row, an
#: event and a type. Keys are added after the rows, which takes half the time, and only if no rows share one.
TABLES = """
    CREATE TABLE {schema}.events (
        event_id varchar(32) PRIMARY KEY, event_name text, home_team varchar(255), away_team varchar(255),
        open_date timestamptz);
    CREATE TABLE {schema}.markets (
        market_id varchar(32) PRIMARY KEY, event_id varchar(32), market_type varchar(64), market_name text,
        market_start_time timestamptz, segment varchar(32), total_matched numeric(20, 2));
    CREATE TABLE {schema}.runners (
        market_id varchar(32) NOT NULL, selection_id bigint NOT NULL, runner_name text,
        PRIMARY KEY (market_id, selection_id));
    CREATE TABLE {schema}.ladder_levels (
        market_id varchar(32) NOT NULL, selection_id bigint NOT NULL,
        side char(1) NOT NULL CHECK (side IN ('B', 'L')), level smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
        price double precision NOT NULL, size double precision NOT NULL,
        publish_time timestamptz NOT NULL, received_time timestamptz NOT NULL, ingest_source text, client_version text)
        PARTITION BY RANGE (publish_time);
    CREATE TABLE {schema}.traded_volume (
        market_id varchar(32) NOT NULL, selection_id bigint NOT NULL, price double precision NOT NULL,
        size_traded double precision NOT NULL, publish_time timestamptz NOT NULL, received_time timestamptz NOT NULL);
    CREATE TABLE {schema}.market_lifecycle_events (
        market_id varchar(32) NOT NULL, status varchar(32), in_play boolean, publish_time timestamptz NOT NULL,
        received_time timestamptz NOT NULL)
"""
PARTITION = "CREATE TABLE {partition} PARTITION OF {table} FOR VALUES FROM ({lower}) TO ({upper})"
COPY = "COPY {table} ({columns}) FROM STDIN (FORMAT binary, FREEZE)"

EVENTS = "INSERT INTO {schema}.events (event_id) SELECT unnest(%(ids)s::text[]) ON CONFLICT DO NOTHING"
MARKETS = """
    INSERT INTO {schema}.markets (market_id, event_id, market_type, market_name, market_start_time)
    SELECT * FROM unnest(%(ids)s::text[], %(events)s::text[], %(types)s::text[], %(names)s::text[],
                         %(starts)s::text[]::timestamptz[])
"""
RUNNERS = """
    INSERT INTO {schema}.runners (market_id, selection_id, runner_name)
    SELECT * FROM unnest(%(ids)s::text[], %(selections)s::bigint[], %(names)s::text[])
"""
LIFECYCLE = """
    INSERT INTO {schema}.market_lifecycle_events (market_id, status, in_play, publish_time, received_time)
    SELECT id, status, in_play, moment::timestamptz, moment::timestamptz
      FROM unnest(%(ids)s::text[], %(statuses)s::text[], %(in_plays)s::boolean[], %(moments)s::text[])
           AS known(id, status, in_play, moment)
"""

#: The primary key of each table. A source without it can hold several rows with the same key.
KEYS = {
    "ladder_levels": "ALTER TABLE {table} ADD PRIMARY KEY (market_id, selection_id, side, level, publish_time)",
    "traded_volume": "ALTER TABLE {table} ADD PRIMARY KEY (market_id, selection_id, price, publish_time)",
}
INDEXES = """
    CREATE INDEX idx_stream_ladder_market_selection_time
        ON {schema}.ladder_levels (market_id, selection_id, publish_time DESC);
    CREATE INDEX idx_traded_volume_market_time ON {schema}.traded_volume (market_id, selection_id, publish_time DESC);
    CREATE INDEX idx_lifecycle_market_time ON {schema}.market_lifecycle_events (market_id, publish_time DESC);
    CREATE INDEX idx_markets_event_id ON {schema}.markets (event_id);
    ANALYZE {schema}.events, {schema}.markets, {schema}.runners, {schema}.ladder_levels, {schema}.traded_volume,
            {schema}.market_lifecycle_events
"""

#: Whether we may create in a schema, and what it contains; no row if there is no such schema.
SCHEMA = """
    SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
           ARRAY(SELECT relname::text FROM pg_catalog.pg_class WHERE relnamespace = n.oid
                 UNION SELECT typname::text FROM pg_catalog.pg_type
                        WHERE typnamespace = n.oid AND typrelid = 0 AND typcategory <> 'A'
                 UNION SELECT proname::text FROM pg_catalog.pg_proc WHERE pronamespace = n.oid ORDER BY 1 LIMIT 3)
      FROM pg_catalog.pg_namespace n WHERE nspname = %(name)s
"""
MAY_CREATE = "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')"

#: The number of rows of markets, each up to a time, that are in the first of two tables but not in the second.
ONLY_IN_FIRST = """
    SELECT count(*) FROM (
        SELECT {columns} FROM {first} AS tick
          JOIN unnest(%(ids)s::varchar[], %(until)s::timestamptz[]) AS wanted(market, until)
            ON tick.market_id = wanted.market AND tick.publish_time <= wanted.until
        EXCEPT ALL
        SELECT {columns} FROM {second} AS tick WHERE tick.market_id = ANY (%(ids)s::varchar[])) AS rest
"""
