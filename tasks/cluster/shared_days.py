"""Days of an export in a folder that all machines of a cluster see under the same path."""

import dataclasses
import datetime
import functools
from collections.abc import Mapping

from tasks.cluster.day_jobs import Run
from tasks.day_csv import day_parquet, day_parts
from tasks.day_csv.consolidation import Consolidation, consolidate
from tasks.day_csv.consolidation_report import Totals
from tasks.day_csv.export_source import ExportSource
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import remove_leftovers
from tasks.storage.layout import Layout


def spans_of(rows: Mapping[str, IndexRow], wanted: Consolidation, part_rows: int) -> list[Span]:
    """Return the spans that a day is made in: the whole day, or parts of about so many ticks."""
    if day_parquet.is_parquet(wanted.csv):  # the parts of a Parquet file cannot be joined as they are
        return [wanted.span]
    return day_parts.cut(rows, wanted.span, part_rows)


@dataclasses.dataclass(frozen=True)
class SharedDay:
    """A day to make: its market files as the driver saw them in the index, and what is to be written.

    part_rows: if it has more ticks, it is cut by time into parts of about so many, for several executors.
    """

    layout: Layout
    date: datetime.date
    rows: Mapping[str, IndexRow]
    wanted: Consolidation
    part_rows: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.wanted.csv.name

    def make(self, run: Run) -> int:
        """Make the day by one job, or a large one by two: its parts, and what joins them."""
        spans = spans_of(self.rows, self.wanted, self.part_rows)
        if len(spans) == 1:
            (totals,) = run([functools.partial(_whole, self)])
        else:
            parts = run(
                [
                    functools.partial(
                        day_parts.write_part,
                        *(self.layout, self.rows, self.wanted, span, self.layout.day_part(self.date, number)),
                    )
                    for number, span in enumerate(spans)
                ]
            )
            (totals,) = run([functools.partial(day_parts.join, self.layout, self.rows, self.wanted, parts)])
            for part in parts:
                part.path.unlink(missing_ok=True)
        return int(totals.rows + totals.duplicates)


def remove_parts(layout: Layout) -> None:
    """Remove what executors left behind. None of them may work any more."""
    for directory in layout.directories:
        remove_leftovers(directory)
    if layout.day_parts_dir.is_dir():
        for path in layout.day_parts_dir.iterdir():
            path.unlink(missing_ok=True)
        layout.day_parts_dir.rmdir()


def _whole(day: SharedDay) -> Totals:
    return consolidate(day.wanted, ExportSource(day.layout, day.rows, day.wanted.span))
