"""Which events and markets a recording has, and who runs in them."""

import dataclasses
from functools import cached_property

import numpy as np
import pyarrow as pa

from tasks.demo.arrays import Bools, Floats, Ints, between, first_of, members, noise
from tasks.demo.price_ladder import PRICES
from tasks.demo.recording import Recording

MATCH_ODDS, OVER_UNDER, NEXT_GOAL, WIN, PLACE = range(5)
MARKET_TYPES = ("MATCH_ODDS_FT", "OVER_UNDER_25_FT", "NEXT_GOAL", "WIN", "PLACE")

#: Five events have fourteen markets: four matches with three each, one race with two.
_EVENT = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4])
_KIND = np.array([MATCH_ODDS, OVER_UNDER, NEXT_GOAL] * 2 + [WIN, PLACE] + [MATCH_ODDS, OVER_UNDER, NEXT_GOAL] * 2)
_RACE = 2

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_MATCH_MS, _RACE_MS = 115 * _MINUTE_MS, 4 * _MINUTE_MS
_GOALS = 4

#: Rows of a runner in a message for each level that is kept: two sides, some gaps, and as many traded rows.
_ROWS_PER_LEVEL = 3.6


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """n events, as arrays of length n; suspensions have shape (n, most suspensions). Times are milliseconds since 1970.

    listed, start, end: when its markets are first seen, when it begins, when they are closed; suspended_from,
    suspended_until: when no bets are taken: at the start, at each goal, at the end. Equal times: not suspended.
    """

    is_race: Bools
    listed: Ints
    start: Ints
    end: Ints
    suspended_from: Ints
    suspended_until: Ints

    def __len__(self) -> int:
        return len(self.start)


@dataclasses.dataclass(frozen=True, eq=False)
class Markets:
    """n markets, as arrays of length n, and their runners, as arrays one market after the other.

    messages: how many are stored, 0 for a market without ticks; fill: the share of prices near the best that have an
    offer; is_traded: any bets were matched; ends_suspended: its last message has traded prices but no offers.
    runner_price: where on the price ladder a runner begins.
    """

    events: Events
    market_id: Ints
    event: Ints
    kind: Ints
    runners: Ints
    messages: Ints
    fill: Floats
    is_traded: Bools
    ends_suspended: Bools
    selection_id: Ints
    runner_price: Ints
    is_winner: Bools

    def __len__(self) -> int:
        return len(self.event)

    @cached_property
    def first_runner(self) -> Ints:
        """Where the runners of each market begin."""
        return first_of(self.runners)

    @cached_property
    def runner_market(self) -> Ints:
        """The market of each runner."""
        return members(self.runners)[0]

    @cached_property
    def ids(self) -> pa.Array:
        """The market ids as text."""
        return pa.array([f"1.{number}" for number in self.market_id])

    @property
    def has_row(self) -> Bools:
        """Whether public.markets knows the market. One that has ticks is missing there, as nothing prevents."""
        known: Bools = np.arange(len(self)) != 9
        return known


def plan_markets(recording: Recording) -> Markets:
    """Return the events, markets and runners of a recording."""
    number = np.arange(recording.markets)
    event = number // len(_EVENT) * (_EVENT.max() + 1) + _EVENT[number % len(_EVENT)]
    kind = _KIND[number % len(_KIND)]
    field = 8 + np.floor(7 * noise(recording.seed, "field", event)).astype(np.int64)
    runners = np.where(kind >= WIN, field, np.array([3, 2, 3, 0, 0])[kind])
    ticks = _ticks(recording, has_ticks=number % 16 != 7)
    ends_suspended = number % 10 == 4
    messages = np.rint(ticks / (_ROWS_PER_LEVEL * recording.levels * runners)).astype(np.int64)
    messages = np.where(ticks > 0, np.maximum(messages, np.where(ends_suspended, 2, 1)), 0)
    runner_price, is_winner = _plan_runners(recording.seed, kind, runners)
    few = 0.25 + 0.7 * noise(recording.seed, "fill", number)
    return Markets(
        events=_plan_events(recording, int(event.max()) + 1),
        market_id=250_000_000 + (number * 48_271 + 12_345) % 999_983,  # a prime: no two alike, and not in order of time
        event=event,
        kind=kind,
        runners=runners,
        messages=messages,
        fill=np.maximum(few, np.minimum(0.9, np.log10(ticks + 1) / 6)),
        is_traded=(number % 5 != 3) | (ticks > recording.ticks / 20),
        ends_suspended=ends_suspended,
        selection_id=_selection_ids(event, kind, runners),
        runner_price=runner_price,
        is_winner=is_winner,
    )


def _ticks(recording: Recording, has_ticks: Bools) -> Floats:
    """Share the recording's ticks out among the markets that have any."""
    chosen = np.flatnonzero(has_ticks)
    rank = np.argsort(np.argsort(noise(recording.seed, "size", chosen)))
    weight = (1.0 + rank) ** -recording.skew
    ticks = np.zeros(len(has_ticks))
    ticks[chosen] = recording.ticks * weight / weight.sum()
    return ticks


def _plan_events(recording: Recording, count: int) -> Events:
    seed, number = recording.seed, np.arange(count)
    is_race: Bools = number % 5 == _RACE
    slot = np.argsort(np.argsort(noise(seed, "day", number)))
    share = (slot + noise(seed, "time of day", number)) / count
    latest = recording.end_ms - 3 * _HOUR_MS
    earliest = recording.start_ms + 2 * _HOUR_MS
    start = (earliest + share * (latest - earliest)).astype(np.int64) // (5 * _MINUTE_MS) * (5 * _MINUTE_MS)
    lead = between(8, 72, noise(seed, "lead", number)) * _HOUR_MS
    end = start + np.where(is_race, _RACE_MS, _MATCH_MS)

    goal, nth = number[:, None], np.arange(_GOALS)[None, :]
    scored = ~is_race[:, None] & (noise(seed, "goals", goal) * (_GOALS + 1) > nth + 1)
    goal_time = start[:, None] + (_MATCH_MS * (0.02 + 0.9 * noise(seed, "goal", goal, nth))).astype(np.int64)
    goal_length = (45_000 * (1 + noise(seed, "celebration", goal, nth))).astype(np.int64) * scored
    start_length = np.where(is_race, 5_000, 20_000)
    return Events(
        is_race=is_race,
        listed=np.maximum(recording.start_ms, (start - lead).astype(np.int64)),
        start=start,
        end=end,
        suspended_from=np.column_stack([start, goal_time, end - 30_000]),
        suspended_until=np.column_stack([start + start_length, goal_time + goal_length, end]),
    )


def _selection_ids(event: Ints, kind: Ints, runners: Ints) -> Ints:
    """Return the runners' ids. Some, such as 58805 for the draw, are the same in all markets, as at Betfair."""
    market, number = members(runners)
    home, away = (100_003 + 2 * (event * 7_919 % 1_000_003) + side for side in (0, 1))
    same = np.ones_like(event)
    ids: Ints = 10_000_019 + event[market] * 40 + number * 3
    for of_kind, choices in (
        (MATCH_ODDS, (home, away, 58_805 * same)),
        (OVER_UNDER, (47_972 * same, 47_973 * same)),
        (NEXT_GOAL, (home, away, 69_852 * same)),
    ):
        for position, choice in enumerate(choices):
            ids = np.where((kind[market] == of_kind) & (number == position), choice[market], ids)
    return ids


def _plan_runners(seed: int, kind: Ints, runners: Ints) -> tuple[Ints, Bools]:
    """Return where each runner's price begins, by chances that add up to 1 (a place: 3), and who will win."""
    market, number = members(runners)
    chance = 0.05 + noise(seed, "chance", market, number) ** 2
    chance *= np.where(kind == PLACE, 3.0, 1.0)[market] / np.bincount(market, chance)[market]
    price = np.searchsorted(PRICES, 1 / np.minimum(chance, 0.95))
    luck = chance * noise(seed, "luck", market, number)
    best = np.zeros(len(runners))
    np.maximum.at(best, market, luck)
    return np.minimum(price, len(PRICES) - 10), luck == best[market]
