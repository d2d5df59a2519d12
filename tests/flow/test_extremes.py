"""Every value that a column's type can hold: a market is exported with it, or fails by name, and no other suffers."""

import contextlib
import re

import pyarrow.parquet as pq
import pytest

from tests.conftest import SCHEMA, Pipeline, Source, index_of, new_source

_TIMES = [
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59.999999+00",
    "294276-12-31 23:59:59+00",
    "10000-01-01 00:00:00+00",
    "9999-12-31 23:59:59.999999+00",
    "0001-01-01 00:00:00+00",
    "0001-12-31 23:59:59+00 BC",
    "4713-01-01 00:00:00+00 BC",
]
_FLOATS = ["NaN", "Infinity", "-Infinity", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "-0", "0"]
_INT8 = [str(-(2**63)), str(2**63 - 1), "0", str(2**39), str(-(2**39) - 1)]
_TEXTS = ["", " ", "a\nb", "\u20ac \U0001f3c7", "'\"\\,;", "x" * 30, "\x01", "\u2028"]
_TICK = {"selection_id": _INT8, "price": _FLOATS, "publish_time": _TIMES, "received_time": _TIMES}
#: Of each table, the values of each column that is read.
EXTREMES = {
    "stream_ingest.ladder_levels": (
        _TICK | {"size": _FLOATS, "side": ["B", "L", "X", "", "\u00e9"], "level": ["-32768", "32767", "8", "-1", "7"]}
    ),
    "stream_ingest.traded_volume": _TICK | {"size_traded": _FLOATS},
    "stream_ingest.market_lifecycle_events": {
        "status": _TEXTS,
        "in_play": ["true", "false"],
        "publish_time": _TIMES,
        "received_time": _TIMES,
    },
    "public.markets": {"event_id": _TEXTS, "market_type": _TEXTS, "market_name": _TEXTS, "market_start_time": _TIMES},
    "public.runners": {"selection_id": _INT8, "runner_name": _TEXTS},
    "public.market_settlement": {"settled_at": _TIMES, "source": [text[:20] for text in _TEXTS]},
    "public.market_runner_settlement": {"selection_id": _INT8, "runner_status": [text[:20] for text in _TEXTS]},
}
#: Values of ticks that no file can hold.
_FAILS = (
    {("publish_time", value) for value in _TIMES if not value.startswith(("9999", "0001-01"))}
    | {("received_time", value) for value in _TIMES if not value.startswith(("9999", "0001-01"))}
    | {
        ("side", "X"),
        ("side", ""),
        ("side", "\u00e9"),
        ("level", "-32768"),
        ("level", "32767"),
        ("level", "8"),
        ("level", "-1"),
    }
)


class OneConnection(Source):
    """A source that is asked very many small things."""

    def query(self, statement: str, *values: object) -> list[tuple]:
        """Run a statement; return its rows, if it has any."""
        if "connection" not in self.__dict__:
            self.connection = self.server.connect(self.name)
            self.connection.autocommit = True
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []


def cases() -> list[tuple[str, str, str]]:
    """Return every table, column and value."""
    return [
        (table, column, value)
        for table, columns in EXTREMES.items()
        for column, values in columns.items()
        for value in values
    ]


def insert(source: Source, number: int, table: str, column: str, value: str) -> bool:
    """Make a market 1.2<number> with one good row of each table and one with this value; tell whether it must fail."""
    market_id = f"1.2{number:04}"
    source.market(market_id)
    source.message(market_id, "2026-02-05 10:00:00+00", prices=(2.0,), traded=(3.0,))
    row = {
        "stream_ingest.ladder_levels": {
            "selection_id": "2",
            "side": "B",
            "level": "1",
            "price": "5",
            "size": "6",
            "publish_time": "2026-02-05 10:00:01+00",
            "received_time": "2026-02-05 10:00:01+00",
        },
        "stream_ingest.traded_volume": {
            "selection_id": "2",
            "price": "5",
            "size_traded": "6",
            "publish_time": "2026-02-05 10:00:01+00",
            "received_time": "2026-02-05 10:00:01+00",
        },
        "stream_ingest.market_lifecycle_events": {
            "status": "OPEN",
            "publish_time": "2026-02-05 10:00:01+00",
            "received_time": "2026-02-05 10:00:01+00",
        },
        "public.runners": {"selection_id": "3", "runner_name": "Three"},
        "public.market_settlement": {"settled_at": "2026-02-05 12:00:00+00", "source": "feed"},
        "public.market_runner_settlement": {"selection_id": "1", "runner_status": "WINNER"},
    }.get(table)
    if table == "public.market_runner_settlement":
        source.query("INSERT INTO public.market_settlement VALUES (%s, '2026-02-05 12:00+00', 'feed')", market_id)
    if row is None:
        if column == "event_id":
            source.query("INSERT INTO public.events VALUES (%s) ON CONFLICT DO NOTHING", value)
        source.query(f"UPDATE public.markets SET {column} = %s WHERE market_id = %s", value, market_id)
    else:
        row = {"market_id": market_id, **row, column: value}
        source.query(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) ON CONFLICT DO NOTHING",
            *row.values(),
        )
    return (column, value) in _FAILS and table in ("stream_ingest.ladder_levels", "stream_ingest.traded_volume")


@pytest.fixture(scope="module")
def extreme(server):
    """A source with a market for every case, and which of them must fail."""
    source = OneConnection(server, new_source(server).name)
    source.query("""ALTER TABLE stream_ingest.ladder_levels DROP CONSTRAINT ladder_levels_level_check;
           ALTER TABLE stream_ingest.ladder_levels DROP CONSTRAINT ladder_levels_side_check""")
    source.partition("2026-02-05")
    source.query("CREATE TABLE stream_ingest.ladder_older PARTITION OF stream_ingest.ladder_levels DEFAULT")
    failing = {f"1.2{number:04}" for number, case in enumerate(cases()) if insert(source, number, *case)}
    for odd in ("", "x", "../x", "1.2\n", "\u0661.\u0662"):
        source.query(
            "INSERT INTO stream_ingest.ladder_levels (market_id, selection_id, side, level, price, size, publish_time,"
            " received_time) VALUES (%s, 1, 'B', 0, 2, 3, '2026-02-05 10:00+00', '2026-02-05 10:00+00')",
            odd,
        )
    yield source, failing
    source.connection.close()


def everyone():
    """Return the ids of the markets of all cases."""
    return {f"1.2{number:04}" for number in range(len(cases()))}


def fails_in_order(pipeline, *arguments):
    """Run a task that ends with 30 because of some markets, and without a traceback."""
    run = pipeline.run(*arguments)
    assert run.returncode == 30 and "Traceback" not in run.stderr, run.stderr[-3000:]


def test_each_market_is_exported_or_named_and_no_other_suffers(extreme, tmp_path):
    source, failing = extreme
    pipeline = Pipeline(tmp_path / "out", source.environment)
    fails_in_order(pipeline, "ExportAll", "--workers", "2")
    exported = set(index_of(pipeline))
    assert everyone() - exported == failing, {
        cases()[int(market_id[3:])] for market_id in (everyone() - exported) ^ failing
    }
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    assert not [market_id for market_id in failing if market_id not in report]
    for odd in ("'x'", "'../x'", "''", repr("1.2\n"), repr("\u0661.\u0662")):
        assert odd in report, odd
    for market_id in exported:
        number = source.query(
            "SELECT (SELECT count(*) FROM stream_ingest.ladder_levels WHERE market_id = %s)"
            " + (SELECT count(*) FROM stream_ingest.traded_volume WHERE market_id = %s)",
            market_id,
            market_id,
        )[0][0]
        assert int(index_of(pipeline)[market_id]["total_tick_records"]) == number
    fails_in_order(pipeline, "VerifyExport")
    differs = set(
        re.findall(
            r"^DIFFERENCE: market (1\.2\d{4})\b", (pipeline.output_dir / "verification_report.txt").read_text(), re.M
        )
    )
    assert differs <= failing
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        fails_in_order(pipeline, task, "--date", "2026-02-05")
        content = (pipeline.output_dir / "consolidated_ticks_2026_02_05.csv").read_text()
        for market_id in exported & everyone():
            assert f",{market_id}," in content, (task, market_id)


def test_states_and_summary_are_of_all_that_is_exported(extreme, tmp_path):
    source, failing = extreme
    pipeline = Pipeline(tmp_path / "out", source.environment)
    fails_in_order(pipeline, "BuildRunnerSummary", "--workers", "2")
    summary = (pipeline.output_dir / "runner_summary.csv").read_text()
    assert set(re.findall(r'^"(1\.2\d{4})",', summary, re.M)) == everyone() - failing
    settled = {f"1.2{number:04}" for number, case in enumerate(cases()) if "settlement" in case[0]}
    results = pq.read_table(pipeline.output_dir / "states" / "results.parquet")
    assert set(results.column("market_id").to_pylist()) == settled


def test_lifecycle_rows_at_infinity_are_ignored_and_named(pipeline, small):
    small.query(
        "INSERT INTO stream_ingest.market_lifecycle_events VALUES"
        " ('1.101', 'FOREVER', true, 'infinity', now()), ('1.101', 'MAX', true, '294276-12-31 00:00+00', now())"
    )
    run = pipeline.run("ExportAll")
    assert run.returncode == 0
    named = re.findall(r"Market 1\.101: 2 rows of market_lifecycle_events .* ignored for its status", run.stderr)
    assert len(named) == 1
    assert '"marketStatus": "CLOSED"' in (pipeline.output_dir / "markets/marketId=1.101_metadata.json").read_text()


def test_a_name_that_is_no_utf8(server, tmp_path):
    name = "ascii_only"
    with contextlib.closing(server.connect()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
            )
    source = Source(server, name)
    source.query(SCHEMA)
    source.partition("2026-02-05")
    for market_id in ("1.101", "1.102"):
        source.market(market_id)
        source.message(market_id, "2026-02-05 10:00:00+00")
    source.query(
        "UPDATE public.runners SET runner_name = convert_from('\\x4a6f73e9', 'SQL_ASCII')"
        " WHERE market_id = '1.101' AND selection_id = 1"
    )
    source.query(
        "UPDATE public.runners SET runner_name = convert_from('\\x4a6f73c3a9', 'SQL_ASCII')"
        " WHERE market_id = '1.102' AND selection_id = 1"
    )
    pipeline = Pipeline(tmp_path / "out", source.environment)
    run = pipeline.run("ExportAll")
    assert run.returncode == 0, run.stderr
    assert "Market 1.101: a runner name is not valid UTF-8" in run.stderr
    assert "Jos\ufffd" in (pipeline.output_dir / "markets/marketId=1.101_metadata.json").read_text()
    assert "José" in (pipeline.output_dir / "markets/marketId=1.102_metadata.json").read_text()
    assert pipeline.run("VerifyExport").returncode == 0
