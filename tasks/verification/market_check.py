"""Check one market file, row by row, against its row in the index and against the contract of a tick."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import DamagedFile
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files import formats, market_file
from tasks.market_files.decoding import decoding, require_regular
from tasks.market_files.file_facts import FileFacts, TickCounter
from tasks.storage.file_identity import checksum_of
from tasks.ticks import day_sums
from tasks.ticks.day_sums import DAY_US, NOTHING, Sums
from tasks.ticks.schema import FIRST_TIME_US, LAST_TIME_US, MAX_LEVEL, SCHEMA
from tasks.ticks.tick_arrays import TRADED, Ticks
from tasks.ticks.value_text import time_text
from tasks.verification.difference import Difference


@dataclasses.dataclass(frozen=True)
class Checked:
    """A market file that was read. day_rows: ticks per day; sums: by day and whether traded (days since 1970);
    repeated: how many rows have the key of another row.
    """

    differences: list[Difference]
    day_rows: dict[int, int]
    sums: dict[tuple[int, bool], Sums]
    repeated: int = 0


def check_market(path: Path, row: IndexRow, sums_until_us: int | None = None) -> Checked:
    """Read a market file and compare it with its row of the index, and its ticks with the contract.

    sums_until_us: add up the ticks up to this publish_time, for comparison with the database (None: do not).
    """
    found: list[Difference] = []
    day_rows: dict[int, int] = collections.Counter()
    totals: dict[tuple[int, bool], Sums] = {}
    counter, rows, text_hash = TickCounter(), _Rows(row), hashlib.sha256()
    try:
        require_regular(path)
        with open(path, "rb") as file:
            checksum = checksum_of(file)
            size_bytes = file.tell()
    except (OSError, DamagedFile) as error:
        return Checked([_unreadable(row, error)], {}, {})
    market_format, readable = formats.of(path), True
    try:
        with decoding(path):
            version = market_format.version(path)
            text_hash.update(market_format.head(version))
            for batch in _messages(path):
                ticks = Ticks.from_batch(batch)
                if not rows.differences:
                    rows.check(batch, ticks)
                if rows.in_order:
                    counter.add(ticks)
                if market_format.is_text and not rows.differences:
                    for lines in market_format.text(ticks, row.market_id, ticks.sequence(), version):
                        text_hash.update(lines)
                for day, count in zip(
                    *(values.tolist() for values in np.unique(ticks.publish_time // DAY_US, return_counts=True))
                ):
                    day_rows[day] += count
                if sums_until_us is not None and rows.in_order:
                    for day, traded, part in day_sums.by_day(
                        ticks[: np.searchsorted(ticks.publish_time, sums_until_us, "right")], version
                    ):
                        totals[day, traded] = totals.get((day, traded), NOTHING) + part
            found += [Difference(row.market_id, row.file_path, *flaw) for flaw in market_format.flaws(path)]
    except DamagedFile as error:
        readable = False
        found.append(
            Difference(row.market_id, row.file_path, "content", str(error).removeprefix(f"{path}: "), "a market file")
        )
    except OSError as error:
        return Checked([_unreadable(row, error)], {}, {})
    found += rows.differences
    whole = readable and rows.in_order
    found += _facts(row, counter.facts(size_bytes, checksum), whole)
    if market_format.is_text and readable and not found and text_hash.hexdigest() != checksum:
        found.append(
            Difference(
                row.market_id,
                row.file_path,
                "text of the lines",
                "another formatting of the same ticks",
                "the pipeline's",
            )
        )
    return Checked(found, dict(day_rows), totals if whole else {}, rows.repeated)


def _unreadable(row: IndexRow, error: OSError | DamagedFile) -> Difference:
    what = error.strerror if isinstance(error, OSError) else error
    return Difference(
        row.market_id, row.file_path, "content", f"cannot be read: {what}", "a file that can be read", _READ
    )


#: What to do about a file that the operating system does not let us read.
_READ = "Fix the cause (permissions, limits, the disk) and verify again; the file itself may be sound"


def _messages(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a market file in whole messages."""
    waiting: list[pa.RecordBatch] = []
    for batch in market_file.batches(path):
        for name in SCHEMA.names:
            if batch.column(name).null_count and not SCHEMA.field(name).nullable:
                raise DamagedFile(f"{path}: a row without {name}")
        if not len(batch):
            continue
        times = batch.column("publish_time").cast(pa.int64()).to_numpy()
        if waiting and waiting[-1].column("publish_time")[-1].value != times[0]:
            yield _joined(waiting)
            waiting = []
        cut = int(np.flatnonzero(times[1:] != times[:-1])[-1]) + 1 if times[0] != times[-1] else 0
        if cut:
            yield _joined([*waiting, batch[:cut]])
            waiting = []
        waiting.append(batch[cut:])
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]


class _Rows:
    """Compares rows with the rows that the pipeline would write for the same ticks."""

    def __init__(self, row: IndexRow) -> None:
        self.differences: list[Difference] = []
        self.in_order = True
        #: Rows with the key of the row before: only a source table without its primary key has them.
        self.repeated = 0
        self._row = row
        self._count = 0
        self._last_us: int | None = None

    def check(self, batch: pa.RecordBatch, ticks: Ticks) -> None:
        """Check the next rows, which are whole messages."""
        times = (ticks.publish_time, ticks.received_at)
        if any(int(values.min()) < FIRST_TIME_US or int(values.max()) > LAST_TIME_US for values in times):
            self._add("times", "one outside of the years 1 to 9999", "times that can be written")
            self.in_order = False
            return
        self._order(ticks)
        levels = ticks.level[ticks.side != TRADED]
        if len(levels) and not 0 <= int(levels.min()) <= int(levels.max()) <= MAX_LEVEL:
            self._add("level", f"{int(levels.min())} to {int(levels.max())}", f"0 to {MAX_LEVEL}")
        expected = ticks.to_table(self._row.market_id, ticks.sequence())
        for name in SCHEMA.names:
            if name == "sequence" and not self.in_order:
                continue
            self._column(name, batch.column(name), expected.column(name).combine_chunks())
        self._count += len(ticks)
        self._last_us = int(ticks.publish_time[-1])

    def _order(self, ticks: Ticks) -> None:
        steps = np.diff(ticks.keys())
        back = int(np.flatnonzero(steps < 0)[0]) + 1 if bool((steps < 0).any()) else None
        if self._last_us is not None and int(ticks.publish_time[0]) <= self._last_us:
            back = 0
        if back is not None:
            self.in_order = False
            self._add(
                "order",
                f"row {self._count + back} ({time_text(int(ticks.publish_time[back]))}) after a later one",
                "rows by publish_time, record_type, level, selection_id, side, price",
            )
        self.repeated += int(np.count_nonzero(steps == 0))

    def _column(self, name: str, found: pa.Array, expected: pa.Array) -> None:
        if pa.types.is_dictionary(found.type) or pa.types.is_dictionary(expected.type):
            found, expected = found.cast(pa.string()), expected.cast(pa.string())
        elif pa.types.is_floating(found.type):  # by their bits: NaN is as good as any
            if found.view(pa.int64()).equals(expected.view(pa.int64())):
                return
        if found.equals(expected):
            return
        same = pc.fill_null(pc.equal(found, expected), False)
        same = pc.or_(same, pc.and_(pc.is_null(found), pc.is_null(expected)))
        wrong = np.flatnonzero(~same.to_numpy(zero_copy_only=False))
        at = int(wrong[0])
        self._add(
            name, f"{_shown(found[at])} in row {self._count + at} and {len(wrong) - 1} more", _shown(expected[at])
        )

    def _add(self, what: str, found: object, expected: object) -> None:
        self.differences.append(Difference(self._row.market_id, self._row.file_path, what, found, expected))


def _shown(value: pa.Scalar) -> Any:
    if pa.types.is_timestamp(value.type):
        return time_text(value.value)
    return "null" if value.as_py() is None else value.as_py()


def _facts(row: IndexRow, found: FileFacts, whole: bool) -> Iterator[Difference]:
    """Yield where the index differs from a file. whole: whether all of it could be read, in order."""
    names = {"size_bytes": "file_size_bytes", "checksum": "checksum"}
    if whole:
        names |= {
            "tick_records": "total_tick_records",
            "messages": "total_messages",
            "first_tick": "first_tick_timestamp",
            "last_tick": "last_tick_timestamp",
        }
    for name, column in names.items():
        here, promised = getattr(found, name), getattr(row.facts, name)
        if here != promised:
            if name.endswith("_tick"):
                here, promised = ("none" if moment is None else time_text(moment) for moment in (here, promised))
            yield Difference(row.market_id, row.file_path, column, here, f"{promised} (index.csv)")
