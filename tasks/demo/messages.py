"""When the messages of a recording arrive, and the market's status at that time."""

import dataclasses

import numpy as np
import pyarrow as pa

from tasks.demo.arrays import Bools, Ints, first_of, members, noise, within
from tasks.demo.markets import Markets
from tasks.demo.recording import Recording

TIMESTAMP = pa.timestamp("us", "UTC")

_STATUSES = pa.array(["OPEN", "SUSPENDED", "CLOSED"])
_SUSPENDED, _CLOSED = 1, 2

#: In every market the message of this number in so many has the publish_time of the one before it.
_TWIN, _TWIN_EVERY = 11, 48


@dataclasses.dataclass(frozen=True, eq=False)
class Messages:
    """n messages as arrays of length n, by market and then number (0, 1, 2 …) in the market, which is also by time.

    publish_time, received_time: milliseconds since 1970; goals: how many were scored before. is_twin: it has the same
    publish_time as the message before it; then the recorder keeps that one's ladder rows, and this one's traded rows.
    """

    market: Ints
    number: Ints
    publish_time: Ints
    received_time: Ints
    is_suspended: Bools
    is_in_play: Bools
    goals: Ints
    is_twin: Bools
    first: Ints

    def __len__(self) -> int:
        return len(self.market)

    def by_time(self, after: int | None = None, until: int | None = None) -> Ints:
        """Return the positions of the messages in the order they were recorded, with publish_time in [after, until)."""
        order = np.lexsort((self.number, self.market, self.publish_time))
        return order[within(self.publish_time[order], after, until)]


def plan_messages(recording: Recording, markets: Markets) -> Messages:
    """Return every message of a recording."""
    market, number = members(markets.messages)
    publish_time = _publish_times(recording.seed, markets, market, number)
    is_twin = number % _TWIN_EVERY == _TWIN
    publish_time[is_twin] = publish_time[np.flatnonzero(is_twin) - 1]

    events, event = markets.events, markets.event[market]
    nth = range(events.suspended_from.shape[1])
    suspended = [
        (publish_time >= events.suspended_from[event, n]) & (publish_time < events.suspended_until[event, n])
        for n in nth
    ]
    scored = [
        (publish_time >= events.suspended_from[event, n])
        & (events.suspended_from[event, n] < events.suspended_until[event, n])
        for n in nth[1:-1]
    ]
    return Messages(
        market=market,
        number=number,
        publish_time=publish_time,
        received_time=publish_time + latency_ms(recording.seed, market, number),
        is_suspended=np.logical_or.reduce(suspended),
        is_in_play=publish_time >= events.start[event],
        goals=np.sum(scored, axis=0),
        is_twin=is_twin,
        first=first_of(markets.messages),
    )


def latency_ms(seed: int, *keys: Ints) -> Ints:
    """Return how long messages took to arrive: mostly 10 to 17 ms, up to 40, and now and then 300 to 1200."""
    usual = 10 + 8 * noise(seed, "latency", *keys)
    rare = noise(seed, "slow", *keys)
    slow = np.where(rare < 0.04, 23 * noise(seed, "slower", *keys), 0) + np.where(
        rare < 0.002, 300 + 860 * rare / 0.002, 0
    )
    latency: Ints = (usual + slow).astype(np.int64)
    return latency


def _publish_times(seed: int, markets: Markets, market: Ints, number: Ints) -> Ints:
    """Return distinct ascending times within each market: the first when it is listed, sparse before the start, then
    dense.
    """
    events, event = markets.events, markets.event[market]
    listed, start, end = events.listed[event], events.start[event], events.end[event]
    when = noise(seed, "when", market, number)
    before = start - (start - listed) * when**3
    during = start + (end - 35_000 - start) * when
    is_during = noise(seed, "in play", market, number) < np.where(events.is_race[event], 0.25, 0.6)
    times = np.where(is_during, during, before).astype(np.int64)
    times = np.where(noise(seed, "whole second", market, number) < 0.05, times // 1000 * 1000, times)
    times = np.where(number == 0, listed, np.maximum(times, listed))
    is_late = markets.ends_suspended[market] & (number == markets.messages[market] - 1)
    times = np.where(is_late, (end - 30_000 + 25_000 * when).astype(np.int64), times)

    order = np.lexsort((times, market))
    far_apart = market * (1 << 42)  # each market's times beyond all those of the one before
    rising = times[order] + far_apart - np.arange(len(times))
    distinct: Ints = np.maximum.accumulate(rising) + np.arange(len(times)) - far_apart
    return distinct


def lifecycle_rows(seed: int, markets: Markets, messages: Messages, after: int | None, until: int | None) -> pa.Table:
    """Return the rows of market_lifecycle_events in [after, until), as they were recorded: repeated, not always
    complete.
    """
    events = markets.events
    listed = np.arange(len(markets))
    market, nth = members(np.full(len(markets), events.suspended_from.shape[1]))
    begins, ends = (times[markets.event[market], nth] for times in (events.suspended_from, events.suspended_until))
    happens = np.flatnonzero(begins < ends)
    market, nth, begins, ends = market[happens], nth[happens], begins[happens], ends[happens]
    again = np.flatnonzero(noise(seed, "status", messages.market, messages.number) < 0.05)

    whose = np.concatenate([listed, market, market, messages.market[again]])
    times = np.concatenate([events.listed[markets.event], begins, ends, messages.publish_time[again]])
    is_last = nth == events.suspended_from.shape[1] - 1
    status = np.concatenate(
        [0 * listed, _SUSPENDED + 0 * market, is_last * _CLOSED, messages.is_suspended[again] * _SUSPENDED]
    )
    in_play = np.concatenate([listed < 0, nth > 0, nth >= 0, messages.is_in_play[again]])

    order = np.lexsort((whose, times))
    order = order[within(times[order], after, until)]
    whose, times = whose[order], times[order]
    gap = noise(seed, "gap", whose, order)
    return pa.table(
        {
            "market_id": markets.ids.take(whose),
            "status": _STATUSES.take(pa.array(status[order], mask=gap < 0.03)),
            "in_play": pa.array(in_play[order], mask=gap > 0.9),
            "publish_time": timestamps(times),
            "received_time": timestamps(times + latency_ms(seed, whose, order)),
        }
    )


def timestamps(milliseconds: Ints) -> pa.Array:
    """Return times as Arrow's, from milliseconds since 1970."""
    return pa.array(milliseconds * 1000).cast(TIMESTAMP)
