"""A full picture in a stream names every runner that was told of, and what is unknown has a value that readers take."""

import json

import numpy as np

from tasks.export_directory.market_results import NOTHING
from tasks.export_directory.market_states import intervals
from tasks.stream_files.definition import DefinitionFeed, Known
from tasks.stream_files.stream_lines import StreamLines
from tasks.ticks.tick_arrays import TRADED, Ticks

MINUTE = 60_000_000


def lines(rows, seen, batch=100, **metadata):
    """Return the lines of rows (minute, runner, side, price, size) with states (minute, status)."""
    minute, runner, side, price, size = (np.array(column) for column in zip(*rows))
    kinds = side.astype(np.int8), np.zeros(len(rows), np.int16)
    ticks = Ticks(minute * 0, minute * MINUTE, minute * 0, runner, *kinds, price * 1.0, size * 1.0).sorted()
    states = intervals([(moment * MINUTE, status, False) for moment, status in seen])
    feed = DefinitionFeed(Known("1.5", metadata, states, NOTHING, int(ticks.publish_time[0])))
    parts = (ticks[start : start + batch] for start in range(0, len(ticks), batch))
    text = b"".join(StreamLines("1.5", feed, 10 * MINUTE).lines(parts))
    return text, [json.loads(line)["mc"][0] for line in text.splitlines()]


ROWS = [(1, 7, 0, 2, 5), (1, 3, 0, 3, 5), (1, 3, 1, 4, 5), (2, 7, 0, 2, 6), (40, 3, 0, 3, 5), (40, 9, 0, 8, 5)]


def test_a_picture_names_runners_whose_book_is_empty_and_none_that_come_later():
    _, told = lines([*ROWS, (41, 11, 0, 2, 2)], [(0, "OPEN")])
    images = [change for change in told if change.get("img")]
    assert [[runner["id"] for runner in change["rc"]] for change in images] == [[3, 7], [3, 7, 9]]
    assert images[1]["rc"][1] == {"id": 7}


def test_a_state_that_empties_the_book_names_every_runner_so_far():
    _, told = lines([*ROWS, (60, 3, TRADED, 3, 9)], [(0, "OPEN"), (50, "SUSPENDED"), (55, "OPEN")])
    (clearing,) = [change for change in told if change.get("img") and "SUSPENDED" in str(change)]
    assert clearing["rc"] == [{"id": 3}, {"id": 7}, {"id": 9}]


def test_pictures_do_not_depend_on_how_rows_come():
    texts = {lines([*ROWS, (41, 11, 0, 2, 2)], [(0, "OPEN"), (50, "SUSPENDED")], batch)[0] for batch in (1, 2, 5, 100)}
    assert len(texts) == 1


def test_a_sport_is_told_by_its_market_types_and_otherwise_one_that_every_reader_knows():
    for market_type, number in (("ASIAN_HANDICAP", "1"), ("WIN", "7"), ("SOMETHING", "10"), (None, "10")):
        _, told = lines(ROWS, [(0, "OPEN")], marketType=market_type)
        assert told[0]["marketDefinition"]["eventTypeId"] == number
