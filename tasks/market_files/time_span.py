"""A span of time, half open."""

import dataclasses
import datetime

from tasks.market_files.file_facts import FileFacts

DAY_US = 86_400_000_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True)
class Span:
    """Times from lower_us up to, but not including, upper_us, microseconds since 1970."""

    lower_us: int
    upper_us: int

    @staticmethod
    def of_day(date: datetime.date) -> "Span":
        """Return a UTC day."""
        start = datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC)
        return Span((start - _EPOCH) // _MICROSECOND, (start + datetime.timedelta(days=1) - _EPOCH) // _MICROSECOND)

    def holds(self, moment_us: int) -> bool:
        """Return whether a time is in the span."""
        return self.lower_us <= moment_us < self.upper_us

    def share(self, facts: FileFacts) -> float:
        """Estimate the share of a file's ticks that is in the span: 0 only if none can be, 1 only if all are."""
        if facts.first_tick is None or facts.last_tick is None:
            return 0.0
        first, end = max(self.lower_us, facts.first_tick), min(self.upper_us, facts.last_tick + 1)
        return max(end - first, 0) / (facts.last_tick + 1 - facts.first_tick)

    def months(self) -> list[int]:
        """Return the first moment of each month that begins within the span, without its start."""
        start, end = (_EPOCH + moment * _MICROSECOND for moment in (self.lower_us, self.upper_us - 1))
        numbers = range(start.year * 12 + start.month, end.year * 12 + end.month)
        return [
            (datetime.datetime(number // 12, number % 12 + 1, 1, tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
            for number in numbers
        ]
