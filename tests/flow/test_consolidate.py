"""ConsolidateDay, ConsolidateAll and ConsolidateDayDirect, as a user runs them, on a real PostgreSQL."""

import csv
import hashlib
import shutil

import duckdb
import pytest

from tests.conftest import Pipeline, Source
from tests.flow.consolidations import DAY, NAME, NEXT, beside, consolidated, report_of

NAMES = ("Smith, John", 'The "Kid"', "two\nlines", "CR\rhere", "=1+1", "🐎 Émile", " padded ", None)


@pytest.fixture
def rich(small: Source) -> Source:
    """The small source with everything that real data and people come up with."""
    small.market("1.105", "31", tuple(enumerate(NAMES)))
    for selection_id in range(len(NAMES)):
        small.message(
            "1.105",
            f"{DAY} 12:00:00.5+00",
            prices=(1.01, float("nan"), 1000.0),
            traded=(float("inf"), 0.1 + 0.2, float("nan")),
            selection_id=selection_id,
            size=1e16 + selection_id,
        )
    small.message("1.106", f"{DAY} 12:00:00.5+00")  # no row in public.markets
    small.message("1.107", f"{NEXT} 12:00:00+00")  # ladder rows on the next day only, traded rows on both
    # 1.108 has no ladder row at all: no export covers it
    small.query(
        "INSERT INTO stream_ingest.traded_volume VALUES ('1.107', 3, 2.5, 7, %s, %s), ('1.108', 3, 2.5, 7, %s, %s)",
        *[f"{DAY} 23:00+00"] * 4,
    )
    small.query("""INSERT INTO stream_ingest.ladder_levels
                   SELECT '1.' || market, 1, side, level, 2 + level, n, t, t + interval '9 milliseconds'
                     FROM generate_series(300, 320) AS market, generate_series(1, 20) AS n, unnest(ARRAY['B', 'L'])
                         AS side,
                          generate_series(0, 7) AS level,
                          LATERAL (SELECT timestamptz '2026-02-05 08:00+00' + n * interval '1 second') AS moment(t)""")
    return small


def test_three_ways_and_any_chunks_give_the_same_bytes_that_sql_confirms(pipeline, rich):
    ways = [
        (beside(pipeline, f"{task}-{format}"), task, format, chunk_rows)
        for task, format, chunk_rows in (
            ("ConsolidateDay", "parquet", "1500000"),
            ("ConsolidateDay", "parquet", "1000"),
            ("ConsolidateDay", "jsonl", "100000"),
            ("ConsolidateDayDirect", "parquet", "1500000"),
            ("ConsolidateDayDirect", "parquet", "1000"),
        )
    ]
    found = []
    for where, task, format, chunk_rows in ways:
        for path in where.output_dir.glob("consolidat*"):
            path.unlink()
        result = where.run(task, "--format", format, "--date", DAY, "--chunk-rows", chunk_rows)
        assert result.returncode == 0, result.stderr
        found.append(consolidated(where))
    assert all(content == found[0] for content in found)
    where = ways[0][0]
    path = where.output_dir / NAME.format(DAY.replace("-", "_"))
    day = "publish_time >= '2026-02-05 00:00+00' AND publish_time < '2026-02-06 00:00+00'"
    ladder, traded = (
        rich.query(
            "SELECT count(*), sum(round(extract(epoch FROM publish_time) * 1000000)::bigint), sum(selection_id) "
            f"FROM stream_ingest.{table} WHERE {day} AND market_id <> '1.108'"
        )[0]
        for table in ("ladder_levels", "traded_volume")
    )
    text = duckdb.read_csv(
        str(path), header=True, all_varchar=True, quotechar='"', escapechar='"', delimiter=",", lineterminator="\\n"
    )
    sums = "count(*), sum(epoch_us(publish_time::timestamptz)), sum(selection_id::bigint)"
    for record_type, wanted in (("ladder", ladder), ("traded", traded)):
        assert text.filter(f"record_type = '{record_type}'").aggregate(sums).fetchall() == [wanted]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [
        (
            row["publish_time"],
            row["market_id"],
            int(row["selection_id"]),
            {"BACK": 0, "LAY": 1, "": 2}[row["side"]],
            int(row["level"] or -1),
            int(row["sequence"]),
        )
        for row in rows
    ]
    assert all(one < following for one, following in zip(keys, keys[1:]))
    runners = {int(row["selection_id"]): row["runner_name"] for row in rows if row["market_id"] == "1.105"}
    assert runners == {selection: name or "" for selection, name in enumerate(NAMES)}
    numbers = [row["price"] for row in rows if row["market_id"] == "1.105" and row["selection_id"] == "0"]
    assert numbers == ["1.01", "NaN", "1000"] * 2 + ["0.30000000000000004", "Infinity", "NaN"]
    assert {row["event_id"] + row["market_type"] for row in rows if row["market_id"] == "1.106"} == {""}
    assert {row["market_id"] for row in rows} == {
        "1.101",
        "1.103",
        "1.105",
        "1.106",
        "1.107",
        *(f"1.{n}" for n in range(300, 321)),
    }
    described = {
        (row["market_status"], row["market_start_time"], row["market_type"])
        for row in rows
        if row["market_id"] == "1.101"
    }
    assert described == {("CLOSED", "2026-02-05T12:00:00.000000Z", "MATCH_ODDS_FT")}


def test_a_day_exports_its_own_markets_and_no_other(pipeline):
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    markets = {path.name for path in (pipeline.output_dir / "markets").iterdir()}
    assert markets == {f"marketId=1.{n}{end}" for n in (101, 103) for end in (".parquet", "_metadata.json")}
    index = (pipeline.output_dir / "index.csv").read_text()
    assert [line.split(",")[0] for line in index.splitlines()] == ["market_id", "1.101", "1.103"]
    lines = report_of(pipeline)
    content = consolidated(pipeline)
    for line in (
        "UTC date: 2026-02-05",
        "Markets included: 2",
        "Total rows read (after date filter): 46",
        "Rows before dedupe: 46",
        "Duplicates removed: 0",
        "Rows written: 46",
        "Earliest publish_time: 2026-02-05T10:00:00.123000Z",
        "Latest publish_time: 2026-02-05T23:59:59.999000Z",
        f"File size: {len(content)} bytes",
        "Distinct market_id: 2",
        "Date validation: all rows in [2026-02-05T00:00:00.000000Z, 2026-02-06T00:00:00.000000Z)",
    ):
        assert line in lines, lines
    assert any(line.startswith("Duration: ") for line in lines)
    assert f"SHA-256 {hashlib.sha256(content).hexdigest()}" in "\n".join(lines)
    assert pipeline.run("ConsolidateDay", "--date", NEXT).returncode == 0
    index = (pipeline.output_dir / "index.csv").read_text()
    assert [line.split(",")[0] for line in index.splitlines()] == ["market_id", "1.101", "1.102", "1.103"]


def test_what_is_done_stays_and_what_has_changed_is_done_again(pipeline, small):
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    before, content = pipeline.stamps(), consolidated(pipeline)
    again = pipeline.run("ConsolidateDay", "--date", DAY)
    assert again.returncode == 0 and "Nothing to do" in again.stderr and pipeline.stamps() == before
    # the same bytes, as an archive brings them back
    (pipeline.output_dir / NAME.format(DAY.replace("-", "_"))).write_bytes(content)
    assert "Nothing to do" in pipeline.run("ConsolidateDay", "--date", DAY).stderr
    small.query("UPDATE public.runners SET runner_name = 'Uno' WHERE market_id = '1.101' AND selection_id = 1")
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    assert consolidated(pipeline) == content.replace(b",One\n", b",Uno\n", content.count(b"1.101,30,1,")) != content
    small.message("1.103", f"{DAY} 23:59:59.9995+00", traded=())
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    assert len(consolidated(pipeline).splitlines()) == 1 + 46 + 4
    path = pipeline.output_dir / NAME.format(DAY.replace("-", "_"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert pipeline.run("ConsolidateDay", "--date", DAY).returncode == 0
    assert path.read_bytes().endswith(b"\n")


def test_the_days_together_are_everything(pipeline, rich):
    for format in ("parquet", "jsonl"):
        where = beside(pipeline, format)
        result = where.run(
            "ConsolidateAll", "--format", format, "--partition-by-month", "--partition-threshold-gb", "0.000001"
        )
        assert result.returncode == 0, result.stderr
        for day in (DAY, NEXT):
            assert where.run("ConsolidateDay", "--format", format, "--date", day).returncode == 0
    one, other = (beside(pipeline, format).output_dir for format in ("parquet", "jsonl"))
    whole = (one / "consolidated_ticks.csv").read_bytes()
    header, rows = whole.split(b"\n", 1)
    days = [consolidated(beside(pipeline, "parquet"), day).split(b"\n", 1)[1] for day in (DAY, NEXT)]
    assert rows == b"".join(days)
    assert (
        (one / "consolidated_ticks_2026_02.csv").read_bytes()
        == whole
        == (other / "consolidated_ticks.csv").read_bytes()
    )
    report = (one / "consolidation_report.txt").read_text()
    with open(one / "index.csv", newline="") as file:
        ticks = sum(int(row["total_tick_records"]) for row in csv.DictReader(file))
    assert f"Reconciliation: rows read = {ticks} = sum of total_tick_records in index.csv" in report
    where = beside(pipeline, "parquet")
    before = where.stamps()
    again = where.run("ConsolidateAll", "--partition-by-month", "--partition-threshold-gb", "0.000001")
    assert "Nothing to do" in again.stderr and where.stamps() == before


def test_duplicates_are_removed_and_counted_and_the_first_received_stays(pipeline, small):
    for table in ("ladder_levels", "traded_volume"):
        small.query(f"ALTER TABLE stream_ingest.{table} DROP CONSTRAINT {table}_pkey")
        small.query(
            f"UPDATE stream_ingest.{table} SET received_time = received_time + interval '1 hour' WHERE market_id ="
            " '1.101'"
        )
        small.query(f"""INSERT INTO stream_ingest.{table}
                        SELECT (jsonb_populate_record(t, jsonb_build_object('received_time',
                               received_time - interval '1 hour'))).*
                          FROM stream_ingest.{table} t WHERE market_id = '1.101'""")
    for task in ("ConsolidateDay", "ConsolidateDayDirect"):
        where = beside(pipeline, task)
        assert where.run(task, "--date", DAY).returncode == 0
        lines = report_of(where)
        assert (
            "Total rows read (after date filter): 88" in lines
            and "Duplicates removed: 42" in lines
            and "Rows written: 46" in lines
        )
        received = {line.split(",")[0] for line in consolidated(where).decode().splitlines() if ",1.101," in line}
        assert received == {f"2026-02-05T1{hour}:00:00.136000Z" for hour in range(3)}
    assert consolidated(beside(pipeline, "ConsolidateDay")) == consolidated(where)


def test_offline_needs_no_database(pipeline, tmp_path):
    assert pipeline.run("ConsolidateDay", "--date", DAY, "--format", "jsonl").returncode == 0
    assert pipeline.run("ExportAll", "--format", "jsonl").returncode == 0
    sent = Pipeline(tmp_path / "sent", {"POSTGRES_HOST": "/nowhere"})
    shutil.copytree(pipeline.output_dir / "markets", sent.output_dir / "markets")
    shutil.copy(pipeline.output_dir / "index.csv", sent.output_dir)
    for task in (("ConsolidateDay", "--date", DAY), ("ConsolidateAll",)):
        result = sent.run(*task, "--offline")
        assert result.returncode == 0, result.stderr
        assert "Nothing to do" in sent.run(*task, "--offline").stderr
    assert consolidated(sent) == consolidated(pipeline)
    for path in sent.output_dir.glob("consolidat*"):
        path.unlink()
    stray = sent.market("1.999", "jsonl")
    stray.write_bytes(b"")
    market = sent.market("1.101", "jsonl")
    sound = market.read_bytes()
    for damage, (code, words) in {
        "stray": (2, "marketId=1.999.jsonl is there, but not in index.csv"),
        "bytes": (30, "marketId=1.101.jsonl: its SHA-256 is"),
        "missing": (2, "marketId=1.101.jsonl is missing, but in index.csv"),
    }.items():
        if damage != "stray":
            stray.unlink(missing_ok=True)
        if damage == "bytes":
            market.write_bytes(sound.replace(b"2.02", b"2.04", 1))
        if damage == "missing":
            market.unlink()
        result = sent.run("ConsolidateDay", "--date", DAY, "--offline")
        errors = [line for line in result.stderr.splitlines() if words in line]
        assert result.returncode == code and len(errors) == 1 and "Traceback" not in result.stderr, (
            damage,
            result.stderr,
        )
        assert not list(sent.output_dir.glob("consolidat*"))


def test_the_database_is_not_scanned(pipeline, small):
    statement = (
        "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'stream_ingest' AND relname ~"
        " 'ladder|traded' ORDER BY relname"
    )
    small.query("SELECT pg_stat_reset()")
    assert pipeline.run("ConsolidateDayDirect", "--date", DAY).returncode == 0
    assert {scans for _, scans in small.query(statement)} == {0}


def test_months_go_with_the_csv_that_they_are_of(pipeline, small):
    small.partition("2026-03-01")
    small.message("1.101", "2026-03-01 10:00+00")
    months = ("--partition-by-month", "--partition-threshold-gb", "0.0000001")
    assert pipeline.run("ConsolidateAll", *months).returncode == 0
    february, march = (pipeline.output_dir / f"consolidated_ticks_2026_0{month}.csv" for month in (2, 3))
    content = february.read_bytes()
    february.write_bytes(content.replace(b"2.02", b"2.03"))
    assert pipeline.run("ConsolidateAll", *months).returncode == 0
    assert february.read_bytes() == content, "a month that was changed is made again"
    small.message("1.101", "2026-03-01 11:00+00")
    assert pipeline.run("ConsolidateAll").returncode == 0
    assert not february.exists() and not march.exists(), "nothing would keep them up to date"
    february.write_bytes(content)
    assert pipeline.run("ConsolidateAll").returncode == 0 and not february.exists()
    assert pipeline.run("VerifyExport").returncode == 0
