"""Ask for a day's CSV and its report."""

from tests.conftest import Pipeline

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
