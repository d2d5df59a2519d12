"""Add up the database's ticks by SQL: the counterpart of ticks/day_sums.py."""

import datetime
import decimal
import re
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString, Protocol

import pyarrow as pa
from psycopg2 import sql

from tasks.postgres.database import Database, timestamp_text
from tasks.postgres.question_statements import WRITABLE
from tasks.postgres.source_tables import LADDER, SourceTables
from tasks.ticks.day_sums import MIX_FACTOR, MIX_PRIME, Sums, mixed_columns
from tasks.ticks.schema import FORMAT_VERSION, Column

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_FINITE = "({0} > '-Infinity' AND {0} < 'Infinity')"
_BITS = "CASE {0} WHEN 'NaN' THEN 0 ELSE ('x' || encode(float8send({0}), 'hex'))::bit(64)::int8 END"
#: A row whose times no file can hold must not make the statement fail: it counts on the first day of all, and its mix
#: differs from that of every row that a file can hold.
_DELAY = "CASE WHEN " + WRITABLE.format("received_time") + " THEN received_time - published END"
_MICROSECONDS = "coalesce((extract(epoch FROM {0}) * 1000000)::int8, -1)"

#: A price or size as it is read, whatever type the column has.
_DOUBLE = "{0}::float8"

#: Sums of the rows of markets, each up to a time, by UTC day. They are exact: doubles are added as their shortest
#: decimals.
_SUMS = """
    SELECT market_id, (extract(epoch FROM day) / 86400)::int8, count(*), sum(published - day), sum({delay}),
           sum(selection_id),
           count(*) FILTER (WHERE {back}), sum({level}),
           sum(CASE WHEN {finite_price} THEN {price}::text::numeric END),
               sum(CASE WHEN {finite_size} THEN {size}::text::numeric END),
           count(*) FILTER (WHERE NOT {finite_price}) + count(*) FILTER (WHERE NOT {finite_size}),
               sum(mixed * mixed %% {prime})
      FROM (SELECT tick.*, published, day, {mixed} AS mixed
              FROM unnest(%(ids)s::varchar[], %(until)s::timestamptz[]) AS wanted(market, until)
              JOIN {table} AS tick ON tick.market_id = wanted.market AND tick.publish_time <= wanted.until
             CROSS JOIN LATERAL (SELECT {published} AS published) AS writable
             CROSS JOIN LATERAL date_trunc('day', published) AS day
            OFFSET 0) AS tick
     GROUP BY market_id, day
"""

#: The bounds of the partitions of ladder_levels as PostgreSQL writes them; a single null if it is not partitioned.
_RANGES = """
    SELECT pg_get_expr(c.relpartbound, c.oid)
      FROM (SELECT relid FROM pg_partition_tree(to_regclass(%(table)s)) WHERE isleaf
             UNION SELECT to_regclass(%(table)s)) AS leaf(oid)
      JOIN pg_class c ON c.oid = leaf.oid AND c.relkind <> 'p'
"""
_RANGE = re.compile(r"FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)")


class Asked(Protocol):
    """What the sums are of: the database, or a schema that is being restored."""

    source_tables: SourceTables

    def query(
        self, statement: LiteralString | sql.Composable, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""


def _statement(database: Asked, name: str, version: int) -> sql.Composed:
    is_ladder = name == LADDER
    columns = mixed_columns(version)
    source = {
        column.name: (
            (_DOUBLE if pa.types.is_floating(column.type) else "{0}").format(column.source[0 if is_ladder else 1])
        )
        for column in columns
        if column.source
    }
    size, back, level = source["size"], "side = 'B'" if is_ladder else "false", source["level"]
    mixed = "0"
    for value in (
        _MICROSECONDS.format("published - day"),
        _MICROSECONDS.format(_DELAY),
        *(_number(column, f"({back})::int" if column.name == "side" else source[column.name]) for column in columns),
    ):
        mixed = f"({mixed} * {MIX_FACTOR}::int8 + ({value}) % {MIX_PRIME}) % {MIX_PRIME}"
    parts = {
        "price": source["price"],
        "size": size,
        "back": back,
        "level": level,
        "published": f"CASE WHEN {WRITABLE.format('publish_time')} THEN publish_time ELSE '0001-01-01Z' END",
        "delay": _DELAY,
        "mixed": mixed,
        "prime": str(MIX_PRIME),
        "finite_price": _FINITE.format(source["price"]),
        "finite_size": _FINITE.format(size),
    }
    return sql.SQL(_SUMS).format(
        table=database.source_tables.rows(name),
        **{key: sql.SQL(part.replace("%", "%%")) for key, part in parts.items()},
    )


def _number(column: Column, value: str) -> str:
    """Return the SQL of what a column contributes to the mix, as in day_sums.py."""
    return _BITS.format(value) if pa.types.is_floating(column.type) else value


def sums(
    database: Asked, name: str, until_us: Mapping[str, int], version: int = FORMAT_VERSION
) -> Iterator[tuple[str, int, Sums]]:
    """Yield market id, day since 1970, and sums of the rows of stream_ingest.<name>, of each market up to a
    publish_time. version: of the market files to compare with.
    """
    until = [timestamp_text(moment) for moment in until_us.values()]
    for (
        market_id,
        day,
        rows,
        publish,
        delay,
        selection,
        back_rows,
        level,
        price,
        size,
        not_finite,
        mixed,
    ) in database.query(_statement(database, name, version), {"ids": list(until_us), "until": until}):
        yield (
            market_id,
            day,
            Sums(
                rows,
                publish // _MICROSECOND,
                (delay or datetime.timedelta()) // _MICROSECOND,
                int(selection),
                back_rows,
                int(level),
                price or decimal.Decimal(0),
                size or decimal.Decimal(0),
                not_finite,
                int(mixed),
            ),
        )


def ladder_ranges(database: Database) -> list[tuple[int, int]] | None:
    """Return the ranges of the partitions of ladder_levels, [from, to) in microseconds since 1970, without default
    partitions.

    None if the table is not partitioned.
    """
    bounds = [bound for name in database.quoted_names(LADDER) for (bound,) in database.query(_RANGES, {"table": name})]
    if None in bounds:
        return None
    ranges = [match.groups() for match in map(_RANGE.fullmatch, bounds) if match]
    return [
        (
            (datetime.datetime.fromisoformat(lower) - _EPOCH) // _MICROSECOND,
            (datetime.datetime.fromisoformat(upper) - _EPOCH) // _MICROSECOND,
        )
        for lower, upper in sorted(ranges)
    ]
