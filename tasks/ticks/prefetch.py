"""Prepare the next item while the last one is used."""

import concurrent.futures
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield the items; each is made in a thread while the one before it is used. close() waits for the one
    being made.
    """
    source, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1, "prefetch") as pool:
        waiting = pool.submit(next, source, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, source, end)
            yield item  # type: ignore[misc]
