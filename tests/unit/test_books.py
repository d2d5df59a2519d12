"""Books as of times: whatever the batches, of each time the newest message not after it."""

import numpy as np
import pytest

from tasks.reader.books_as_of import NO_TIME, books_as_of, choosing
from tasks.ticks.tick_arrays import TRADED, Ticks


def messages(random, count):
    """Return ticks of messages at growing times, in file order: some without a ladder, some rows that no book shows."""
    rows = []
    for moment in np.cumsum(random.integers(1, 9, count)).tolist():
        runners = random.permutation([41, 7, 30, 99])[: random.integers(0, 5)] if moment > 50 else [30]
        for selection_id in runners:
            for side in (0, 1):
                for level in range(random.integers(0, 9)):
                    size = random.choice([5.0, 0.0, np.nan, np.inf], p=[0.94, 0.02, 0.02, 0.02])
                    rows.append((moment, selection_id, side, level, 1 + random.integers(1, 999) / 100, size))
        rows.append((moment, 7, TRADED, 0, 2.0, 10.0))
    columns = [np.array(column) for column in zip(*rows)]
    moment, selection_id, side, level, price, size = columns
    kinds = side.astype(np.int8), level.astype(np.int16)
    return Ticks(moment * 0, moment, moment * 0, selection_id, *kinds, price, size).sorted()


@pytest.mark.parametrize("seed", range(8))
def test_books_are_of_the_newest_message_however_rows_come(seed):
    random = np.random.default_rng(seed)
    ticks = messages(random, 60)
    times = random.integers(-5, int(ticks.publish_time[-1]) + 9, 40)
    step = int(random.integers(1, 60))
    choose = choosing(np.sort(times))
    parts = [ticks[start : start + step] for start in range(0, len(ticks), step)]
    chosen = [part[choose(part.publish_time)] for part in parts]
    books = books_as_of(Ticks.concatenate(chosen), times)
    shown = ticks[(ticks.side != TRADED) & np.isfinite(ticks.size) & (ticks.size > 0)]
    for number, moment in enumerate(times.tolist()):
        newest = ticks.publish_time[ticks.publish_time <= moment].max(initial=NO_TIME)
        assert books.publish_time[number].view(np.int64) == newest
        expected = np.full((2, *books.price.shape[1:]), np.nan)
        rows = shown[shown.publish_time == newest]
        runner = np.searchsorted(books.selection_id, rows.selection_id)
        expected[:, runner, rows.side, rows.level] = rows.price, rows.size
        np.testing.assert_array_equal(np.stack([books.price[number], books.size[number]]), expected)
    assert set(books.selection_id.tolist()) <= set(shown.selection_id.tolist())
