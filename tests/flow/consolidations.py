"""Two days, and what asks for their CSVs and reports."""

from tests.conftest import Pipeline, Source, fill

NAME, REPORT = "consolidated_ticks_{}.csv", "consolidation_report_{}.txt"
DAY, NEXT = "2026-02-05", "2026-02-06"


def consolidated(pipeline: Pipeline, day: str = DAY) -> bytes:
    """Return the CSV of a day."""
    return (pipeline.output_dir / NAME.format(day.replace("-", "_"))).read_bytes()


def report_of(pipeline: Pipeline, day: str = DAY) -> list[str]:
    """Return the lines of a day's report."""
    return (pipeline.output_dir / REPORT.format(day.replace("-", "_"))).read_text().splitlines()


def beside(pipeline: Pipeline, name: str) -> Pipeline:
    """Return the same source with another output directory."""
    return Pipeline(pipeline.output_dir.parent / name, pipeline.environment)


def with_a_large_day(source: Source) -> Source:
    """Give a source a day of 18 MB, and markets that were open on it, one with and one without ticks."""
    fill(source)
    source.partition("2026-02-04")
    for market_id in ("1.105", "1.106"):
        source.market(market_id)
        source.message(market_id, "2026-02-04 12:00:00+00")
        source.message(market_id, "2026-02-06 12:00:00+00")
    source.message("1.106", f"{DAY} 12:00:00+00")
    source.query(
        "INSERT INTO stream_ingest.ladder_levels SELECT '1.101', 1 + n % 2, side, 0, 2 + (n % 50) / 100.0, 5 + n % 7,"
        f" timestamptz '{DAY} 06:00+00' + n * interval '1 s', timestamptz '{DAY} 06:00+00' + n * interval '1.0001 s'"
        " FROM generate_series(0, 59999) AS n, unnest(ARRAY['B', 'L']) AS side"
    )
    return source
