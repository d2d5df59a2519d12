"""The plot of a market: a page that replays it, and a picture of it."""

import datetime
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.condition.market_condition import MarketCondition
from tasks.condition.reasons import REASONS
from tasks.errors import UsageError
from tasks.export_directory.metadata_json import Metadata
from tasks.reporting.page import asset, page
from tasks.reporting.replay import Replay, favourites, packed

#: How many runners the picture shows, and the page at first.
_SHOWN = 6
_COLOURS = (
    "#1f6fd0",
    "#d1495b",
    "#2a8c5a",
    "#b07d12",
    "#7a4fc0",
    "#168a9c",
    "#c45c1a",
    "#5b6b7b",
    "#a83e8e",
    "#6a8f1f",
)


class Market:
    """What a plot shows of a market besides its ticks.

    in_play: the spans in µs in which it was in play; condition: its condition with gaps.
    """

    def __init__(
        self, market_id: str, metadata: Metadata | None, in_play: Sequence[tuple[int, int]], condition: MarketCondition
    ) -> None:
        self.market_id, self.in_play, self.condition = market_id, in_play, condition
        self.about: dict[str, Any] = metadata or {}

    @property
    def title(self) -> str:
        """Name and id."""
        name = self.about.get("marketName")
        return f"{name} ({self.market_id})" if name else f"Market {self.market_id}"

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The gaps, µs."""
        return [
            (start, end) for found in self.condition.found if found.reason == "gap" for start, end, _ in found.intervals
        ]

    def names(self, replay: Replay) -> list[str]:
        """Return the name of each runner of a replay, or its selection id if it has none."""
        known = {runner["selectionId"]: runner["runnerName"] for runner in self.about.get("runners", ())}
        return [known.get(selection) or f"Runner {selection}" for selection in replay.selection_id.tolist()]


def render(market: Market, replay: Replay, made_of: str) -> bytes:
    """Return the page. made_of: identifies the ticks that it was made from."""
    about = market.about
    data = {
        "market": market.market_id,
        "type": about.get("marketType"),
        "event": about.get("eventId"),
        "start": about.get("marketStartTime"),
        "condition": str(market.condition.condition),
        "reasons": [[REASONS[found.reason].title, found.count, int(found.is_note)] for found in market.condition.found],
        "runners": [[selection, name] for selection, name in zip(replay.selection_id.tolist(), market.names(replay))],
        "order": list(favourites(replay)),
        "shown": _SHOWN,
        "in_play": [[start / 1000, end / 1000] for start, end in market.in_play],
        "gaps": [[start / 1000, end / 1000] for start, end in market.gaps],
        "replay": packed(replay),
    }
    body = asset("plot.body.html").replace("{name}", html.escape(market.title))
    return page(
        market.title,
        f"<!-- made of {made_of} -->\n{body}",
        data,
        ["uPlot.min.css", "page.css", "plot.css"],
        ["uPlot.iife.min.js", "page.js", "plot.js"],
    )


def made_of(head: bytes) -> str | None:
    """Return what a page was made from, given the part before its data; None if it is not a plot."""
    _, _, rest = head.partition(b"<!-- made of ")
    return rest[:64].decode("ascii", "replace") if rest else None


def require_pictures() -> None:
    """Raise UsageError if the library that draws pictures is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "PlotMarket draws its picture with matplotlib, which is not installed. Run pip install"
            " 'betfair-tick-export[plots]', or use ./run_pipeline.sh, which installs it."
        ) from None


def picture(market: Market, replay: Replay) -> bytes:
    """Return the picture as PNG: best back, best lay and traded price of the favourites, and the volume."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(12, 6.5), dpi=120, layout="constrained")
    prices, volumes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    times = replay.times.astype("datetime64[us]")
    names = market.names(replay)
    for colour, runner in zip(_COLOURS, list(favourites(replay))[:_SHOWN]):
        back, lay, traded = (
            np.where(column > 0, column, np.nan)
            for column in (replay.price[:, runner, 0, 0], replay.price[:, runner, 1, 0], replay.traded[:, runner])
        )
        prices.plot(times, back, color=colour, lw=1.1, label=names[runner], drawstyle="steps-post")
        prices.plot(times, lay, color=colour, lw=0.7, alpha=0.45, drawstyle="steps-post")
        prices.plot(times, traded, color=colour, lw=0, marker=".", ms=1.5, alpha=0.6)
        volumes.plot(times, replay.volume[:, runner], color=colour, lw=1.1)
    for axes in (prices, volumes):
        for start, end in market.in_play:
            axes.axvspan(*_moments(start, end), color="#1f6fd0", alpha=0.08, lw=0)
        for start, end in market.gaps:
            axes.axvspan(*_moments(start, end), facecolor="none", edgecolor="#d9482b", alpha=0.6, hatch="///", lw=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dfe3e8", lw=0.6)
    prices.set_yscale("log")
    prices.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    prices.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    prices.yaxis.set_minor_formatter(NullFormatter())
    volumes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    locator = AutoDateLocator()
    volumes.xaxis.set_major_locator(locator)
    volumes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=datetime.UTC))
    prices.set_title(f"{market.title}: best back, best lay (pale), traded (dots)", loc="left", fontsize=12)
    prices.set_ylabel("price")
    volumes.set_ylabel("traded volume")
    if names:
        prices.legend(loc="upper left", fontsize=9, frameon=False, ncols=3)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _moments(start_us: int, end_us: int) -> tuple[np.datetime64, np.datetime64]:
    return np.datetime64(start_us, "us"), np.datetime64(end_us, "us")
