"""Days on a Spark cluster: a job for each, several at once. What executors run is the engine of ConsolidateDay."""

import concurrent.futures
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tasks.cluster import spark_cluster
from tasks.errors import ExportError, told

#: Days begun at once for each core of the cluster, so that none is idle and few parts lie around; and at the very most.
_DAYS_PER_CORE, _MOST_DAYS = 2, 256
#: How often to look whether the cluster is still there: Spark itself would wait for a lost one for ever.
_LOOK_S = 5

#: Runs calls on executors, a task each; returns their results in order. Raises ExportError for one that failed.
Run = Callable[[Sequence[Callable[[], Any]]], list[Any]]


class Day(Protocol):
    """A day to make."""

    @property
    def name(self) -> str:
        """What the cluster's page calls it."""

    def make(self, run: Run) -> int:
        """Make the day by means of executors; return the rows that were read. It is called in a thread of its own."""


def make_days(
    master: str, days: Mapping[datetime.date, Day], progress: Callable[[int, int], None]
) -> dict[datetime.date, str]:
    """Make days on a cluster; return those that failed, with the reason. At the end, no executor of ours works.

    progress: is called with 1 and the rows of each day that is done. Raises UsageError and ClusterError if there is no
    cluster.
    """
    failed: dict[datetime.date, str] = {}
    if not days:
        return failed
    with spark_cluster.connected(master) as context:
        at_once = min(_DAYS_PER_CORE * context.defaultParallelism, _MOST_DAYS)
        pool = concurrent.futures.ThreadPoolExecutor(at_once, "day")
        try:
            running = {pool.submit(_make, context, day): date for date, day in days.items()}
            waiting = set(running)
            require_executor = spark_cluster.ExecutorWatch(context, master)
            while waiting:
                ended, waiting = concurrent.futures.wait(waiting, _LOOK_S, concurrent.futures.FIRST_COMPLETED)
                for future in ended:
                    rows, reason = _result(future)
                    if reason:
                        failed[running[future]] = reason
                    progress(1, rows)
                require_executor()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # those that run end when the context does
    return failed


def _make(context: Any, day: Day) -> int:
    context.setLocalProperty("spark.job.description", day.name)

    def run(calls: Sequence[Callable[[], Any]]) -> list[Any]:
        results = list(context.parallelize(calls, len(calls)).map(_told).collect())
        for result in results:
            if isinstance(result, _Failure):
                raise ExportError(result.reason)
        return results

    return day.make(run)


def _result(future: concurrent.futures.Future[int]) -> tuple[int, str]:
    """Return the rows of a day, and why it failed, empty if it did not."""
    try:
        return future.result(), ""
    except (ExportError, OSError) as error:
        return 0, told(error)
    except Exception as error:  # Spark's: the executors are gone, or failed too often
        return 0, f"Spark gave up: {spark_cluster.reason(error)}"


class _Failure:
    """Why an executor could not do its part, in one line: trying again elsewhere would not help."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _told(call: Callable[[], Any]) -> Any:
    """Return a call's result, or the line of an expected failure: another executor would fail too."""
    try:
        return call()
    except (ExportError, OSError) as error:
        return _Failure(told(error))
