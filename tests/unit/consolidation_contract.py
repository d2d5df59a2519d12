"""The contract of a consolidated CSV, written down a second time and slowly: what tests compare with."""

import csv
import io
import math

import numpy as np

from tasks.day_csv import flat_csv
from tasks.day_csv.flat_csv import describe
from tasks.ticks.tick_arrays import TRADED
from tasks.ticks.value_text import time_text
from tests.conftest import made_of

NAMES = [
    "Plain",
    "Smith, John",
    'The "Kid"',
    "two\nlines",
    "CR\rhere",
    "\r\n",
    "=1+1",
    "🐎 Émile",
    " padded ",
    "",
    None,
    "'",
    ";",
    "NULL",
]


MARKETS = ["1.10", "1.9", "1.900"]


METADATA = {
    "1.10": {
        "eventId": "30",
        "marketStatus": "CLOSED",
        "marketStartTime": "2026-02-05T12:00:00.000000Z",
        "marketType": "A,B",
        "runners": [{"selectionId": selection, "runnerName": name} for selection, name in enumerate(NAMES)],
    },
    "1.9": {"eventId": None, "marketStatus": None, "marketStartTime": None, "marketType": None, "runners": []},
    "1.900": None,
}


#: The columns that contract() knows. What is added to a tick later is tested in test_columns.py and test_new_column.py.
KNOWN = (
    "received_at",
    "publish_time",
    "market_id",
    "event_id",
    "selection_id",
    "side",
    "level",
    "price",
    "size",
    "traded_volume",
    "in_play",
    "change_type",
    "sequence",
    "record_type",
    "market_status",
    "market_start_time",
    "market_type",
    "runner_name",
)


class Parts:
    """Rows (market, publish, received, selection, side, level, price, size) as a source."""

    inputs = {}

    def __init__(self, rows, batch=3):
        kinds = [np.int64] * 6 + [np.float64] * 2
        rows = sorted(rows, key=lambda row: row[1])
        rows = [(*row[:5], 0 if row[4] == TRADED else row[5], *row[6:]) for row in rows]
        self._ticks = [
            made_of(*(np.array([row[n] for row in rows if row[0] == market], kind) for n, kind in enumerate(kinds)))
            for market in range(len(MARKETS))
        ]
        self._batch = batch
        self.market_ids = MARKETS
        self.markets = [describe(market_id, "fallback", METADATA[market_id]) for market_id in MARKETS]
        self.read = np.zeros(len(MARKETS), np.int64)
        self.expected_rows = [len(ticks) for ticks in self._ticks]

    def stream(self, market, batch_rows):
        ticks = self._ticks[market]
        for start in range(0, len(ticks), self._batch):
            part = ticks[start : start + self._batch]
            self.read[market] += len(part)
            yield part

    def together(self, markets):
        for market in reversed(markets):
            yield from self.stream(market, 0)

    def verify(self):
        pass

    def reconcile(self):
        pass


def number(value):
    """Order floats as PostgreSQL does: NaN above everything."""
    return (1, 0.0) if math.isnan(value) else (0, value)


def word(value):
    """Return a number as the shortest text, by Python's own digits."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def contract(rows):
    """Return the rows that the contract wants, as tuples of what CSV readers shall see."""
    prices = {}
    for market, publish, _, selection, side, _, price, _ in rows:
        if side == TRADED:
            prices.setdefault((market, publish, selection), set()).add(number(price))
    best = {}
    for row in rows:
        market, publish, received, selection, side, level, price, size = row
        level = -1 if side == TRADED else level
        sequence = sorted(prices[market, publish, selection]).index(number(price)) if side == TRADED else level
        key = (publish, market, selection, side, level, sequence)
        rank = (received, number(size), number(price))
        if key not in best or rank < best[key][0]:
            best[key] = (rank, row)
    result = []
    for (publish, market, selection, side, level, sequence), (_, (_, _, received, _, _, _, price, size)) in sorted(
        best.items()
    ):
        known = METADATA[MARKETS[market]] or {}
        names = {runner["selectionId"]: runner["runnerName"] for runner in known.get("runners", ())}
        traded = side == TRADED
        result.append(
            (
                time_text(received),
                time_text(publish),
                MARKETS[market],
                known.get("eventId") or "fallback",
                str(selection),
                "" if traded else ("BACK", "LAY")[side],
                "" if traded else str(level),
                word(price),
                word(size),
                word(size) if traded else "",
                "",
                "update",
                str(sequence),
                "traded" if traded else "ladder",
                known.get("marketStatus") or "",
                known.get("marketStartTime") or "",
                known.get("marketType") or "",
                names.get(selection) or "",
            )
        )
    return result


def parsed(content):
    """Return the rows of a CSV as the csv module reads them, numbers as numbers."""
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert tuple(header) == flat_csv.COLUMNS
    words, places = ("NaN", "Infinity", "-Infinity", ""), [header.index(name) for name in KNOWN]
    return [
        tuple(
            float(row[place]) if n in (7, 8, 9) and row[place] not in words else row[place]
            for n, place in enumerate(places)
        )
        for row in rows
    ]
