"""Days of a published export: executors fetch what they need, and send what they have made to where it came from."""

import contextlib
import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.cluster.day_jobs import Run
from tasks.cluster.shared_days import spans_of
from tasks.day_csv import consolidation_report, day_parts, export_source, flat_csv
from tasks.day_csv.consolidation import Consolidation, consolidate, require_sums
from tasks.day_csv.consolidation_report import Csv, Inputs, Published
from tasks.day_csv.day_parts import Part
from tasks.day_csv.export_source import ExportSource
from tasks.errors import DamagedFile
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files.time_span import Span
from tasks.publishing import retrieval
from tasks.publishing.manifest import Entry
from tasks.publishing.place import Piece, Place, Source, Stored, open_place
from tasks.publishing.transfers import AT_ONCE
from tasks.storage.layout import Layout


@dataclasses.dataclass(frozen=True)
class DayWork:
    """What an executor needs to make a day or a part of it. objects: the day's files, as in the manifest.

    wanted: what is to be written; of its paths only the names count.
    """

    address: str
    format: str
    rows: Mapping[str, IndexRow]
    objects: Mapping[str, Entry]
    wanted: Consolidation

    @property
    def inputs(self) -> dict[str, Inputs]:
        """What each market's rows are made from."""
        return inputs(self.rows, self.objects)


def inputs(rows: Mapping[str, IndexRow], objects: Mapping[str, Entry]) -> dict[str, Inputs]:
    """Return what the rows of markets are made from, according to index and manifest."""
    described = {market_id: objects.get(metadata_name(market_id)) for market_id in rows}
    return {
        market_id: Inputs(rows[market_id].facts.checksum, "-" if entry is None else entry.checksum)
        for market_id, entry in described.items()
    }


def metadata_name(market_id: str) -> str:
    """Return the name of the object with a market's metadata."""
    layout = Layout(Path())
    return layout.metadata_file(market_id).as_posix()


@dataclasses.dataclass(frozen=True)
class MadeDay:
    """A day whose file is in its place. report: what is to be written beside it."""

    csv: Csv
    stored: Stored
    report: bytes
    rows: int


@dataclasses.dataclass(frozen=True)
class PublishedDay:
    """A day to make. keep: is called with the day when its file is in its place."""

    work: DayWork
    place: Place
    part_rows: int
    keep: Callable[[MadeDay], None]

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.work.wanted.csv.name

    def make(self, run: Run) -> int:
        """Make the day by one job, or a large one by two: its parts, and what joins them."""
        started_s = time.monotonic()
        spans = spans_of(self.work.rows, self.work.wanted, self.part_rows)
        made = None
        while made is None:
            if len(spans) == 1:
                (made,) = run([functools.partial(whole, self.work)])
                break
            token = self.place.begin(self.name)
            parts = run(
                [functools.partial(part, self.work, span, token, number) for number, span in enumerate(spans, 1)]
            )
            sizes = [one.size_bytes for one, _ in parts]
            larger = together(spans, sizes, self.place.least_piece_bytes)
            if larger == spans:
                (made,) = run([functools.partial(joined, self.work, token, parts, time.monotonic() - started_s)])
            spans = larger
        self.keep(made)
        return int(made.rows)


def together(spans: Sequence[Span], sizes: Sequence[int], least: int) -> list[Span]:
    """Return spans joined so that each piece, but for the last one, has the least size, and none is empty."""
    joined_spans: list[Span] = []
    last = 0
    for number, (span, size) in enumerate(zip(spans, sizes)):
        if joined_spans and (last < max(least, 1) or not sum(sizes[number:])):
            joined_spans[-1] = Span(joined_spans[-1].lower_us, span.upper_us)
            last += size
        else:
            joined_spans.append(span)
            last = size
    return joined_spans


@contextlib.contextmanager
def _fetched(work: DayWork, rows: Mapping[str, IndexRow]) -> Iterator[tuple[Place, Layout]]:
    """Fetch the files of markets into a folder that is gone afterwards.

    The folder is one of Spark's own, if there is one: it is on the disk that the operator chose for such things, and
    goes with the application even if this process is killed.
    """
    place = open_place("--store", work.address, AT_ONCE)
    scratch = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]
    with tempfile.TemporaryDirectory(
        prefix="tick-export-day-", dir=scratch if os.path.isdir(scratch) else None
    ) as directory:
        layout = Layout(Path(directory), work.format)
        names = [name for one in rows for name in (layout.file_path(one), metadata_name(one)) if name in work.objects]
        retrieval.bring(place, work.objects, layout, names, lambda size_bytes: None)
        yield place, layout


def _wanted_in(layout: Layout, wanted: Consolidation) -> Consolidation:
    return dataclasses.replace(
        wanted, csv=layout.output_dir / wanted.csv.name, report=layout.output_dir / wanted.report.name
    )


def whole(work: DayWork) -> MadeDay:
    """Make a day. Raises as consolidate does, and StoreError."""
    with _fetched(work, work.rows) as (place, layout):
        wanted = _wanted_in(layout, work.wanted)
        totals = consolidate(wanted, ExportSource(layout, work.rows, wanted.span))
        report = wanted.report.read_bytes()
        published = consolidation_report.parse(wanted.report, report)
        if published is None:
            raise DamagedFile(f"{wanted.report}: cannot be read back. The disk may be faulty. Start again.")
        csv = published.file
        stored = place.send(csv.name, Source(wanted.csv, csv.size_bytes, csv.checksum))
        return MadeDay(csv, stored, report, totals.rows + totals.duplicates)


def part(work: DayWork, span: Span, token: str, number: int) -> tuple[Part, Piece]:
    """Make a part of a day and send it. number: of the part, from 1."""
    rows = {market_id: row for market_id, row in work.rows.items() if span.share(row.facts)}
    with _fetched(work, rows) as (place, layout):
        wanted = _wanted_in(layout, work.wanted)
        head = flat_csv.HEADER if number == 1 else b""
        made = day_parts.write_part(layout, rows, wanted, span, wanted.csv, head)
        source = Source(made.path, made.size_bytes, made.checksum)
        piece = place.add(wanted.csv.name, token, number, source) if made.size_bytes else Piece(0, made.checksum, "")
    return day_parts.among(made, list(rows), list(work.rows)), piece


def joined(work: DayWork, token: str, parts: Sequence[tuple[Part, Piece]], spent_s: float) -> MadeDay:
    """Make a day of its parts, which are in their place. Raises as consolidate does, and StoreError.

    spent_s: how long the parts took.
    """
    started_s = time.monotonic()
    wanted = work.wanted
    totals, read = day_parts.sums([made for made, _ in parts], len(work.rows))
    names = [f"{work.address}/{row.file_path}" for row in work.rows.values()]
    export_source.require_counts(names, work.rows.values(), wanted.span, read.tolist())
    require_sums(wanted, int(np.sum(read)), totals)
    place = open_place("--store", work.address, AT_ONCE)
    stored, checksum = place.join(wanted.csv.name, token, [piece for _, piece in parts])
    csv = Csv(wanted.csv.name, stored.size_bytes, time.time_ns() // 1000, checksum)
    text = consolidation_report.render(
        Published(csv, work.inputs),
        totals,
        len(work.rows),
        wanted.day,
        wanted.span,
        wanted.notes,
        spent_s + time.monotonic() - started_s,
    )
    return MadeDay(csv, stored, text.encode(), totals.rows + totals.duplicates)
