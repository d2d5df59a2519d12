"""What each message says: the best prices of every runner, and every price traded so far."""

import dataclasses
from functools import cached_property

import numpy as np
import pyarrow as pa

from tasks.demo.arrays import Floats, Ints, between, first_of, members, noise, running_sum
from tasks.demo.markets import Markets, plan_markets
from tasks.demo.messages import Messages, plan_messages, timestamps
from tasks.demo.price_ladder import PRICES
from tasks.demo.recording import Recording

#: So many prices from the best on can have an offer; how many messages it stays as it is, by distance from the best,
#: for each runner that the market has: a message changes about one side of one book.
_REACH = 11
_OFFER_STAYS = np.array([3, 10, 20] + [30] * (_REACH - 3))

#: Bets on a market in a message, before the start and in play.
_BETS = 0.15, 0.4

#: A price wanders so many steps to either side of where chance and goals have put it.
_WANDER = 6

_SIDES = pa.array(["B", "L"])


@dataclasses.dataclass(frozen=True, eq=False)
class Trades:
    """n bets, as arrays of length n, by runner, price and message number.

    volume: matched at this price so far, in hundredths; until: the number of the message that next changes it, or
    the number of messages of the market. The runner's snapshots number to until - 1 hold this volume.
    """

    runner: Ints
    price: Ints
    number: Ints
    until: Ints
    size: Ints
    volume: Ints


class Books:
    """The books of a recording. Rows come as Arrow tables, in the order they were recorded."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.markets: Markets = plan_markets(recording)
        self.messages: Messages = plan_messages(recording, self.markets)

    @cached_property
    def _states(self) -> tuple[Ints, Ints]:
        """The runner and the message number of each state: what a runner's book is at a message, runner by runner."""
        return members(self.markets.messages[self.markets.runner_market])

    @cached_property
    def _first_state(self) -> Ints:
        return first_of(self.markets.messages[self.markets.runner_market])

    @cached_property
    def _state_message(self) -> Ints:
        runner, number = self._states
        message: Ints = self.messages.first[self.markets.runner_market[runner]] + number
        return message

    @cached_property
    def best(self) -> Ints:
        """The highest possible BACK price of each state, as a position on the price ladder; LAY begins one above."""
        seed, markets, messages = self.recording.seed, self.markets, self.messages
        (runner, number), message = self._states, self._state_message
        # more messages, but fewer of them move the price
        busy = np.sqrt(markets.messages[markets.runner_market[runner]])
        move = noise(seed, "move", runner, number) / np.minimum(0.5, 4 / busy)
        step = np.where(move < 0.5, 1, np.where(move < 1, -1, 0)) * np.where(messages.is_in_play[message], 2, 1)
        wander = np.abs((running_sum(step, runner) + _WANDER) % (4 * _WANDER) - 2 * _WANDER) - _WANDER
        begin = markets.runner_price[runner]
        decided = np.where(markets.is_winner, 0, len(PRICES) - 1)[runner]
        drift = (decided - begin) * (1 - 0.75 ** messages.goals[message])
        best: Ints = np.clip(begin + drift.astype(np.int64) + wander, 0, len(PRICES) - 2)
        return best

    @cached_property
    def trades(self) -> Trades:
        """All bets: some before the recording began, in each market's first message, then here and there."""
        seed, markets, messages = self.recording.seed, self.markets, self.messages
        (runner, number), message = self._states, self._state_message
        market = markets.runner_market
        is_traded = markets.is_traded & (markets.messages > 0)
        before = np.floor(
            3 * self.recording.levels * markets.fill[market] * noise(seed, "before", np.arange(len(market)))
        )
        earlier, nth = members(np.where(is_traded[market], 1 + before.astype(np.int64), 0))
        earlier_price = np.clip(
            markets.runner_price[earlier] + nth - before[earlier].astype(np.int64) // 2, 0, len(PRICES) - 1
        )
        chance = np.where(messages.is_in_play[message], _BETS[1], _BETS[0]) / markets.runners[market[runner]]
        later = np.flatnonzero(
            (number > 0)
            & is_traded[market[runner]]
            & ~messages.is_suspended[message]
            & (noise(seed, "bet", runner, number) < chance)
        )
        later_price = self.best[later] + (noise(seed, "bet side", runner[later], number[later]) < 0.5)

        who = np.concatenate([earlier, runner[later]])
        price = np.concatenate([earlier_price, later_price])
        when = np.concatenate([np.zeros(len(earlier), np.int64), number[later]])
        order = np.lexsort((when, price, who))
        who, price, when = who[order], price[order], when[order]
        size = between(50, 400_000, noise(seed, "bet size", who, price, when)).astype(np.int64)
        book = who * len(PRICES) + price
        last = np.diff(book, append=-1) != 0
        until = np.where(last, markets.messages[market[who]], np.roll(when, -1))
        volume = running_sum(size, book)
        if self.recording.sums_of_sums:
            volume = running_sum(volume, book)
        return Trades(who, price, when, until, size, volume)

    def ladder_rows(self, messages: Ints) -> pa.Table:
        """Return the rows of ladder_levels that messages make: whole twins, in the order of time."""
        message, runner = self._expand(messages)
        number, runners = self.messages.number[message], self.markets.runners[self.messages.market[message]]
        best = self.best[self._first_state[runner] + number]
        away = np.arange(_REACH)
        price = np.stack([best[:, None] - away, best[:, None] + 1 + away], axis=1)
        offer = (runner[:, None, None] * 2 + np.array([[0], [1]])) * 512 + price
        age = (number[:, None, None] + offer * 7_919 % 509) // (_OFFER_STAYS * runners[:, None, None])
        luck = noise(self.recording.seed, "offer", offer * (1 << 24) + age)
        fill = self.markets.fill[self.markets.runner_market[runner]][:, None, None]
        offered = (
            (luck < fill) & (price >= 0) & (price < len(PRICES)) & ~self.messages.is_suspended[message][:, None, None]
        )
        level = np.cumsum(offered, axis=2) - 1
        kept = offered & (level < self.recording.levels)
        kept_before = kept.sum(axis=2)[np.arange(len(runner)) - runners]  # the same runner one message before
        taken = np.where(self.messages.is_twin[message][:, None], kept_before, 0)
        row, side, position = np.nonzero(kept & (level >= taken[:, :, None]))
        return pa.table(
            {
                **self._who_and_when(message[row], runner[row]),
                "side": _SIDES.take(pa.array(side)),
                "level": level[row, side, position].astype(np.int16),
                "price": PRICES[price[row, side, position]],
                "size": _money(between(20, 120_000, luck[row, side, position] / fill[row, 0, 0]).astype(np.int64)),
            }
        )

    def traded_rows(self, messages: Ints) -> pa.Table:
        """Return the rows of traded_volume that messages make: whole twins, in the order of time."""
        trades, of_message = self.trades, self.messages
        place = np.full(len(of_message), -1)
        place[messages] = np.arange(len(messages))
        lower, upper = np.zeros(len(self.markets), np.int64), np.zeros(len(self.markets), np.int64)
        lower[of_message.market[messages[::-1]]] = of_message.number[messages[::-1]]
        upper[of_message.market[messages]] = of_message.number[messages] + 1
        market = self.markets.runner_market[trades.runner]
        begin = np.clip(trades.number, lower[market], upper[market])
        trade, nth = members(np.clip(trades.until, lower[market], upper[market]) - begin)
        message = of_message.first[market[trade]] + begin[trade] + nth
        # the second of twins has all prices of the first, and newer
        is_replaced = np.append(of_message.is_twin[1:], False)
        current = np.flatnonzero(~is_replaced[message])
        current = current[np.argsort(place[message[current]], kind="stable")]
        trade, message = trade[current], message[current]
        return pa.table(
            {
                **self._who_and_when(message, trades.runner[trade]),
                "price": PRICES[trades.price[trade]],
                "size_traded": _money(trades.volume[trade]),
            }
        )

    def liquidity_rows(self, messages: Ints) -> pa.Table:
        """Return the rows of market_liquidity_history that messages make: whole twins, in the order of time."""
        trades, of_message = self.trades, self.messages
        message = of_message.first[self.markets.runner_market[trades.runner]] + trades.number
        matched = running_sum(np.bincount(message, trades.size, len(of_message)).astype(np.int64), of_message.market)
        changed = np.full(len(self._states[0]), -1)
        state = self._first_state[trades.runner] + trades.number
        np.maximum.at(changed, state, trades.price)
        runner, _ = self._states
        newest = np.maximum.accumulate(np.where(changed >= 0, np.arange(len(changed)), self._first_state[runner]))
        highest = np.full(len(of_message), -1)
        np.maximum.at(highest, self._state_message, changed[newest])
        messages = messages[~np.append(of_message.is_twin[1:], False)[messages]]
        money = pa.decimal128(20, 2)
        return pa.table(
            {
                "market_id": self.markets.ids.take(of_message.market[messages]),
                "publish_time": timestamps(of_message.publish_time[messages]),
                "total_matched": pa.array(_money(matched[messages])).cast(money),
                "max_runner_ltp": pa.array(PRICES[highest[messages]], mask=highest[messages] < 0).cast(money),
            }
        )

    def rows_of(self, messages: Ints) -> Ints:
        """Return about how many rows each message makes."""
        rows: Ints = 4 * self.recording.levels * self.markets.runners[self.messages.market[messages]]
        return rows

    def _expand(self, messages: Ints) -> tuple[Ints, Ints]:
        """Return the message and the runner for every runner of every message."""
        market = self.messages.market[messages]
        place, nth = members(self.markets.runners[market])
        return messages[place], self.markets.first_runner[market[place]] + nth

    def _who_and_when(self, message: Ints, runner: Ints) -> dict[str, pa.Array]:
        return {
            "market_id": self.markets.ids.take(self.messages.market[message]),
            "selection_id": pa.array(self.markets.selection_id[runner]),
            "publish_time": timestamps(self.messages.publish_time[message]),
            "received_time": timestamps(self.messages.received_time[message]),
        }


def _money(hundredths: Ints) -> Floats:
    """Return amounts, each the double that its two decimals read as."""
    money: Floats = hundredths / 100
    return money
