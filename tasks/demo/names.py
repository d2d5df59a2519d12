"""The names of events, markets and runners: invented, sometimes missing, sometimes difficult in a CSV file."""

import pyarrow as pa

from tasks.demo.arrays import Ints
from tasks.demo.markets import MARKET_TYPES, MATCH_ODDS, NEXT_GOAL, OVER_UNDER, WIN, Markets
from tasks.demo.messages import timestamps

_TOWNS = (
    "Ashwell",
    'Brackenford "Old"',
    "Calderby",
    "Dunmere",
    "Eastwyke",
    "Fernleigh",
    "Gorsedale",
    "Hollin Moor, West",
    "Inverkeld",
    "Kestrel Bay",
    "Larkspur",
    "Mossgate",
    "Northwick",
    "Otterburn",
    "Pendle Hill",
    "Quarrington",
    "Rushmere",
    "São Vicente",
    "Thornaby",
    "Ullesthorpe",
    "Västerby",
    "Whitcombe",
    "Yarrowdale",
)
_CLUBS = ("Rovers", "United", "Athletic", "Town", "Albion", "City", "Wanderers")
_COLOURS = (
    "Amber",
    "Bold",
    "Copper",
    "Distant",
    "Early",
    "Frosted",
    "Golden",
    "Hidden",
    "Ivory",
    "Jolly",
    "Kind",
    "Lucky",
    "Midnight",
)
_THINGS = (
    "Anchor",
    "Bugle",
    "Comet",
    "Dancer",
    "Echo",
    "Feather",
    "Gale",
    "Harbour",
    "Island",
    "Jester",
    "Lantern",
    "Meadow",
    "Orchard",
)
#: Quotes, commas, signs that a spreadsheet takes for a formula, and letters beyond ASCII.
_HARD = (
    "Rock, Paper, Scissors",
    'The "Old" Firm',
    "O'Leary's Pride",
    "=SUM(A1:A9)",
    "🐎 Étoile du Nord",
    "+44 Calling",
    "Tab\tHunter",
)
_SEGMENTS = {"MATCH_ODDS_FT": "1X2_FT", "OVER_UNDER_25_FT": "OU_FT", "NEXT_GOAL": "NEXT_GOAL"}


def event_rows(markets: Markets, events: Ints) -> pa.Table:
    """Return the rows of public.events."""
    matches = [_teams(event) if not markets.events.is_race[event] else (None, None) for event in events.tolist()]
    return pa.table(
        {
            "event_id": pa.array([str(34_000_000 + event) for event in events.tolist()], pa.string()),
            "event_name": pa.array([_event_name(markets, event) for event in events.tolist()], pa.string()),
            "home_team": pa.array([home for home, _ in matches], pa.string()),
            "away_team": pa.array([away for _, away in matches], pa.string()),
            "open_date": timestamps(markets.events.start[events]),
        }
    )


def market_rows(markets: Markets, listed: Ints) -> pa.Table:
    """Return the rows of public.markets. A market bears the name of its event, as the recorder writes it."""
    types = [MARKET_TYPES[kind] for kind in markets.kind[listed]]
    return pa.table(
        {
            "market_id": markets.ids.take(listed),
            "event_id": pa.array([str(34_000_000 + event) for event in markets.event[listed].tolist()], pa.string()),
            "market_type": pa.array(types, pa.string()),
            "market_name": pa.array(
                [_event_name(markets, event) for event in markets.event[listed].tolist()], pa.string()
            ),
            "market_start_time": timestamps(markets.events.start[markets.event[listed]]),
            "segment": pa.array([_SEGMENTS.get(kind) for kind in types], pa.string()),
        }
    )


def runner_rows(markets: Markets, runners: Ints) -> pa.Table:
    """Return the rows of public.runners."""
    market = markets.runner_market[runners]
    number, event, kind = runners - markets.first_runner[market], markets.event[market], markets.kind[market]
    nameless = (event % 5 == 4) | (runners % 17 == 5)
    names = [
        None if missing else _runner_name(*which)
        for missing, *which in zip(nameless.tolist(), event.tolist(), kind.tolist(), number.tolist())
    ]
    return pa.table(
        {
            "market_id": markets.ids.take(market),
            "selection_id": markets.selection_id[runners],
            "runner_name": pa.array(names, pa.string()),
        }
    )


def _event_name(markets: Markets, event: int) -> str | None:
    if event % 6 == 3:
        return None
    if markets.events.is_race[event]:
        return f"{_TOWNS[event % len(_TOWNS)]} (GB) {_THINGS[event % len(_THINGS)]} Stakes"
    return " v ".join(_teams(event))


def _teams(event: int) -> tuple[str, str]:
    home, away = event * 5 % len(_TOWNS), (event * 5 + 1 + event % 11) % len(_TOWNS)
    return f"{_TOWNS[home]} {_CLUBS[event % len(_CLUBS)]}", f"{_TOWNS[away]} {_CLUBS[event // 3 % len(_CLUBS)]}"


def _runner_name(event: int, kind: int, number: int) -> str:
    if kind == OVER_UNDER:
        return ("Under 2.5 Goals", "Over 2.5 Goals")[number]
    if kind in (MATCH_ODDS, NEXT_GOAL):
        return (*_teams(event), "The Draw" if kind == MATCH_ODDS else "No Goal")[number]
    assert kind >= WIN
    if number % 2:
        return _HARD[(event + number // 2) % len(_HARD)]
    return (
        f"{number + 1}. {_COLOURS[(event * 3 + number) % len(_COLOURS)]} {_THINGS[(event + number * 5) % len(_THINGS)]}"
    )
