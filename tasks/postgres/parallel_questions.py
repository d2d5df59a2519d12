"""A query in many parts, sent over two connections at once."""

import collections
import concurrent.futures
import queue
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tasks.postgres.database import Database

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_ANSWERS_AHEAD = 3


def ask_each(database: Database, ask: Callable[[Database, Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """Yield ask(connection, item) for each item, in order. Two run at a time, each over its own connection, and only a
    few ahead of the caller.
    """
    free: queue.SimpleQueue[Database] = queue.SimpleQueue()
    free.put(database)

    def ask_one(item: Item) -> Answer:
        connection = free.get()
        try:
            return ask(connection, item)
        finally:
            free.put(connection)

    with Database(database.server, database.source_tables) as second, concurrent.futures.ThreadPoolExecutor(
        2, "database"
    ) as pool:
        free.put(second)
        answers = collections.deque[concurrent.futures.Future[Answer]]()
        try:
            for item in items:
                answers.append(pool.submit(ask_one, item))
                if len(answers) > _ANSWERS_AHEAD:
                    yield answers.popleft().result()
            while answers:
                yield answers.popleft().result()
        finally:
            for answer in answers:
                answer.cancel()
