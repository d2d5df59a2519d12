"""catalogue.sql: views for DuckDB over what an export has."""

import json
from collections.abc import Collection

import pyarrow as pa

from tasks.errors import UsageError
from tasks.market_files import formats
from tasks.storage.layout import Layout
from tasks.ticks.schema import SCHEMA, TEXT, TIME

_HEAD = """\
-- Views over this export for DuckDB: {views}.
--
-- In the export's directory:  duckdb -init catalogue.sql
-- In a program:               connection.execute(Path("catalogue.sql").read_text())
--
-- From elsewhere, or over an object store (for which DuckDB loads its httpfs extension), set the place first:
--   SET VARIABLE export_place = 's3://bucket/prefix';
-- The views use the market files that index.csv names now: read this file again when the export has changed.

SET VARIABLE export_place = coalesce(getvariable('export_place'), '.');
SET TimeZone = 'UTC';  -- times and days of the export are UTC
"""

_INDEX = """
-- index.csv
CREATE OR REPLACE VIEW market_files AS
SELECT * FROM read_csv(
    getvariable('export_place') || '/index.csv', header = true, auto_detect = false, columns = {types}
);
"""

_TICKS = """
SET VARIABLE market_files = (
    SELECT list(getvariable('export_place') || '/' || file_path ORDER BY market_id) FROM market_files
);

-- Every tick, with the columns of the market files. market_ticks('1.200806927') opens the file of one market only.
CREATE OR REPLACE VIEW ticks AS
SELECT * FROM {all};
CREATE OR REPLACE MACRO market_ticks(market) AS TABLE
SELECT * FROM {one};

-- The best prices of each runner as of a time, from the newest message at or before it:
--   SELECT * FROM best_prices('1.200806927', TIMESTAMPTZ '2022-07-11 14:00:00+00');
CREATE OR REPLACE MACRO best_prices(market, moment) AS TABLE
SELECT
    selection_id,
    any_value(publish_time) AS publish_time,
    any_value(price) FILTER (side = 'BACK' AND level = 0) AS back,
    any_value(size) FILTER (side = 'BACK' AND level = 0) AS back_size,
    any_value(price) FILTER (side = 'LAY' AND level = 0) AS lay,
    any_value(size) FILTER (side = 'LAY' AND level = 0) AS lay_size
FROM market_ticks(market)
WHERE publish_time = (SELECT max(publish_time) FROM market_ticks(market) WHERE publish_time <= moment)
GROUP BY selection_id
ORDER BY selection_id;
"""

_NO_TICKS = """
-- There are no ticks yet.
CREATE OR REPLACE VIEW ticks AS
SELECT {columns} WHERE false;
"""

_METADATA = """
-- One row per market: its metadata, and its row of index.csv.
CREATE OR REPLACE VIEW metadata AS
SELECT * FROM read_json(
    getvariable('export_place') || '/markets/*_metadata.json', format = 'unstructured', columns = {types}
);
CREATE OR REPLACE VIEW markets AS
SELECT
    market_id, event_id, marketName AS market_name, marketType AS market_type, marketStartTime AS market_start_time,
    marketStatus AS market_status, inPlay AS in_play, numberOfRunners AS number_of_runners,
    market_files.* EXCLUDE (market_id, event_id)
FROM market_files LEFT JOIN metadata ON marketId = market_id;

-- One row per market and runner.
CREATE OR REPLACE VIEW runners AS
SELECT marketId AS market_id, runner.selectionId AS selection_id, runner.runnerName AS runner_name, runner.handicap
FROM (SELECT marketId, unnest(runners) AS runner FROM metadata);
"""
_METADATA_TYPES = {
    "marketId": "VARCHAR",
    "marketName": "VARCHAR",
    "marketType": "VARCHAR",
    "marketStartTime": "TIMESTAMPTZ",
    "marketStatus": "VARCHAR",
    "inPlay": "BOOLEAN",
    "numberOfRunners": "BIGINT",
    "runners": "STRUCT(selectionId BIGINT, runnerName VARCHAR, handicap DOUBLE)[]",
}
_NO_METADATA = """
-- One row per market: its row of index.csv, as the export has no metadata.
CREATE OR REPLACE VIEW markets AS
SELECT * FROM market_files;
"""

# read_text, because read_json takes only objects up to a size, and opens the file where the view is made
_CONDITION = """
-- One row per market, and one per UTC day: can it be used, and if not, why?
CREATE OR REPLACE VIEW condition AS
SELECT market.* FROM (
    SELECT unnest(from_json(content -> 'markets', '{markets}')) AS market
    FROM read_text(getvariable('export_place') || '/condition.json')
);
CREATE OR REPLACE VIEW condition_of_days AS
SELECT day.* FROM (
    SELECT unnest(from_json(content -> 'days', '{days}')) AS day
    FROM read_text(getvariable('export_place') || '/condition.json')
);
"""
_REASON = {
    "reason": "VARCHAR",
    "is_note": "BOOLEAN",
    "count": "BIGINT",
    "messages": "BIGINT",
    "intervals": [{"from": "TIMESTAMPTZ", "to": "TIMESTAMPTZ", "count": "BIGINT"}],
    "intervals_left_out": "BIGINT",
}
_MARKET = {
    "market_id": "VARCHAR",
    "condition": "VARCHAR",
    "ticks": "BIGINT",
    "messages": "BIGINT",
    "first": "TIMESTAMPTZ",
    "last": "TIMESTAMPTZ",
    "reasons": [_REASON],
}
_DAY = {
    "date": "DATE",
    "condition": "VARCHAR",
    "ticks": "BIGINT",
    "markets": "BIGINT",
    "usual_ticks": "DOUBLE",
    "usual_markets": "DOUBLE",
    "markets_without_ticks": ["VARCHAR"],
    "reasons": [_REASON | {"markets": "BIGINT"}],
}

_SUMMARY = """
-- What BuildRunnerSummary has written, one row per market and runner.
CREATE OR REPLACE VIEW runner_summary AS
SELECT * FROM read_parquet(getvariable('export_place') || '/runner_summary.parquet');
"""

_STATES = """
-- What BuildStates has written: status and in-play over time.
CREATE OR REPLACE VIEW states AS
SELECT * FROM read_parquet(getvariable('export_place') || '/states/marketId=*.parquet', hive_partitioning = false);
"""

_RESULTS = """
-- What BuildStates has written: who has won, one row per settled market and runner.
CREATE OR REPLACE VIEW results AS
SELECT * FROM read_parquet(getvariable('export_place') || '/states/results.parquet');
"""

_INDEX_TYPES = {
    "market_id": "VARCHAR",
    "event_id": "VARCHAR",
    "first_tick_timestamp": "TIMESTAMPTZ",
    "last_tick_timestamp": "TIMESTAMPTZ",
    "total_tick_records": "BIGINT",
    "total_messages": "BIGINT",
    "file_path": "VARCHAR",
    "file_size_bytes": "BIGINT",
    "checksum": "VARCHAR",
}
#: DuckDB's name of every type that a column of a tick can have, also of those that none has yet.
_TYPES = {
    pa.string(): "VARCHAR",
    TEXT: "VARCHAR",
    TIME: "TIMESTAMPTZ",
    pa.date32(): "DATE",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
    pa.int8(): "TINYINT",
    pa.float64(): "DOUBLE",
    pa.float32(): "REAL",
    pa.bool_(): "BOOLEAN",
}


def text(layout: Layout, market_ids: Collection[str]) -> str:
    """Return the content of catalogue.sql for what is in an output directory now.

    market_ids: that the index lists. Raises UsageError if DuckDB cannot read the format of the market files.
    """
    parts = [
        (_INDEX.format(types=_struct(_INDEX_TYPES)), "market_files"),
        (_ticks(layout.format) if market_ids else _NO_TICKS.format(columns=_NULLS), "ticks"),
    ]
    if any(layout.metadata_file(market_id).exists() for market_id in market_ids):
        parts.append((_METADATA.format(types=_struct(_METADATA_TYPES)), "markets, runners"))
    else:
        parts.append((_NO_METADATA, "markets"))
    if layout.condition.exists():
        parts.append(
            (_CONDITION.format(markets=json.dumps([_MARKET]), days=json.dumps([_DAY])), "condition, condition_of_days")
        )
    if layout.runner_summary.exists():
        parts.append((_SUMMARY, "runner_summary"))
    if any(layout.states_file(market_id).exists() for market_id in market_ids):
        parts.append((_STATES, "states"))
    if layout.results.exists():
        parts.append((_RESULTS, "results"))
    return _HEAD.format(views=", ".join(view for _, view in parts)) + "".join(sql for sql, _ in parts)


def _ticks(format: str) -> str:
    reads = formats.named(format).duckdb
    if not reads:
        raise UsageError(f"DuckDB reads no {format} files, so there is no catalogue for them.")
    columns = _struct(_COLUMNS)
    one = f"getvariable('export_place') || '/markets/marketId=' || market || '.{format}'"
    return _TICKS.format(
        all=reads.format(files="getvariable('market_files')", columns=columns),
        one=reads.format(files=one, columns=columns),
    )


def _struct(types: dict[str, str]) -> str:
    """Return columns and their types as DuckDB writes a struct."""
    return "{" + ", ".join(f"{name}: '{type}'" for name, type in types.items()) + "}"


_COLUMNS = {field.name: _TYPES[field.type] for field in SCHEMA}
_NULLS = ", ".join(f"NULL::{type} AS {name}" for name, type in _COLUMNS.items())
