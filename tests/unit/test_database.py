"""Questions to the database: in order, two at a time, and answers not piled up."""

import pytest

from tasks.postgres import parallel_questions
from tasks.postgres.parallel_questions import ask_each


class _Connection:
    def __init__(self, server, source_tables=None):
        self.server, self.source_tables = server, source_tables

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.setattr(parallel_questions, "Database", _Connection)


def test_answers_come_in_order_and_few_before_they_are_wanted():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for position, answer in enumerate(ask_each(_Connection(None), lambda connection, number: number * number, items())):
        assert answer == position * position
        assert len(taken) <= position + 5
    assert len(taken) == 100


def test_an_error_reaches_who_asks():
    with pytest.raises(ZeroDivisionError):
        list(ask_each(_Connection(None), lambda connection, number: 1 // number, [1, 0, 1]))
    assert list(ask_each(_Connection(None), lambda connection, number: number, [])) == []
