"""report.html: what is in an export, whether it is complete, and a table of its markets."""

import contextlib
import html
from collections.abc import Collection, Mapping
from typing import Any

from tasks.condition.export_condition import ExportCondition, date_of, told
from tasks.condition.market_condition import MarketCondition
from tasks.condition.reasons import REASONS, Condition
from tasks.export_directory.index_csv import IndexRow
from tasks.reporting.page import asset, page
from tasks.statistics.tick_statistics import Statistics, latency_of_bin
from tasks.storage.layout import Layout

#: How many intervals of a reason the page shows; condition.json has more.
_INTERVALS = 4
#: Runner names can be searched, too, unless they have more characters than this in all.
_NAMES_BYTES = 1_500_000
_CHANGES = ("new", "refreshed", "unchanged", "kept though no longer in the database", "failed")


def render(layout: Layout, rows: Mapping[str, IndexRow], judged: ExportCondition, plotted: Collection[str]) -> bytes:
    """Return the page. plotted: the markets that have a plot."""
    data = {
        "schema_version": 1,  # raised by any change that could break a program that reads the data
        "name": layout.output_dir.name,
        "format": layout.format,
        "totals": _totals(rows),
        "changes": _changes(layout),
        "reasons": [[reason, one.title, one.text, one.share is None] for reason, one in REASONS.items()],
        "conditions": [str(condition) for condition in Condition],
        "days": _days(judged),
        "types": _hours_by_type(judged),
        "latency": _latency(judged.statistics),
        "markets": _markets(rows, judged, plotted),
    }
    title = f"{layout.output_dir.name}: tick export"
    body = asset("report.body.html").replace("{name}", html.escape(layout.output_dir.name))
    return page(
        title, body, data, ["uPlot.min.css", "page.css", "report.css"], ["uPlot.iife.min.js", "page.js", "report.js"]
    )


def _totals(rows: Mapping[str, IndexRow]) -> dict[str, Any]:
    facts = [row.facts for row in rows.values()]
    first = min((fact.first_tick for fact in facts if fact.first_tick is not None), default=None)
    last = max((fact.last_tick for fact in facts if fact.last_tick is not None), default=None)
    return {
        "markets": len(facts),
        "ticks": sum(fact.tick_records for fact in facts),
        "messages": sum(fact.messages for fact in facts),
        "bytes": sum(fact.size_bytes for fact in facts),
        "first": None if first is None else first // 1000,
        "last": None if last is None else last // 1000,
    }


def _changes(layout: Layout) -> list[list[Any]]:
    """Return what the last run that wrote did, according to the execution report."""
    found = []
    with contextlib.suppress(OSError):
        for line in layout.execution_report.read_text(encoding="utf-8").splitlines():
            name, _, value = line.removeprefix("Markets ").partition(": ")
            if line.startswith("Markets ") and name in _CHANGES and value.isdecimal():
                found.append([name, int(value)])
    return found


def _days(judged: ExportCondition) -> list[dict[str, Any]]:
    conditions = list(Condition)
    return [
        {
            "date": str(date_of(day.day)),
            "condition": conditions.index(day.condition),
            "ticks": day.ticks,
            "markets": day.markets,
            "told": told(judged, date_of(day.day)),
            "gaps": [
                [start // 1000, end // 1000]
                for found in day.found
                if found.reason == "gap"
                for start, end, _ in found.intervals
            ],
        }
        for day in judged.days
    ]


def _hours_by_type(judged: ExportCondition) -> list[list[Any]]:
    """Return what was recorded, first for all types together, then per market type, most ticks first: [type, {position
    in days: ticks in its 24 hours}].
    """
    position = {day.day: number for number, day in enumerate(judged.days)}
    hours: dict[str, dict[int, list[int]]] = {}
    for market_id, statistics in judged.statistics.items():
        for name in ("", _type(judged, market_id)):
            of_type = hours.setdefault(name, {})
            for hour, ticks, _ in statistics["hours"]:
                of_type.setdefault(position[hour // 24], [0] * 24)[hour % 24] += ticks
    total = {name: sum(map(sum, of_type.values())) for name, of_type in hours.items()}
    return [[name, hours[name]] for name in sorted(hours, key=lambda name: (name != "", -total[name], name))]


def _type(judged: ExportCondition, market_id: str) -> str:
    return (judged.metadata.get(market_id) or {}).get("marketType") or "(unknown)"


def _latency(statistics: Mapping[str, Statistics]) -> list[list[Any]]:
    """Return [hour since 1970, median, 95th percentile, maximum] of the latency in ms, for each hour with messages."""
    bins: dict[int, dict[int, int]] = {}
    for counted in statistics.values():
        for hour, width, count in counted["latency"]:
            of_hour = bins.setdefault(hour, {})
            of_hour[width] = of_hour.get(width, 0) + count
    return [[hour, *_percentiles(bins[hour])] for hour in sorted(bins)]


def _percentiles(of_hour: Mapping[int, int]) -> list[float]:
    total, seen, found = sum(of_hour.values()), 0, []
    shares = [0.5, 0.95, 1.0]
    for width in sorted(of_hour):
        seen += of_hour[width]
        while shares and seen >= shares[0] * total:
            found.append(round(latency_of_bin(width), 1))
            shares.pop(0)
    return found


def _markets(rows: Mapping[str, IndexRow], judged: ExportCondition, plotted: Collection[str]) -> dict[str, Any]:
    """Return the markets as one list per column, which takes half as much as a list of objects."""
    types = sorted({_type(judged, market_id) for market_id in rows})
    number = {name: position for position, name in enumerate(types)}
    conditions, reasons = list(Condition), list(REASONS)
    columns: dict[str, Any] = {
        name: []
        for name in (
            "id",
            "event",
            "name",
            "type",
            "start",
            "ticks",
            "messages",
            "first",
            "last",
            "condition",
            "reasons",
            "picture",
            "plot",
            "runners",
        )
    }
    characters = 0
    for market_id in sorted(rows):
        facts, about = rows[market_id].facts, judged.metadata.get(market_id) or {}
        market, statistics = judged.markets.get(market_id), judged.statistics.get(market_id)
        runners = " · ".join(runner["runnerName"] or "" for runner in about.get("runners", ()))
        characters += len(runners)
        for name, value in (
            ("id", market_id),
            ("event", rows[market_id].event_id),
            ("name", about.get("marketName") or ""),
            ("type", number[_type(judged, market_id)]),
            ("start", about.get("marketStartTime")),
            ("ticks", facts.tick_records),
            ("messages", facts.messages),
            ("first", None if facts.first_tick is None else facts.first_tick // 1000),
            ("last", None if facts.last_tick is None else facts.last_tick // 1000),
            ("condition", conditions.index(market.condition if market else Condition.MISSING)),
            ("reasons", _reasons(market, reasons) if market else []),
            ("picture", statistics["picture"] if statistics else ""),
            ("plot", int(market_id in plotted)),
            ("runners", runners if characters < _NAMES_BYTES else ""),
        ):
            columns[name].append(value)
    columns["types"] = types
    return columns


def _reasons(market: MarketCondition, reasons: list[str]) -> list[list[Any]]:
    """Return [position of the reason, count, whether it is a note, its first intervals in ms]."""
    return [
        [
            reasons.index(found.reason),
            found.count,
            int(found.is_note),
            [[start // 1000, end // 1000] for start, end, _ in found.intervals[:_INTERVALS]],
        ]
        for found in market.found
    ]
