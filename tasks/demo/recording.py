"""What to invent: how much, of how many markets, and when."""

import dataclasses
import datetime
from typing import Self

DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True)
class Recording:
    """An invented recording. Equal recordings have equal rows.

    Attributes: ticks: about so many ladder and traded rows together, half of each. markets: so many markets, those
    without ticks included. days: so many UTC days, from start on. start: when the recorder began; a UTC midnight.
    skew: the market of rank r has ticks in proportion to r ** -skew. levels: at most so many best prices a side.
    older_days: of so many first days the ladder rows are in the catch-all partition of what is older than daily
    ones. seed: another seed gives other rows. sums_of_sums: size_traded is as the platform stores it, a running sum of
    cumulative figures; otherwise the figures themselves, as version 0.1 invented them.
    """

    ticks: int
    markets: int
    days: int
    start: datetime.datetime = datetime.datetime(2026, 2, 3, tzinfo=datetime.UTC)
    skew: float = 1.8
    levels: int = 8
    older_days: int = 0
    seed: int = 1
    sums_of_sums: bool = True

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.start_ms % DAY_MS:
            raise ValueError(f"A recording starts at a UTC midnight, not at {self.start}")

    @classmethod
    def tiny(cls, seed: int = 1) -> Self:
        """Return a recording for tests: every peculiarity of the demo in a few thousand ticks."""
        return cls(ticks=6_000, markets=12, days=2, older_days=1, seed=seed)

    @classmethod
    def demo(cls) -> Self:
        """Return a recording to look at."""
        return cls(ticks=300_000, markets=60, days=3, skew=1.4, older_days=1)

    @classmethod
    def bench(cls, ticks: int = 20_000_000, markets: int = 200) -> Self:
        """Return a recording at tick rate: a few markets have most of the ticks, as in real ones."""
        return cls(ticks=ticks, markets=markets, days=5)

    @classmethod
    def many(cls, markets: int = 100_000) -> Self:
        """Return a month of markets with a few ticks each."""
        return cls(ticks=30 * markets, markets=markets, days=30, skew=0.5, levels=2)

    @property
    def start_ms(self) -> int:
        """start in milliseconds since 1970."""
        return int(self.start.timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        """The end, exclusive, in milliseconds since 1970. Every market has ended by then."""
        return self.start_ms + self.days * DAY_MS
