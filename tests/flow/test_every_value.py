"""Hypothesis over the source's types: tables without keys and constraints, every value that a column can hold.

A market whose rows a file can hold is exported bit for bit, in both formats; any other is named, and no other suffers.
A few examples of many markets each; more with --walk.
"""

import io
import json
import math
import shutil
import struct
from collections import Counter

import duckdb
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import Pipeline, Source, index_of, new_source

_COMMON = ("market_id", "selection_id", "publish_time", "received_time", "price")
LADDER, TRADED = (*_COMMON, "size", "side", "level"), (*_COMMON, "size_traded")
FIRST, LAST = "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"
GOOD_TIMES = st.sampled_from([FIRST, LAST, "1969-12-31 23:59:59.999999+00", "2000-01-01 00:00:00+00"]) | st.integers(
    0, 3 * 86_400_000_000
).map(lambda us: f"2026-02-05 00:00:00+00:{us}")
BAD_TIMES = st.sampled_from(
    ["infinity", "-infinity", "294276-12-31 23:59:59.999999+00", "10000-01-01 00:00:00+00", "4713-01-01 00:00:00+00 BC"]
    + ["0001-12-31 23:59:59.999999+00 BC", None]
)
IDS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0, 2**39, 2**39 - 1, -(2**39)])
DOUBLES = st.floats() | st.sampled_from([-0.0, 0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, 1.01, 1000.0])
#: Of each type that a price or a size can have, its values.
NUMBERS = {
    "float8": DOUBLES,
    "real": st.floats(width=32),
    "numeric(15,5)": st.decimals(-9_999_999_999, 9_999_999_999, places=5) | st.just(math.nan),
    "int4": st.integers(-(2**31), 2**31 - 1),
}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@st.composite
def examples(draw):
    """Return a type for prices and sizes; markets as their ladder rows and traded rows; names of markets."""
    kind = draw(st.sampled_from(list(NUMBERS)))
    numbers = NUMBERS[kind]
    markets = []
    for _ in range(12):
        bad = draw(st.integers(0, 3)) == 0
        times = GOOD_TIMES | BAD_TIMES if bad else GOOD_TIMES
        ids, values = (IDS | st.none(), numbers | st.none()) if bad else (IDS, numbers)
        sides = st.sampled_from(["B", "L", "X", "\u00e9", None] if bad else "BL")
        levels = st.integers(-1, 8) | st.sampled_from([-32768, 32767, None]) if bad else st.integers(0, 7)
        ladder = st.lists(st.tuples(ids, times, times, values, values, sides, levels), min_size=1, max_size=3)
        traded = st.lists(st.tuples(ids, times, times, values, values), max_size=3)
        rows = draw(ladder), draw(traded)
        if draw(st.booleans()):  # rows that share their key, and rows that are the same
            rows = tuple(some + some[:1] for some in rows)
        markets.append(rows)
    return kind, markets, draw(st.lists(TEXT, min_size=12, max_size=12))


def told(value) -> str:
    """Return a value as COPY's text format has it."""
    if value is None:
        return "\\N"
    text = str(value)
    return "".join({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(letter, letter) for letter in text)


def moment(text):
    """Return a time that PostgreSQL reads: an offset in microseconds is added by the server's type."""
    if text is None or text.count(":") < 3:
        return text
    start, us = text.rsplit(":", 1)
    seconds, micros = divmod(int(us), 1_000_000)
    return (
        f"2026-02-{5 + seconds // 86_400:02}"
        f" {seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}+00"
    )


def load(source: Source, kind: str, markets, names) -> None:
    """Make the tables anew, without constraints and in another order, and fill them."""
    source.query(f"""
        DROP TABLE IF EXISTS stream_ingest.ladder_levels, stream_ingest.traded_volume; TRUNCATE public.events CASCADE;
        CREATE TABLE stream_ingest.ladder_levels (note text, level smallint, side char(1), size {kind}, price {kind},
            received_time timestamptz, publish_time timestamptz, selection_id bigint, market_id text);
        CREATE TABLE stream_ingest.traded_volume (size_traded {kind}, price {kind}, received_time timestamptz,
            publish_time timestamptz, selection_id bigint, market_id text, more jsonb)""")
    texts = {LADDER: io.StringIO(), TRADED: io.StringIO()}
    for number, rows in enumerate(markets):
        source.market(f"1.{number}", runners=((1, names[number]),))
        source.query("UPDATE public.markets SET market_name = %s WHERE market_id = %s", names[number], f"1.{number}")
        for columns, some in zip(texts, rows, strict=True):
            for selection_id, published, received, *rest in some:
                row = (f"1.{number}", selection_id, moment(published), moment(received), *rest)
                texts[columns].write("\t".join(map(told, row)) + "\n")
    with source.server.connect(source.name) as connection, connection.cursor() as cursor:
        for (columns, text), table in zip(texts.items(), ("ladder_levels", "traded_volume"), strict=True):
            text.seek(0)
            cursor.copy_expert(f"COPY stream_ingest.{table} ({', '.join(columns)}) FROM STDIN", text)
    connection.close()


#: The rows of a market by SQL alone, its floats as their bits.
ROWS = """
    SELECT to_char(received_time, 'YYYY-MM-DD HH24:MI:SS.US'), to_char(publish_time, 'YYYY-MM-DD HH24:MI:SS.US'),
           selection_id, CASE side WHEN 'B' THEN 'BACK' WHEN 'L' THEN 'LAY' END, encode(float8send(price), 'hex'),
           encode(float8send(size), 'hex'), NULL, level::int, 'ladder', level::bigint
      FROM stream_ingest.ladder_levels WHERE market_id = %s
     UNION ALL
    SELECT to_char(received_time, 'YYYY-MM-DD HH24:MI:SS.US'), to_char(publish_time, 'YYYY-MM-DD HH24:MI:SS.US'),
           selection_id, NULL, encode(float8send(price), 'hex'), encode(float8send(size_traded), 'hex'),
           encode(float8send(size_traded), 'hex'), NULL, 'traded',
           dense_rank() OVER (PARTITION BY selection_id, publish_time ORDER BY price::float8) - 1
      FROM stream_ingest.traded_volume WHERE market_id = %s"""
#: Markets with a row that no file can hold.
UNREADABLE = """
    SELECT DISTINCT market_id FROM (
        SELECT market_id, selection_id, publish_time, received_time, price, size, level,
               coalesce(side IN ('B', 'L') AND level BETWEEN 0 AND 7, false) AS sound FROM stream_ingest.ladder_levels
         UNION ALL
        SELECT market_id, selection_id, publish_time, received_time, price, size_traded, 0, true
          FROM stream_ingest.traded_volume) AS tick
     WHERE NOT sound OR selection_id IS NULL OR price IS NULL OR size IS NULL OR publish_time IS NULL
        OR received_time IS NULL OR NOT publish_time BETWEEN '0001-01-01Z' AND '9999-12-31 23:59:59.999999Z'
        OR NOT received_time BETWEEN '0001-01-01Z' AND '9999-12-31 23:59:59.999999Z'"""
NAN = struct.pack(">d", math.nan).hex()


def bits(value) -> str | None:
    """Return the bits of a float, or of what stands for one in JSON; one kind of NaN for all."""
    return None if value is None else NAN if math.isnan(float(value)) else struct.pack(">d", float(value)).hex()


def rows_in(pipeline: Pipeline, market_id: str, format: str) -> list[tuple]:
    """Return a market file's rows, by DuckDB or by json."""
    path = pipeline.market(market_id, format)
    names = "received_at, publish_time, selection_id, side, price, size, traded_volume, level, record_type, sequence"
    if format == "jsonl":
        found = [[json.loads(line)[name] for name in names.split(", ")] for line in path.read_text().splitlines()]
        found = [[*(text.replace("T", " ").rstrip("Z") for text in row[:2]), *row[2:]] for row in found]
    else:
        times = names.replace("received_at, publish_time", "epoch_us(received_at), epoch_us(publish_time)")
        found = duckdb.execute(
            f"SELECT {times} FROM read_parquet('{path}', file_row_number=true) ORDER BY file_row_number"
        )
        found = [[*map(written, row[:2]), *row[2:]] for row in found.fetchall()]
    return [(*row[:4], *map(bits, row[4:7]), *row[7:]) for row in found]


def written(us: int) -> str:
    """Return microseconds since 1970 as to_char writes the time."""
    return str(duckdb.execute("SELECT strftime(make_timestamp(?), '%Y-%m-%d %H:%M:%S.%f')", [us]).fetchone()[0])


def check(source: Source, directory, markets, names) -> None:
    """Export in both formats and compare."""
    unreadable = {market_id for (market_id,) in source.query(UNREADABLE)}
    for format in ("parquet", "jsonl"):
        pipeline = Pipeline(directory / format, source.environment)
        shutil.rmtree(pipeline.output_dir, ignore_errors=True)
        done = pipeline.run("ExportAll", "--format", format)
        assert done.returncode == (30 if unreadable else 0) and "Traceback" not in done.stderr, done.stderr
        assert set(index_of(pipeline)) == {f"1.{number}" for number in range(len(markets))} - unreadable, done.stderr
        report = (pipeline.output_dir / "execution_report.txt").read_text()
        assert not [market_id for market_id in unreadable if f"'{market_id}'" not in report], report
        for number in range(len(markets)):
            market_id = f"1.{number}"
            if market_id in unreadable:
                continue
            described = json.loads((pipeline.output_dir / f"markets/marketId={market_id}_metadata.json").read_text())
            assert described["marketName"] == described["runners"][0]["runnerName"] == names[number]
            found = rows_in(pipeline, market_id, format)
            expected = source.query(ROWS, market_id, market_id)
            expected = [
                tuple(NAN if value and value == "7ff8000000000000" else value for value in row) for row in expected
            ]
            assert Counter(found) == Counter(expected), (market_id, format)
            order = [(row[1], row[8], row[7] or 0, row[2], row[3] or "") for row in found]
            assert order == sorted(order)
    verified = pipeline.run("VerifyExport", "--format", format)
    assert "Traceback" not in verified.stderr, verified.stderr
    said = (pipeline.output_dir / "verification_report.txt").read_text()
    sound = {f"1.{number}" for number in range(len(markets))} - unreadable
    assert not [
        line for line in said.splitlines() if line.startswith("DIFFERENCE") and sound & {*line.split()[2:3]}
    ], said


def test_every_value_is_exported_exactly_or_named(request, server, tmp_path):
    source = new_source(server)

    @settings(
        max_examples=25 if request.config.getoption("--walk") else 3,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(examples())
    def each(example):
        load(source, *example)
        check(source, tmp_path, *example[1:])

    each()
