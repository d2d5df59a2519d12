"""What a run writes to metrics.prom: first that it began, at the end its outcome and the state of the export."""

import contextlib
import datetime
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

from tasks.condition import export_condition
from tasks.condition.reasons import Condition
from tasks.errors import ExportError
from tasks.export_directory import index_csv
from tasks.exporting import execution_report
from tasks.metrics import exposition
from tasks.metrics.exposition import Samples
from tasks.storage.layout import Layout
from tasks.workflow import run_context
from tasks.workflow.exit_codes import EXIT_FAILED, EXIT_UNEXPECTED
from tasks.workflow.plan import Plan

_log = logging.getLogger("tick_export.metrics")

_DAY_S = 86_400


class Recorder:
    """Writes metrics.prom for one run. Errors in doing so do not change the outcome of the run."""

    def __init__(self, name: str) -> None:
        self._name, self._start_s, self._pid = name, time.time(), os.getpid()
        self._layout: Layout | None = None
        self.is_over = False

    def claimed(self, layout: Layout) -> None:
        """Note that the run has locked the output directory, and so may write there."""
        if self._layout is None and layout.output_dir.is_dir():
            self._layout = layout
            self._write({("last_start_timestamp_seconds", self._name): self._start_s})

    def end(self, code: int) -> None:
        """Write how the run has ended."""
        if self._layout is None or self.is_over or os.getpid() != self._pid:
            return
        self.is_over = True
        now = time.time()
        samples: Samples = {
            ("last_start_timestamp_seconds", self._name): self._start_s,
            ("last_end_timestamp_seconds", self._name): now,
            ("last_exit_code", self._name): code,
            ("last_duration_seconds", self._name): now - self._start_s,
        }
        if not code:
            samples["last_success_timestamp_seconds", self._name] = now
        if self._name == "VerifyExport" and code in (0, EXIT_FAILED):
            samples["last_verification_timestamp_seconds", ""] = now
            samples["last_verification_success", ""] = float(not code)
        self._write(samples, whole=True)

    def _write(self, samples: Samples, whole: bool = False) -> None:
        assert self._layout is not None
        try:
            known = exposition.read(self._layout.metrics)
            if whole:
                known = _of_export(self._layout, _of_run(known))
            exposition.write(self._layout.metrics, known | samples)
        except (OSError, ExportError, ValueError) as error:
            _log.warning("%s is left as it was: %s.", self._layout.metrics, getattr(error, "strerror", None) or error)


_recorders: list[Recorder] = []


@contextlib.contextmanager
def recorded(name: str) -> Iterator[Recorder]:
    """Record a run of a task or of nightly from here to the end of the block. Its exit code is that of the exception
    that leaves the block, or the one passed to end().
    """
    recorder = Recorder(name)
    _recorders.append(recorder)
    try:
        yield recorder
    except SystemExit as end:
        recorder.end(end.code if isinstance(end.code, int) else EXIT_UNEXPECTED)
        raise
    except KeyboardInterrupt:
        recorder.end(130)
        raise
    finally:
        _recorders.remove(recorder)


def claimed(layout: Layout) -> None:
    """Note that the runs in progress have locked this output directory."""
    for recorder in _recorders:
        recorder.claimed(layout)


def end_of_bare_luigi(done: bool, task: Any) -> None:
    """Record a run of Luigi's own command, which does not report its exit code."""
    if not _recorders and task is not None:
        recorder = Recorder(type(task).__name__)
        recorder._start_s = run_context.current().started_s
        recorder.claimed(task.layout)
        recorder.end(0 if done else EXIT_FAILED)


def _of_run(samples: Samples) -> Samples:
    """Return the samples about what the run exported."""
    plans = [plan for plan in run_context.current().found(Plan) if plan.stored.newest or plan.pending]
    if not plans:
        return samples
    failed = set().union(*(plan.failures() for plan in plans))
    pending = set().union(*(plan.pending for plan in plans))
    files = set().union(*(plan.disk.files.keys() for plan in plans))
    counts = {"exported": len(pending - failed), "failed": len(failed), "unchanged": len(files - pending - failed)}
    samples |= {("last_run_markets", outcome): float(count) for outcome, count in counts.items()}
    samples["last_run_ticks", ""] = float(sum(plan.progress.ticks for plan in plans))
    for plan in plans:
        if not plan.is_of_one and plan.stored.events:
            at_risk = execution_report.unsaved(plan.stored, index_csv.read(plan.layout.index))
            samples["unexported_old_markets", ""] = float(len(at_risk))
            samples.pop(("oldest_unexported_partition_timestamp_seconds", ""), None)
            if at_risk:
                oldest_s = min(plan.stored.old[market_id] for market_id in at_risk) // 1_000_000
                samples["oldest_unexported_partition_timestamp_seconds", ""] = float(oldest_s // _DAY_S * _DAY_S)
    return samples


def _of_export(layout: Layout, samples: Samples) -> Samples:
    """Return the samples about the state of the export, from its index and condition.json."""
    markets = [
        (facts.tick_records, facts.size_bytes, facts.last_tick) for facts in index_csv.read(layout.index).facts.values()
    ]
    samples["markets", ""] = float(len(markets))
    samples["ticks", ""] = float(sum(ticks for ticks, _, _ in markets))
    samples["bytes", ""] = float(sum(size_bytes for _, size_bytes, _ in markets))
    if newest := [last_tick for _, _, last_tick in markets if last_tick is not None]:
        samples["newest_tick_timestamp_seconds", ""] = max(newest) / 1e6
    known = export_condition.read_counts(layout.condition)
    if known is None:
        return samples
    for kind, name in (("markets", "condition_markets"), ("days", "dates_by_condition")):
        samples |= {(name, condition): float(count) for condition, count in known["counts"][kind].items()}
    samples["condition_gaps", ""] = float(known["counts"]["gaps"])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    over = [day for day in known["days"] if day["ticks"] and day["date"] < today]
    if over:
        day = datetime.datetime.fromisoformat(over[-1]["date"]).replace(tzinfo=datetime.UTC)
        samples["last_day_timestamp_seconds", ""] = day.timestamp()
        samples |= {
            ("last_day_condition", str(condition)): float(over[-1]["condition"] == condition) for condition in Condition
        }
    return samples
