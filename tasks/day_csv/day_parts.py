"""A day in parts: spans of time that several hosts write side by side, and that one of them joins to the day's CSV.

All rows of a publish_time are in one part, and the CSV is sorted by publish_time first, so that the parts one after the
other are the lines that consolidate() writes.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.day_csv.consolidation import Consolidation, Lines, publish, write_rows
from tasks.day_csv.consolidation_report import Totals
from tasks.day_csv.export_source import ExportSource
from tasks.errors import DamagedFile
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile, replacing
from tasks.storage.file_identity import checksum_of
from tasks.storage.layout import Layout

_STEPS = 288  # a day is cut at multiples of 5 minutes
_COPY_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class Part:
    """A part that has been written: its file, and what is in it. read: the ticks read, by market."""

    path: Path
    size_bytes: int
    checksum: str
    totals: Totals
    read: npt.NDArray[np.int64]


def cut(rows: Mapping[str, IndexRow], span: Span, part_rows: int) -> list[Span]:
    """Return a span cut into spans of about part_rows ticks, estimated from the index alone."""
    edges = [span.lower_us + (span.upper_us - span.lower_us) * step // _STEPS for step in range(_STEPS + 1)]
    steps = [Span(*pair) for pair in itertools.pairwise(edges)]
    weights = np.zeros(_STEPS)
    for row in rows.values():
        if row.facts.first_tick is None or row.facts.last_tick is None:
            continue
        first = max(bisect.bisect_right(edges, row.facts.first_tick) - 1, 0)
        for number in range(first, _STEPS):
            share = steps[number].share(row.facts)
            if not share:
                break
            weights[number] += share * row.facts.tick_records
    count = max(1, round(weights.sum() / part_rows))
    ends = np.searchsorted(np.cumsum(weights), weights.sum() * np.arange(1, count) / count, side="right")
    cuts = sorted({edges[end] for end in ends.tolist()} - {span.lower_us, span.upper_us})
    return [Span(*pair) for pair in itertools.pairwise([span.lower_us, *cuts, span.upper_us])]


def write_part(
    layout: Layout, rows: Mapping[str, IndexRow], wanted: Consolidation, span: Span, path: Path, head: bytes = b""
) -> Part:
    """Write the lines of a span of a day into a file of their own; wanted: the whole day; head: what stands before.

    The file appears whole, and written twice it has the same bytes. Raises as consolidate does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ExportSource(layout, rows, span)
    with replacing(path) as file:
        file.write(head)
        totals = write_rows(dataclasses.replace(wanted, csv=path, span=span), source, file)
        source.reconcile()
    return Part(path, file.size_bytes, file.checksum, totals, source.read)


def join(layout: Layout, rows: Mapping[str, IndexRow], wanted: Consolidation, parts: Sequence[Part]) -> Totals:
    """Write the CSV of a day, and its report, from its parts in order. Raises as consolidate does.

    The parts stay, because this can be called again: by a copy of the task, or because the answer got lost.
    """
    source = ExportSource(layout, rows, wanted.span)
    sum_of_parts, source.read = sums(parts, len(rows))

    def write(lines: Lines, csv: NewFile) -> Totals:
        source.verify()
        for part in parts:
            _append(part, lines)
        return sum_of_parts

    return publish(wanted, source, write)


def sums(parts: Sequence[Part], markets: int) -> tuple[Totals, npt.NDArray[np.int64]]:
    """Return the totals of a day in parts, and the ticks read of each of so many markets."""
    totals, read = Totals(np.zeros(markets, np.int64)), np.zeros(markets, np.int64)
    for part in parts:
        totals.add(part.totals)
        read += part.read
    return totals, read


def among(part: Part, market_ids: Sequence[str], all_ids: Sequence[str]) -> Part:
    """Return a part that was made of some markets of its day as one of all of them."""
    numbers = {market_id: number for number, market_id in enumerate(all_ids)}
    where = np.array([numbers[market_id] for market_id in market_ids], np.int64)
    rows, read = np.zeros(len(all_ids), np.int64), np.zeros(len(all_ids), np.int64)
    rows[where], read[where] = part.totals.market_rows, part.read
    return dataclasses.replace(part, totals=dataclasses.replace(part.totals, market_rows=rows), read=read)


def _append(part: Part, lines: Lines) -> None:
    with open(part.path, "rb") as file:
        while piece := file.read(_COPY_BYTES):
            lines.write(piece)
        file.seek(0)
        if checksum_of(file) != part.checksum:
            raise DamagedFile(f"{part.path}: not as it was written. The disk may be faulty. Start again.")
