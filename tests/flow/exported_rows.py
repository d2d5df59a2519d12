"""The rows of a market in the database and in its file, in one shape to compare."""

import duckdb

from tests.conftest import Pipeline, Source


def rows_in_database(source: Source, market_id: str) -> list[tuple]:
    """Return a market's ticks in the order and with the values of the contract, by SQL alone."""
    return source.query(
        """
        SELECT to_char(received_time, 'YYYY-MM-DD HH24:MI:SS.US'), to_char(publish_time, 'YYYY-MM-DD HH24:MI:SS.US'),
               market_id, selection_id,
               CASE side WHEN 'B' THEN 'BACK' ELSE 'LAY' END, price::float8, size::float8,
                   NULL::float8, 'update', level::int,
                   'ladder', NULL::bool,
               level::bigint
          FROM stream_ingest.ladder_levels WHERE market_id = %s
         UNION ALL
        SELECT to_char(received_time, 'YYYY-MM-DD HH24:MI:SS.US'), to_char(publish_time, 'YYYY-MM-DD HH24:MI:SS.US'),
               market_id, selection_id,
               NULL, price::float8, size_traded::float8, size_traded::float8, 'update', NULL, 'traded', NULL,
               dense_rank() OVER (PARTITION BY selection_id, publish_time ORDER BY price) - 1
          FROM stream_ingest.traded_volume WHERE market_id = %s
         ORDER BY 2, 11, 10, 4, 5, 6, 1, 7""",
        market_id,
        market_id,
    )


def rows_in_file(pipeline: Pipeline, market_id: str, format: str) -> list[tuple]:
    """Return a market file's rows as DuckDB reads them."""
    path = pipeline.market(market_id, format)
    source = (
        f"read_parquet('{path}', file_row_number=true)"
        if format == "parquet"
        else (
            f"(SELECT *, row_number() OVER () AS file_row_number FROM read_json('{path}', format='newline_delimited',"
            " columns={received_at: 'TIMESTAMPTZ', publish_time: 'TIMESTAMPTZ', market_id: 'VARCHAR', selection_id:"
            " 'BIGINT', side: 'VARCHAR', price: 'DOUBLE', size: 'DOUBLE', traded_volume: 'DOUBLE', change_type:"
            " 'VARCHAR', level: 'INT', record_type: 'VARCHAR', in_play: 'BOOLEAN', sequence: 'BIGINT'}))"
        )
    )
    return duckdb.execute(f"""
        SET TimeZone = 'UTC';
        SELECT strftime(received_at::timestamp, '%Y-%m-%d %H:%M:%S.%f'), strftime(publish_time::timestamp,
               '%Y-%m-%d %H:%M:%S.%f'),
               market_id, selection_id, side, price, size, traded_volume, change_type, level, record_type, in_play,
                   sequence
          FROM {source} ORDER BY file_row_number""").fetchall()
