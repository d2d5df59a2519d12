"""How worker processes tell Luigi the results of their tasks: each over a pipe of its own."""

import collections
import contextlib
import queue
from multiprocessing import connection
from typing import Any


class WorkerResult:
    """The pipe on which one process sends the result of its task."""

    def __init__(self) -> None:
        self.reader, self.writer = connection.Pipe(duplex=False)

    def put(self, result: Any) -> None:
        """Send the result."""
        self.writer.send(result)


class WorkerResults:
    """The results of all worker processes, in place of Luigi's multiprocessing.Queue.

    In such a queue all processes share one pipe and one lock. A worker that is killed while it sends leaves the lock
    held or half a result in the pipe, and the run waits for ever. Here it breaks only its own pipe, and Luigi finds
    that the process has died.
    """

    def __init__(self) -> None:
        self._own: collections.deque[Any] = collections.deque()
        self._pipes: dict[Any, WorkerResult] = {}  # by reading end

    def of_process(self) -> WorkerResult:
        """Return the pipe for a process that is about to start."""
        result = WorkerResult()
        self._pipes[result.reader] = result
        return result

    def started(self) -> None:
        """Leave the pipe's writing end to the process that has started: then the pipe ends when the process does."""
        for result in self._pipes.values():
            result.writer.close()

    def put(self, result: Any) -> None:
        """Add a result of the main process."""
        self._own.append(result)

    def get(self, timeout: float) -> Any:
        """Return the next result. Raises queue.Empty if there is none for timeout seconds, or if a process has ended
        without one.
        """
        ready = connection.wait(self._pipes, 0 if self._own else timeout)
        if ready:
            result = self._pipes.pop(ready[0])
            with result.reader, contextlib.suppress(EOFError, OSError):
                return result.reader.recv()
        if self._own:
            return self._own.popleft()
        raise queue.Empty

    def close(self) -> None:
        """Expect no more results."""
        for result in self._pipes.values():
            result.reader.close()
            result.writer.close()
        self._pipes.clear()
