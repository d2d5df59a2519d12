"""The market definition of a stream: the values that the export has, and documented defaults for the others."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.export_directory.market_results import Results
from tasks.export_directory.market_states import State
from tasks.ticks import value_text

#: Keys of the definition that the database has no value for, and their defaults.
DEFAULTS: Mapping[str, Any] = {
    "bspMarket": False,
    "persistenceEnabled": True,
    "marketBaseRate": 5.0,
    "numberOfWinners": 1,
    "bettingType": "ODDS",
    "bspReconciled": False,
    "complete": True,
    "crossMatching": True,
    "runnersVoidable": False,
    "betDelay": 0,
    "regulators": ["MR_INT"],
    "discountAllowed": True,
    "timezone": "GMT",
}
#: The event type by market type, because no table has it: for types that only soccer or horse racing has.
_EVENT_TYPES = {
    **dict.fromkeys(("MATCH_ODDS_FT", "OVER_UNDER_25_FT", "NEXT_GOAL", "BOTH_TEAMS_TO_SCORE", "ASIAN_HANDICAP"), "1"),
    **dict.fromkeys(("WIN", "PLACE"), "7"),
}
#: Special Bets: nautilus_trader refuses numbers that are not an event type.
_UNKNOWN_EVENT_TYPE = "10"


def encoded(value: Any) -> str:
    """Return a value as JSON without spaces, as in Betfair's lines."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def unescaped(name: str) -> str:
    """Return a name without characters that JSON escapes: betfair_data refuses a definition with escaped text."""
    plain = name.replace('"', "'").replace("\\", "/")
    return "".join(letter if letter >= " " else " " for letter in plain)


def short_time(moment_us: int) -> str:
    """Return a time as Betfair writes it: 2026-02-05T12:10:54.031Z"""
    return value_text.time_text(moment_us // 1000 * 1000)[:-4] + "Z"


@dataclasses.dataclass(frozen=True)
class Known:
    """What an export has about a market besides its ticks: metadata, states, results. first_us: its first message."""

    market_id: str
    metadata: Mapping[str, Any]
    states: Sequence[State]
    results: Results
    first_us: int

    @property
    def event_type(self) -> str:
        """Betfair's number for the sport."""
        return self.metadata.get("eventTypeId") or _EVENT_TYPES.get(
            self.metadata.get("marketType") or "", _UNKNOWN_EVENT_TYPE
        )

    @property
    def start_us(self) -> int:
        """When the market starts."""
        text = self.metadata.get("marketStartTime")
        return value_text.parse_time(text) if text else self.first_us

    @property
    def defaulted(self) -> list[str]:
        """The keys of the definition that are defaults, sorted."""
        missing = {
            "eventTypeId": not self.metadata.get("eventTypeId"),
            "eventId": not self.metadata.get("eventId"),
            "marketType": not self.metadata.get("marketType"),
            "marketTime": not self.metadata.get("marketStartTime"),
            "openDate": True,
            "countryCode": True,
            "venue": True,
            "turnInPlayEnabled": not any(state.in_play for state in self.states),
            "inPlay": all(state.in_play is None for state in self.states),
            "status": all(state.status is None for state in self.states),
            "version": True,
            "runners.sortPriority": True,
        }
        defaults = set(DEFAULTS) - ({"numberOfWinners"} if self._winners else set())
        return sorted(defaults | {key for key, is_missing in missing.items() if is_missing})

    @property
    def _winners(self) -> int:
        return list(self.results.of.values()).count("WINNER")

    def changes(self) -> list[State]:
        """Return the states in the stream, in order, including a close that only the settlement knows.

        Without lifecycle rows a market is OPEN and not in play.
        """
        states = list(self.states) or [State(self.first_us, None, self.first_us, None, None)]
        settled_us = self.results.settled_us
        if settled_us is not None and not any(state.status == "CLOSED" for state in states):
            states.append(State(max(settled_us, states[-1].from_us + 1), None, 0, "CLOSED", states[-1].in_play))
        return states

    def definition(self, state: State, selection_ids: Sequence[int], version: int) -> dict[str, Any]:
        """Return the definition for a state. selection_ids: the runners, ascending."""
        names = {runner["selectionId"]: runner["runnerName"] for runner in self.metadata.get("runners", ())}
        is_closed = state.status == "CLOSED"
        results = self.results.of if is_closed else {}
        runners = []
        for number, selection_id in enumerate(selection_ids, 1):
            runner = {"status": results.get(selection_id, "ACTIVE"), "sortPriority": number, "id": selection_id}
            if names.get(selection_id):
                runner["name"] = unescaped(names[selection_id])
            runners.append(runner)
        start = short_time(self.start_us)
        result = dict(DEFAULTS) | {
            "numberOfWinners": self._winners or DEFAULTS["numberOfWinners"],
            "turnInPlayEnabled": any(state.in_play for state in self.states),
            "eventId": self.metadata.get("eventId") or "0",
            "eventTypeId": self.event_type,
            "marketType": unescaped(self.metadata.get("marketType") or "UNKNOWN"),
            "marketTime": start,
            "openDate": start,
            "suspendTime": start,
            "inPlay": bool(state.in_play),
            "status": state.status or "OPEN",
            "numberOfActiveRunners": sum(runner["status"] == "ACTIVE" for runner in runners),
            "runners": runners,
            "version": version,
        }
        if name := self.metadata.get("marketName"):
            result |= {"name": unescaped(name), "eventName": unescaped(name)}
        return result


class DefinitionFeed:
    """The definitions of a market in order of time. next_us: when the next one is due, None after the last."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._changes = known.changes()
        self._place = 0
        self._version = 0
        self._selection_ids = {runner["selectionId"] for runner in known.metadata.get("runners", ())}

    def next_us(self) -> int | None:
        """Return when the next definition is due."""
        return self._changes[self._place].from_us if self._place < len(self._changes) else None

    def clearings(self) -> list[int]:
        """Return when the next definitions are due that mean an empty book if no row is stored then: all except
        OPEN.
        """
        return [state.from_us for state in self._changes[self._place :] if _clears(state)]

    @property
    def clears(self) -> bool:
        """Whether the last definition means an empty book."""
        return _clears(self._changes[max(self._place - 1, 0)])

    def knows(self, selection_ids: Sequence[int]) -> bool:
        """Return whether the last definition had these runners; the next one has them."""
        known = self._selection_ids.issuperset(selection_ids)
        self._selection_ids.update(selection_ids)
        return known

    def as_of(self, moment_us: int) -> str:
        """Return the definition at a time as JSON. Times must not decrease from call to call."""
        while self._place < len(self._changes) and self._changes[self._place].from_us <= moment_us:
            self._place += 1
        self._version += 1
        state = self._changes[max(self._place - 1, 0)]
        if self._place == 0:  # before the first state
            state = state._replace(status=None, in_play=None)
        return encoded(self._known.definition(state, sorted(self._selection_ids), self._version))


def _clears(state: State) -> bool:
    return state.status not in ("OPEN", None)
