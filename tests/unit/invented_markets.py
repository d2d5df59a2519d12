"""Invented markets for the tests of their condition: messages at a steady or random pace, and exports of them."""

import numpy as np

from tasks.statistics.tick_statistics import StatisticsCounter
from tasks.ticks.tick_arrays import TRADED, Ticks
from tasks.ticks.value_text import time_text

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000
START = 1_770_289_200_000_000  # 2026-02-05 11:00 UTC
OFF = START + 2 * HOUR
RUNNERS = (11, 12, 13)


def metadata(**changed):
    """Return the metadata of a market that went in play two hours after its recording began."""
    return {
        "marketId": "1.1",
        "eventId": "30",
        "eventTypeId": None,
        "marketName": "A v B",
        "marketType": "MATCH_ODDS",
        "marketStartTime": time_text(OFF),
        "marketStatus": "CLOSED",
        "inPlay": True,
        "numberOfRunners": 3,
        "runners": [{"selectionId": one, "runnerName": f"Runner {one}", "handicap": None} for one in RUNNERS],
    } | changed


def message(time: int, volume: float) -> Ticks:
    """Return one message: three levels a side and two traded prices of each runner."""
    rows = []
    for level in range(3):
        for runner in RUNNERS:
            rows += [(runner, 0, level, 2.0 - level / 100, 10.0), (runner, 1, level, 2.02 + level / 50, 12.0)]
    for runner in RUNNERS:
        rows += [(runner, TRADED, 0, 1.99, volume), (runner, TRADED, 0, 2.0, 2 * volume)]
    selection, side, level, price, size = (np.array(column) for column in zip(*rows))
    count = len(rows)
    return Ticks(
        np.zeros(count, np.int64),
        np.full(count, time),
        np.full(count, time + 13_000),
        selection,
        side.astype(np.int8),
        level.astype(np.int16),
        price.astype(float),
        size.astype(float),
    )


def every(step_s: float, hours: float = 3.0):
    """Return times so many seconds apart."""
    return START + (np.arange(0, hours * 3600, step_s) * SECOND).astype(np.int64)


def random_pace(mean_s: float, hours: float = 3.0, seed: int = 5):
    """Return times as a market's own events come: each independent of the one before."""
    steps = np.random.default_rng(seed).exponential(mean_s, round(hours * 3600 / mean_s))
    return START + np.cumsum((steps * SECOND).astype(np.int64) + 1)


def market(times) -> list[Ticks]:
    """Return the messages of a market at these times."""
    return [message(int(time), 100.0 + number) for number, time in enumerate(times)]


def export_of(days, markets_a_day=6, cut=None):
    """Return the statistics of an export: of each day so many markets, a message a minute; cut: from, to."""
    statistics = {}
    for day in range(days):
        for number in range(markets_a_day):
            begin = START // (24 * HOUR) * 24 * HOUR + day * 24 * HOUR + number * 2 * HOUR
            times = begin + np.arange(0, 14 * 60) * MINUTE
            times = times[times < begin - number * 2 * HOUR + 24 * HOUR]
            if cut:
                times = times[(times < cut[0]) | (times >= cut[1])]
            counter = StatisticsCounter()
            if len(times):
                counter.add(Ticks.concatenate([message(int(time), 100.0) for time in times]))
                statistics[f"1.{day}{number}"] = counter.statistics()
    return statistics
