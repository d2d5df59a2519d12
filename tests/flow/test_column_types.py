"""Tables whose columns have other types than the platform's: exported with every value right, or refused by name."""

import pytest

from tests.conftest import Pipeline, fill, new_source
from tests.flow.exported_rows import rows_in_database, rows_in_file
from tests.flow.refusals import refusal

LADDER, TRADED = "stream_ingest.ladder_levels", "stream_ingest.traded_volume"
TYPES = {
    "market_id": "varchar(32)",
    "selection_id": "bigint",
    "side": "char(1)",
    "level": "smallint",
    "price": "float8",
    "size": "float8",
    "size_traded": "float8",
    "publish_time": "timestamptz",
    "received_time": "timestamptz",
}


def with_types(server, **types):
    """Return a source whose ticks are in tables with other types, no constraints, more columns and another order."""
    source = fill(new_source(server))
    source.query("CREATE DOMAIN public.odds AS float8 CHECK (VALUE > 1); CREATE TYPE public.side AS ENUM ('B', 'L')")
    for table in (LADDER, TRADED):
        names = [
            name for name in TYPES if name not in (("size_traded",) if table == LADDER else ("side", "level", "size"))
        ]
        columns = [f"{name}::{types.get(name, TYPES[name])} AS {name}" for name in reversed(names)]
        if "side" in names and types.get("side") == "public.side":
            columns = [column.replace("side::", "side::text::", 1) for column in columns]
        source.query(
            f"CREATE TABLE public.made AS SELECT 'x'::text AS first, {', '.join(columns)}, NULL::json AS last FROM"
            f" {table}; DROP TABLE {table}; ALTER TABLE public.made SET SCHEMA stream_ingest;"
            f" ALTER TABLE stream_ingest.made RENAME TO {table.split('.')[1]}"
        )
    return source


@pytest.mark.parametrize(
    "types",
    [
        {"market_id": "text", "selection_id": "int4", "price": "real", "size": "real", "size_traded": "real"},
        {"selection_id": "int2", "level": "int8", "price": "numeric(12,3)", "size": "numeric(15,2)", "side": '"char"'},
        {"level": "int4", "price": "public.odds", "size": "int4", "size_traded": "int2", "publish_time": "timestamp"},
    ],
)
def test_types_that_hold_the_same_values_are_exported(server, tmp_path, types):
    source = with_types(server, **types)
    source.query(f"UPDATE {LADDER} SET selection_id = 32767 WHERE selection_id = 2")
    pipeline = Pipeline(tmp_path / "out", source.environment)
    format = "jsonl" if "market_id" in types else "parquet"
    for task in ("ExportAll", "VerifyExport"):
        done = pipeline.run(task, "--format", format)
        assert done.returncode == 0, done.stderr
    for market_id in ("1.101", "1.102", "1.103"):
        assert rows_in_file(pipeline, market_id, format) == rows_in_database(source, market_id) != []
    made = []
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        done = pipeline.run(task, "--format", format, "--date", "2026-02-05")
        assert done.returncode == 0, done.stderr
        made.append(pipeline.files()["consolidated_ticks_2026_02_05.csv"])
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ({"selection_id": "text"}, "selection_id is text, expected bigint, integer or smallint"),
        ({"selection_id": "numeric"}, "selection_id is numeric, expected bigint"),
        ({"level": "numeric(3)"}, "level is numeric(3,0), expected bigint"),
        ({"market_id": "char(10)"}, "market_id is character(10), expected character varying or text"),
        ({"market_id": "numeric"}, "market_id is numeric, expected character varying"),
        ({"price": "numeric"}, "price is numeric, expected double precision, real, integer, or numeric of at most 15"),
        ({"price": "numeric(16,2)"}, "price is numeric(16,2), expected double precision"),
        ({"price": "text"}, "price is text, expected double precision"),
        ({"size": "bigint"}, "size is bigint, expected double precision"),
        ({"size_traded": "bigint"}, "size_traded is bigint, expected double precision"),
        ({"side": "text"}, "side is text, expected character(1)"),
        ({"side": "varchar(4)"}, "side is character varying(4), expected character(1)"),
        ({"side": "public.side"}, "side is public.side, expected character(1)"),
        ({"received_time": "date"}, "received_time is date, expected timestamp with time zone"),
        ({"publish_time": "text"}, "publish_time is text, expected timestamp with time zone"),
    ],
)
def test_types_that_could_change_a_value_are_refused_by_name(server, types, words):
    said = refusal(with_types(server, **types).environment)
    table = TRADED if "size_traded" in types else LADDER
    assert f"{table}.{words}" in said and "\n" not in said
    if "price" in types:
        assert f"{TRADED}.{words}" in said


def test_a_refused_table_is_one_line_and_35(server, tmp_path):
    source = with_types(server, selection_id="text")
    source.query("ALTER TABLE public.runners ALTER selection_id TYPE text")
    pipeline = Pipeline(tmp_path / "out", source.environment)
    done = pipeline.run("ExportAll")
    assert done.returncode == 35 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "public.runners.selection_id is text" in done.stderr and not pipeline.output_dir.exists()
