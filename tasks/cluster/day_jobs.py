"""Days on a Spark cluster: a job for each, several at once. What executors run is the engine of ConsolidateDay."""

import concurrent.futures
import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping
from typing import Any

from tasks.cluster import spark_cluster
from tasks.day_csv import day_parquet, day_parts
from tasks.day_csv.consolidation import Consolidation, consolidate
from tasks.day_csv.consolidation_report import Totals
from tasks.day_csv.day_parts import Part
from tasks.day_csv.export_source import ExportSource
from tasks.errors import ExportError, told
from tasks.export_directory.index_csv import IndexRow
from tasks.storage.atomic_files import remove_leftovers
from tasks.storage.layout import Layout

#: Days begun at once for each core of the cluster, so that none is idle and few parts lie around; and at the very most.
_DAYS_PER_CORE, _MOST_DAYS = 2, 256
#: How often to look whether the cluster is still there: Spark itself would wait for a lost one for ever.
_LOOK_S = 5


@dataclasses.dataclass(frozen=True)
class _Failure:
    """Why an executor could not do its part, in one line: trying again elsewhere would not help."""

    reason: str


@dataclasses.dataclass(frozen=True)
class _Day:
    """A day to make: its market files as the driver saw them in the index, and what is to be written."""

    layout: Layout
    rows: Mapping[str, IndexRow]
    wanted: Consolidation


def make_days(
    master: str,
    layout: Layout,
    days: Mapping[datetime.date, tuple[Mapping[str, IndexRow], Consolidation]],
    part_rows: int,
    progress: Callable[[int, int], None],
) -> dict[datetime.date, str]:
    """Make days on a cluster; return those that failed, with the reason.

    part_rows: days of more ticks are cut by time into parts of about so many, for several executors. progress: is
    called with 1 and the rows of each day that is done. Raises UsageError and ClusterError if there is no cluster.
    """
    failed: dict[datetime.date, str] = {}
    if not days:
        return failed
    try:
        with spark_cluster.connected(master) as context:
            at_once = min(_DAYS_PER_CORE * context.defaultParallelism, _MOST_DAYS)
            pool = concurrent.futures.ThreadPoolExecutor(at_once, "day")
            try:
                running = {
                    pool.submit(_make, context, date, _Day(layout, *given), part_rows): date
                    for date, given in days.items()
                }
                waiting = set(running)
                require_executor = spark_cluster.ExecutorWatch(context, master)
                while waiting:
                    ended, waiting = concurrent.futures.wait(waiting, _LOOK_S, concurrent.futures.FIRST_COMPLETED)
                    for future in ended:
                        done = _result(future)
                        if isinstance(done, _Failure):
                            failed[running[future]] = done.reason
                        progress(1, 0 if isinstance(done, _Failure) else done.rows + done.duplicates)
                    require_executor()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # those that run end when the context does
    finally:  # no executor of ours works any more
        for directory in layout.directories:
            remove_leftovers(directory)
        _remove_parts(layout)
    return failed


def _result(future: concurrent.futures.Future[Totals | _Failure]) -> Totals | _Failure:
    try:
        return future.result()
    except Exception as error:  # Spark's: the executors are gone, or failed too often
        return _Failure(f"Spark gave up: {spark_cluster.reason(error)}")


def _remove_parts(layout: Layout) -> None:
    if layout.day_parts_dir.is_dir():
        for path in layout.day_parts_dir.iterdir():
            path.unlink(missing_ok=True)
        layout.day_parts_dir.rmdir()


def _make(context: Any, date: datetime.date, day: _Day, part_rows: int) -> Totals | _Failure:
    """Make a day by one job, or a large one by two: its parts, and what joins them."""
    context.setLocalProperty("spark.job.description", f"{day.wanted.csv.name}")
    spans = [day.wanted.span]
    if not day_parquet.is_parquet(day.wanted.csv):  # the parts of a Parquet file cannot be joined as they are
        spans = day_parts.cut(day.rows, day.wanted.span, part_rows)
    if len(spans) == 1:
        return _only(_run(context, [functools.partial(_whole, day)]))
    parts = _run(
        context,
        [
            functools.partial(
                day_parts.write_part, day.layout, day.rows, day.wanted, span, day.layout.day_part(date, number)
            )
            for number, span in enumerate(spans)
        ],
    )
    made = [part for part in parts if isinstance(part, Part)]
    if len(made) < len(parts):
        return next(part for part in parts if isinstance(part, _Failure))
    return _only(_run(context, [functools.partial(day_parts.join, day.layout, day.rows, day.wanted, made)]))


def _whole(day: _Day) -> Totals:
    return consolidate(day.wanted, ExportSource(day.layout, day.rows, day.wanted.span))


def _only(results: list[Any]) -> Totals | _Failure:
    (result,) = results
    if not isinstance(result, Totals | _Failure):
        raise TypeError(result)
    return result


def _run(context: Any, calls: list[Callable[[], Any]]) -> list[Any]:
    """Run calls on executors, a task each; return their results in order."""
    return list(context.parallelize(calls, len(calls)).map(_told).collect())


def _told(call: Callable[[], Any]) -> Any:
    """Return a call's result, or the line of an expected failure: another executor would fail too."""
    try:
        return call()
    except (ExportError, OSError) as error:
        return _Failure(told(error))
