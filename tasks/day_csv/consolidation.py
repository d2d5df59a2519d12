"""Make one sorted CSV from a source of ticks: slices of time are sorted, de-duplicated and rendered in parallel."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.day_csv import consolidation_report, day_parquet, flat_csv
from tasks.day_csv.consolidation_report import Csv, Inputs, Published, Totals, render
from tasks.day_csv.flat_csv import Description
from tasks.day_csv.slices import Source, slices
from tasks.errors import RowsDoNotAddUp
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile, flush_all_to_disk, flush_directory, replacing
from tasks.storage.disk_space import require_room
from tasks.ticks.tick_arrays import Ticks

#: Rows of a slice: so many that the overhead per slice is negligible, and so few that they fit into the cache.
SLICE_ROWS = 150_000
_COPY_BYTES = 1 << 24


class Lines(Protocol):
    """What the lines of a CSV are written to."""

    def write(self, data: Any) -> int:
        """Append bytes or an Arrow buffer of whole lines; return how many bytes."""


class TickSource(Source, Protocol):
    """A source that knows its markets."""

    @property
    def market_ids(self) -> Sequence[str]:
        """The markets' ids, sorted."""

    @property
    def markets(self) -> Sequence[Description]:
        """The metadata of each market."""

    @property
    def read(self) -> npt.NDArray[np.int64]:
        """Ticks read of each market so far."""

    def verify(self) -> None:
        """Raise an ExportError if the source is not as it should be."""

    def reconcile(self) -> None:
        """Raise an ExportError if the rows that were read are not those that were promised."""

    @property
    def inputs(self) -> Mapping[str, Inputs]:
        """What each market's rows were made from."""


def _not_shown(rows: int) -> None:
    """Show nothing. (A lambda could not be sent to another process.)"""


@dataclasses.dataclass(frozen=True)
class Consolidation:
    """What to write: the ticks of a span as one CSV, with a report. notes: the first lines of the report.

    day: the UTC day as text, None for everything; part_bytes: if the CSV is larger, each month also gets a file of its
    own, named by part_path; progress: is called with the rows of every finished slice.
    """

    csv: Path
    report: Path
    span: Span
    day: str | None = None
    chunk_rows: int = 1_500_000
    notes: Sequence[str] = ()
    part_bytes: float | None = None
    part_path: Callable[[str], Path] = Path
    progress: Callable[[int], None] = _not_shown

    @property
    def edges(self) -> list[int]:
        """The times at which a slice has to end."""
        return [] if self.part_bytes is None else self.span.months()


@dataclasses.dataclass(frozen=True)
class _Slice:
    """A slice as text, with its counts."""

    lines: list[pa.Buffer]
    first_us: int
    last_us: int
    rows: int
    duplicates: int
    not_finite: int
    market_rows: npt.NDArray[np.int64]


def consolidate(wanted: Consolidation, source: TickSource) -> Totals:
    """Write CSV and report, and give them their names if the rows add up; return the totals.

    Raises ExportError, and publishes nothing, if the source is damaged, the rows do not add up or the disk is too
    small.
    """
    months: list[tuple[str, int]] = []

    def write(lines: Lines, csv: NewFile) -> Totals:
        source.verify()
        return write_rows(wanted, source, lines, lambda month: months.append((month, csv.size_bytes)))

    return publish(wanted, source, write, months)


def publish(
    wanted: Consolidation,
    source: TickSource,
    write: Callable[[Lines, NewFile], Totals],
    months: Sequence[tuple[str, int]] = (),
) -> Totals:
    """Write CSV and report, and give them their names if the rows add up; return the totals.

    write: writes the lines, after the header, and returns the totals. months: with the position at which each begins,
    known when the lines are written. Raises as consolidate does.
    """
    started_s = time.monotonic()
    consolidation_report.read(wanted.report)  # raises if a later version wrote it
    _require_room(wanted, sum(source.expected_rows))
    with NewFile(wanted.csv) as csv:
        with day_parquet.typed(csv) if day_parquet.is_parquet(csv.path) else contextlib.nullcontext(csv) as lines:
            lines.write(flat_csv.HEADER)
            totals = write(lines, csv)
        source.reconcile()
        require_sums(wanted, int(source.read.sum()), totals)
        whole = _finished(csv)
        parts = _parts(wanted, csv, months)
        try:
            published = Published(whole, dict(source.inputs), [_finished(part) for part in parts])
            text = render(
                published,
                totals,
                len(source.market_ids),
                wanted.day,
                wanted.span,
                wanted.notes,
                time.monotonic() - started_s,
            )
            flush_all_to_disk((*parts, csv))
            with replacing(wanted.report) as report:
                report.write(text.encode())
            for file in (*parts, csv):
                file.publish()
        finally:
            for part in parts:
                part.__exit__(None, None, None)
    flush_directory(wanted.csv.parent)
    return totals


def _finished(file: NewFile) -> Csv:
    stat = file.finish()
    return Csv(file.path.name, stat.st_size, stat.st_mtime_ns // 1000, file.checksum)


def _require_room(wanted: Consolidation, rows: float) -> None:
    estimate = rows * flat_csv.ROW_BYTES
    if wanted.part_bytes is not None and estimate > wanted.part_bytes:
        estimate *= 2
    require_room(wanted.csv, estimate)


def write_rows(
    wanted: Consolidation, source: TickSource, csv: Lines, begin_month: Callable[[str], None] = lambda month: None
) -> Totals:
    """Write all rows of a source; return the totals. begin_month: is called before the first row of each month."""
    totals = Totals(np.zeros(len(source.market_ids), np.int64))
    newest_month = ""
    workers = len(os.sched_getaffinity(0))
    rows = max(1, min(SLICE_ROWS, wanted.chunk_rows // (workers + 2)))
    waiting: collections.deque[concurrent.futures.Future[_Slice]] = collections.deque()

    def write(made: concurrent.futures.Future[_Slice]) -> _Slice:
        done = made.result()
        nonlocal newest_month
        month = str(np.datetime64(done.first_us, "us").astype("datetime64[M]"))
        if newest_month != month:
            newest_month = month
            begin_month(month)
        for lines in done.lines:
            csv.write(lines)
        done.lines.clear()
        return done

    def count_next() -> None:
        done = waiting.popleft().result()
        totals.add(
            Totals(done.market_rows, 1, done.rows, done.duplicates, done.not_finite, done.first_us, done.last_us)
        )
        wanted.progress(done.rows + done.duplicates)

    with (
        concurrent.futures.ThreadPoolExecutor(workers, "slice") as makers,
        concurrent.futures.ThreadPoolExecutor(1, "csv") as writer,
    ):
        for ticks in slices(source, rows, wanted.edges, wanted.csv.parent):
            waiting.append(writer.submit(write, makers.submit(_made, ticks, source.markets)))
            if len(waiting) > workers:
                count_next()
        while waiting:
            count_next()
    return totals


def _made(ticks: Ticks, markets: Sequence[Description]) -> _Slice:
    rows = flat_csv.consolidated(ticks)
    kept = rows.ticks
    return _Slice(
        lines=list(flat_csv.render(rows, markets)),
        first_us=int(kept.publish_time[0]),
        last_us=int(kept.publish_time[-1]),
        rows=len(kept),
        duplicates=len(ticks) - len(kept),
        not_finite=int(np.count_nonzero(~np.isfinite(kept.price) | ~np.isfinite(kept.size))),
        market_rows=np.bincount(kept.market),
    )


def require_sums(wanted: Consolidation, read: int, totals: Totals) -> None:
    """Raise RowsDoNotAddUp if not as many rows as were read are written or duplicates, or one is of another time."""
    if read != totals.rows + totals.duplicates:
        raise RowsDoNotAddUp(
            f"{wanted.csv.name}: {read} rows read, {totals.rows} written and {totals.duplicates} duplicates removed. "
            "This is a bug in the pipeline. Nothing was published."
        )
    for moment in (totals.first_us, totals.last_us):
        if moment is not None and not wanted.span.holds(moment):
            raise RowsDoNotAddUp(
                f"{wanted.csv.name}: a row lies outside the requested time. This is a bug in the pipeline. Nothing"
                " was published."
            )


def _parts(wanted: Consolidation, csv: NewFile, months: Sequence[tuple[str, int]]) -> list[NewFile]:
    """Copy each month out of a finished CSV that is large enough; return the files."""
    parts: list[NewFile] = []
    if wanted.part_bytes is None or csv.size_bytes <= wanted.part_bytes:
        return parts
    try:
        with open(csv.temporary, "rb") as whole:
            for (month, start), (_, end) in zip(months, [*months[1:], ("", csv.size_bytes)]):
                part = NewFile(wanted.part_path(month))
                parts.append(part)
                part.write(flat_csv.HEADER)
                whole.seek(start)
                while whole.tell() < end:
                    part.write(whole.read(min(_COPY_BYTES, end - whole.tell())))
    except BaseException:
        for part in parts:
            part.__exit__(None, None, None)
        raise
    return parts
