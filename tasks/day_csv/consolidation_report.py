"""consolidation_report.txt: what a consolidated CSV holds, and what it was made from, so that a later run can tell what
has changed.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.errors import NewerVersion
from tasks.export_directory import report_version
from tasks.market_files.time_span import Span
from tasks.storage.file_identity import file_checksum
from tasks.ticks.value_text import parse_time, time_text

PARTIAL = "PARTIAL DAY"
_INPUTS = "Inputs (market_id, rows written, SHA-256 of the market file, SHA-256 of the metadata file):"


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """What a market's rows were made from: the SHA-256 of its market file and of its metadata file, "-" for none."""

    data: str
    metadata: str


@dataclasses.dataclass(frozen=True, slots=True)
class Csv:
    """A CSV: name, size, when it was written (µs since 1970), SHA-256."""

    name: str
    size_bytes: int
    modified_us: int
    checksum: str

    def __str__(self) -> str:
        return f"{self.name}, {self.size_bytes} bytes, written {time_text(self.modified_us)}, SHA-256 {self.checksum}"

    @staticmethod
    def parse(text: str) -> "Csv":
        """Return the CSV in a line of a report. Raises ValueError if it is not such a line."""
        name, size, written, checksum = text.split(", ")
        return Csv(
            name,
            int(size.removesuffix(" bytes")),
            parse_time(written.removeprefix("written ")),
            checksum.removeprefix("SHA-256 "),
        )

    def is_in(self, directory: Path) -> bool:
        """Return whether it is in a directory. It is read only if its modification time differs, as after unpacking an
        archive.
        """
        try:
            stat = os.stat(directory / self.name)
        except FileNotFoundError:
            return False
        if stat.st_size != self.size_bytes:
            return False
        if stat.st_mtime_ns // 1000 == self.modified_us:
            return True
        return file_checksum(directory / self.name) == self.checksum


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """The content of a report: its CSV, what it was made from by market, and the month files."""

    file: Csv
    inputs: Mapping[str, Inputs]
    parts: Sequence[Csv] = ()
    partial: bool = False

    @property
    def files(self) -> list[Csv]:
        """The CSV and its months."""
        return [self.file, *self.parts]


@dataclasses.dataclass
class Totals:
    """The totals. market_rows: the rows written for each market; first_us, last_us: the range of publish_time."""

    market_rows: npt.NDArray[np.int64]
    slices: int = 0
    rows: int = 0
    duplicates: int = 0
    not_finite: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def add(self, later: "Totals") -> None:
        """Add the totals of rows that follow these."""
        self.market_rows[: len(later.market_rows)] += later.market_rows
        self.slices += later.slices
        self.rows += later.rows
        self.duplicates += later.duplicates
        self.not_finite += later.not_finite
        self.first_us = later.first_us if self.first_us is None else self.first_us
        self.last_us = self.last_us if later.last_us is None else later.last_us


def render(
    published: Published,
    totals: Totals,
    markets: int,
    day: str | None,
    span: Span,
    notes: Sequence[str],
    duration_s: float,
) -> str:
    """Return the report of a CSV. notes: its first lines."""
    read = totals.rows + totals.duplicates
    earliest, latest = ("none" if moment is None else time_text(moment) for moment in (totals.first_us, totals.last_us))
    lines = [
        *notes,
        *([f"UTC date: {day}", f"Markets included: {markets}"] if day else [f"Markets processed: {markets}"]),
        f"Total rows read{' (after date filter)' if day else ''}: {read}",
        f"Rows before dedupe: {read}",
        f"Duplicates removed: {totals.duplicates}",
        f"Rows written: {totals.rows}",
        f"Earliest publish_time: {earliest}",
        f"Latest publish_time: {latest}",
        f"File size: {published.file.size_bytes} bytes",
        f"Duration: {duration_s:.1f} s",
        f"Distinct market_id: {np.count_nonzero(totals.market_rows)}",
        f"Rows with NaN or Infinity: {totals.not_finite}",
        *(
            [f"Date validation: all rows in [{time_text(span.lower_us)}, {time_text(span.upper_us)})"]
            if day
            else [f"Reconciliation: rows read = {read} = sum of total_tick_records in index.csv"]
        ),
        report_version.LINE,
        "",
        f"File: {published.file}",
        *(f"Month: {part}" for part in published.parts),
    ]
    if published.inputs:
        lines += ["", _INPUTS]
        lines += [
            f"{market_id} {rows} {made_of.data} {made_of.metadata}"
            for (market_id, made_of), rows in zip(published.inputs.items(), totals.market_rows.tolist())
        ]
    return "\n".join(lines) + "\n"


def read(path: Path) -> Published | None:
    """Return the content of a report, None if there is none or it is not one that the pipeline writes.

    Raises NewerVersion.
    """
    try:
        return parse(path, path.read_bytes())
    except NewerVersion:
        raise
    except OSError:
        return None


def parse(path: Path, content: bytes) -> Published | None:
    """Return what is in a report's content, None if it is not one that the pipeline writes. Raises NewerVersion."""
    try:
        lines = content.decode().splitlines()
        report_version.require_known(path, lines)
        (file,) = (Csv.parse(line.removeprefix("File: ")) for line in lines if line.startswith("File: "))
        inputs = [line.split(" ") for line in lines[lines.index(_INPUTS) + 1 :]] if _INPUTS in lines else []
        return Published(
            file,
            inputs={market_id: Inputs(data, metadata) for market_id, _, data, metadata in inputs},
            parts=[Csv.parse(line.removeprefix("Month: ")) for line in lines if line.startswith("Month: ")],
            partial=any(line.startswith(PARTIAL) for line in lines),
        )
    except ValueError:
        return None


def is_in_place(published: Published, directory: Path) -> bool:
    """Return whether the CSV of a report is in a directory, with its months."""
    return all(file.is_in(directory) for file in published.files)
