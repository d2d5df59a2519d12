"""What stands in for a Spark cluster: processes that run the calls that executors would, each once or twice."""

import concurrent.futures
import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Executors:
    """A SparkContext, as far as day_jobs uses it. A call goes to another process and back as it does in Spark.

    repeats: each call runs twice at the same time, and the result of the later one counts, as with speculation.
    """

    defaultParallelism = 2

    def __init__(self, pool: concurrent.futures.ProcessPoolExecutor) -> None:
        self._pool = pool
        self.repeats = False
        self.calls = 0

    @contextlib.contextmanager
    def connected(self, master: str) -> Iterator["Executors"]:
        """Stand in for spark_cluster.connected."""
        yield self

    def setLocalProperty(self, key: str, value: str) -> None:
        """Do nothing."""

    def parallelize(self, calls: Sequence[Any], count: int) -> "_Job":
        """Return a job of so many tasks."""
        assert len(calls) == count
        return _Job(self, calls)


class _Job:
    def __init__(self, executors: Executors, calls: Sequence[Any]) -> None:
        self._executors, self._calls = executors, calls

    def map(self, function: Callable[[Any], Any]) -> "_Job":
        self._function = function
        return self

    def collect(self) -> list[Any]:
        times = 2 if self._executors.repeats else 1
        self._executors.calls += len(self._calls)
        running = [[self._executors._pool.submit(self._function, call) for _ in range(times)] for call in self._calls]
        return [[one.result() for one in attempts][-1] for attempts in running]


@contextlib.contextmanager
def executors() -> Iterator[Executors]:
    """Start two of them."""
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield Executors(pool)
