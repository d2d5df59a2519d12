"""metrics.prom: every metric declared once, written and read by Prometheus' own client library."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tasks.storage.atomic_files import replacing

PREFIX = "tick_export_"

#: Every metric: its label, if it has one, and what it means. docs/operations.md has the same table.
METRICS: Mapping[str, tuple[str | None, str]] = {
    "last_start_timestamp_seconds": ("task", "When the last run of the task began."),
    "last_end_timestamp_seconds": ("task", "When the last run of the task that came to an end did so."),
    "last_success_timestamp_seconds": ("task", "When the last run of the task that ended with 0 did so."),
    "last_exit_code": ("task", "Exit code of the last run of the task that came to an end."),
    "last_duration_seconds": ("task", "How long that run took."),
    "last_run_markets": ("outcome", "Markets of the last run that exported: exported, failed, unchanged."),
    "last_run_ticks": (None, "Ticks that the last run wrote into market files."),
    "markets": (None, "Market files in the index."),
    "ticks": (None, "Ticks in them."),
    "bytes": (None, "Size of them."),
    "newest_tick_timestamp_seconds": (None, "Publish time of the newest tick in the index."),
    "unexported_old_markets": (
        None,
        "Markets with ticks in partitions that the platform drops soon, and that no file holds.",
    ),
    "oldest_unexported_partition_timestamp_seconds": (
        None,
        "Start of the oldest UTC day among those ticks; absent where there are none.",
    ),
    "condition_markets": ("condition", "Markets by condition, as condition.json has them."),
    "dates_by_condition": ("condition", "UTC days by condition."),
    "condition_gaps": (None, "Gaps of all markets together."),
    "last_day_timestamp_seconds": (None, "Start of the newest UTC day that is over and has ticks."),
    "last_day_condition": ("condition", "1 for the condition of that day, 0 for the others."),
    "last_verification_timestamp_seconds": (None, "When the last VerifyExport came to a verdict."),
    "last_verification_success": (None, "1 where it found no difference, 0 where it did."),
}

#: Name without the prefix, and the value of its label ("" where it has none).
Samples = dict[tuple[str, str], float]


class _Gauges(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        for name, (label, text) in METRICS.items():
            family = GaugeMetricFamily(PREFIX + name, text, labels=[label] if label else [])
            for (sampled, value_of_label), value in sorted(self._samples.items()):
                if sampled == name:
                    family.add_metric([value_of_label] if label else [], value)
            if family.samples:
                yield family


def read(path: Path) -> Samples:
    """Return the content of a metrics.prom; nothing if there is none, or it is not one that the pipeline writes."""
    samples: Samples = {}
    try:
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
            name = family.name.removeprefix(PREFIX)
            if name in METRICS:
                samples |= {(name, next(iter(one.labels.values()), "")): one.value for one in family.samples}
    except (OSError, ValueError):
        return {}
    return samples


def write(path: Path, samples: Samples) -> None:
    """Write metrics.prom, replacing the existing one. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(_Gauges(samples))
    with replacing(path) as file:
        file.write(generate_latest(registry))
