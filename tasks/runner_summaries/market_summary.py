"""The rows of one market, made in one pass over its ticks.

docs/summary.md has the rules. In short: the off is the last change to in-play; before it is pre-play (pp), after it
in-play (ip). Prices come from the newest message that is at least so much older than the off, or than the scheduled
start if the off is unknown. A volume is the last one of a price in the phase; one that disappears (its runner is
removed, the market is settled) keeps its last figure. Falls are counted by cause.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.export_directory import market_states
from tasks.export_directory.market_states import State
from tasks.runner_summaries.summary_columns import FALLS, HORIZONS, PHASES
from tasks.ticks import value_text
from tasks.ticks.snapshots import Floats, Slots, Snapshots
from tasks.ticks.tick_arrays import Ticks
from tasks.ticks.true_volume import TrueVolume, VolumeChanges, falls

#: A price counts as traded in a phase if its volume grew by so much, because currency conversion causes small steps.
LEAST_GROWTH = 1.0
_NEVER = np.iinfo(np.int64).max

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class MarketKnown:
    """What is known about a market besides its ticks. condition: its name, None if unknown."""

    market_id: str
    event_id: str | None
    metadata: Mapping[str, Any]
    states: Sequence[State]
    condition: str | None
    results: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def start_us(self) -> int | None:
        """The scheduled start."""
        text = self.metadata.get("marketStartTime")
        return value_text.parse_time(text) if text else None

    @property
    def off_us(self) -> int | None:
        """When it went in play."""
        return market_states.off_us(self.states)

    @property
    def tells_in_play(self) -> bool:
        """Whether anything is known of in-play."""
        return any(state.in_play is not None for state in self.states)


def summarise(known: MarketKnown, ticks: Iterable[Ticks]) -> list[Row]:
    """Return one row per runner, by selection id: for the runners in the metadata and those with ticks."""
    summary = _Summary(known)
    for chunk in summary.slots.layout(ticks):
        summary.add(chunk)
    return summary.rows()


class _Summary:
    def __init__(self, known: MarketKnown) -> None:
        self._known = known
        self.slots = Slots()
        self._volumes = TrueVolume(self.slots)
        self._off_us = known.off_us
        reference = self._off_us if self._off_us is not None else known.start_us
        self._moments = None if reference is None else [reference - seconds * 1_000_000 for _, seconds in HORIZONS]
        self._books: list[tuple[Floats, Floats] | None] = [None] * len(HORIZONS)
        self._volume_of = {phase: np.zeros(0) for phase in PHASES}
        self._base = np.zeros(0)
        self._last_price: dict[tuple[str, int], float] = {}
        self._first_us, self._last_us = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._fell: dict[tuple[str, int], float] = {}
        self._begins_us: int | None = None

    def add(self, chunk: Snapshots) -> None:
        """Take in the next messages."""
        is_first = self._begins_us is None
        self._begins_us = int(chunk.publish_time[0]) if is_first else self._begins_us
        self._look(chunk)
        self._seen(chunk)
        changes = self._volumes.changes(chunk)
        columns = chunk.traded.shape[1]
        for phase in PHASES:
            self._volume_of[phase] = np.append(self._volume_of[phase], np.zeros(columns - len(self._volume_of[phase])))
        self._base = np.append(self._base, np.zeros(columns - len(self._base)))
        off_us = _NEVER if self._off_us is None else self._off_us
        in_play = np.asarray(chunk.publish_time[changes.message] >= off_us, np.bool_)
        there = changes.volume > 0
        for phase, rows in (("pp", np.flatnonzero(there & (in_play == 0))), ("ip", np.flatnonzero(there & in_play))):
            self._volume_of[phase][changes.slot[rows]] = changes.volume[rows]  # in order: the last one stays
        if is_first:
            at_first = np.flatnonzero(changes.message == 0)
            self._base[changes.slot[at_first]] = changes.volume[at_first]
        self._trade(changes, in_play, is_first)
        self._fall(chunk, changes)

    def _look(self, chunk: Snapshots) -> None:
        """Keep the best prices of the newest message before each of the moments."""
        for number, moment in enumerate(self._moments or ()):
            newest = int(np.searchsorted(chunk.publish_time, moment)) - 1
            if newest >= 0:
                self._books[number] = (chunk.price[newest, :, :, 0].copy(), chunk.size[newest, :, :, 0].copy())

    def _seen(self, chunk: Snapshots) -> None:
        """Record the first and last message with a row of each runner."""
        runners = chunk.price.shape[1]
        new = runners - len(self._first_us)
        self._first_us = np.append(self._first_us, np.full(new, _NEVER))
        self._last_us = np.append(self._last_us, np.full(new, -_NEVER))
        there = np.asarray((chunk.price.reshape(len(chunk), runners, -1) > 0).any(axis=2), np.bool_)
        for runner in range(runners):
            if not (there[0, runner] and there[-1, runner]):
                there[:, runner] |= (chunk.traded[:, self.slots.traded_runner == runner] > 0).any(axis=1)
        for runner in np.flatnonzero(there.any(axis=0)).tolist():
            messages = np.flatnonzero(there[:, runner])
            self._first_us[runner] = min(self._first_us[runner], chunk.publish_time[messages[0]])
            self._last_us[runner] = max(self._last_us[runner], chunk.publish_time[messages[-1]])

    def _trade(self, changes: VolumeChanges, in_play: Any, is_first: bool) -> None:
        """Record the last traded price of each runner and phase: the one whose volume grew most in its message."""
        grown = changes.volume - changes.before
        counts = (grown > 0.005) & ~np.isin(changes.message, list(changes.images))
        counts &= ~(is_first & (changes.message == 0))
        rows = np.flatnonzero(counts)
        runner = self.slots.traded_runner[changes.slot[rows]]
        price = self.slots.traded_price[changes.slot[rows]]
        order = np.lexsort((-price, grown[rows], changes.message[rows], in_play[rows], runner))
        rows, runner, price = rows[order], runner[order], price[order]
        group = runner * 2 + in_play[rows]
        last = np.flatnonzero(np.diff(group, append=-1))
        for place in last.tolist():
            self._last_price[PHASES[int(in_play[rows[place]])], int(runner[place])] = float(price[place])

    def _fall(self, chunk: Snapshots, changes: VolumeChanges) -> None:
        """Add up by how much volumes fell, and why."""
        for message in np.unique(changes.message[falls(changes)]).tolist():
            rows = np.flatnonzero((changes.message == message) & falls(changes))
            runner = self.slots.traded_runner[changes.slot[rows]]
            left = np.bincount(
                self.slots.traded_runner[: chunk.traded.shape[1]], chunk.traded[message], chunk.price.shape[1]
            )
            position = int(market_states.position_at(self._known.states, chunk.publish_time[message : message + 1])[0])
            is_closed = position >= 0 and self._known.states[position].status == "CLOSED"
            for one, amount in zip(runner.tolist(), (changes.before - changes.volume)[rows].tolist()):
                if message in changes.images:
                    why = "reset"
                elif is_closed or not left.any():
                    why = "settlement"
                else:
                    why = "void" if left[one] else "removal"
                self._fell[why, one] = self._fell.get((why, one), 0.0) + amount

    def rows(self) -> list[Row]:
        """Return the rows."""
        known = self._known
        described = {runner["selectionId"]: runner for runner in known.metadata.get("runners", ())}
        numbers = {int(selection_id): number for number, selection_id in enumerate(self.slots.selection_id)}
        return [
            self._row(selection_id, described.get(selection_id, {}), numbers.get(selection_id))
            for selection_id in sorted(described.keys() | numbers.keys())
        ]

    def _row(self, selection_id: int, described: Mapping[str, Any], number: int | None) -> Row:
        known = self._known
        row: Row = {
            "market_id": known.market_id,
            "event_id": known.event_id,
            "event_date": None if known.start_us is None else known.start_us // 86_400_000_000,
            "market_type": known.metadata.get("marketType"),
            "market_name": known.metadata.get("marketName"),
            "market_start_time": known.start_us,
            "selection_id": selection_id,
            "selection_name": described.get("runnerName"),
            "result": known.results.get(selection_id),
            "off_time": self._off_us,
            "condition": known.condition,
        }
        if number is None:
            return row
        row |= {"first_tick": int(self._first_us[number]), "last_tick": int(self._last_us[number])}
        if known.tells_in_play:
            for phase in PHASES:
                row |= {f"{phase}_{what}": value for what, value in self._traded(phase, number).items()}
        for (end, _), book in zip(HORIZONS, self._books):
            if book is not None and number < len(book[0]):
                for side, name in enumerate(("back", "lay")):
                    if book[0][number, side] > 0:
                        row[f"{name}_{end}"] = float(book[0][number, side])
                        row[f"{name}_size_{end}"] = float(book[1][number, side])
        return row | {f"fell_{why}": round(self._fell.get((why, number), 0.0), 2) for why in FALLS}

    def _traded(self, phase: str, number: int) -> dict[str, float | None]:
        begins_in_play = self._off_us is not None and self._begins_us is not None and self._begins_us >= self._off_us
        if begins_in_play and phase == "pp" or phase == "ip" and self._off_us is None:
            return {}
        slots = np.flatnonzero(self.slots.traded_runner == number)
        volume: Floats = self._volume_of[phase][slots]
        if phase == "ip":
            before = self._base if begins_in_play else self._volume_of["pp"]
            volume = np.asarray(np.round(np.maximum(volume - before[slots], 0), 2), np.float64)
            volume[volume < LEAST_GROWTH] = 0
        price = self.slots.traded_price[slots]
        order = np.argsort(price)
        price, volume = price[order], volume[order]
        price, volume = price[volume > 0], volume[volume > 0]
        total = round(float(volume.sum()), 2)
        if not len(price):
            return {"volume": 0.0}
        return {
            "min": float(price[0]),
            "max": float(price[-1]),
            "wap": round(float((price * volume).sum()) / float(volume.sum()), 6),
            "ltp": self._last_price.get((phase, number)),
            "volume": total,
        }
