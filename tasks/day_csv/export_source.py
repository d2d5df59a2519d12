"""The ticks in the market files of an export, as listed in its index."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.day_csv import flat_csv
from tasks.day_csv.consolidation_report import Inputs
from tasks.day_csv.flat_csv import Description
from tasks.errors import DamagedFile, NotAnExport, UnreadableIndex
from tasks.export_directory import index_csv, metadata_json
from tasks.export_directory.directory_scan import list_files
from tasks.export_directory.index_csv import Index, IndexRow
from tasks.market_files import formats, market_file
from tasks.market_files.time_span import Span
from tasks.storage.file_identity import FileStat, file_checksum
from tasks.storage.file_names import market_file_name
from tasks.storage.layout import Layout
from tasks.ticks.tick_arrays import Ticks

_SMALL_BATCH_ROWS = 131_072


def metadata_checksum(layout: Layout, market_id: str) -> str:
    """Return the SHA-256 of a market's metadata file, "-" if there is none."""
    try:
        return file_checksum(layout.metadata_file(market_id))
    except FileNotFoundError:
        return "-"


def as_it_lies(layout: Layout) -> Layout:
    """Return the layout in the format that the market files have; unchanged if there are none."""
    with contextlib.suppress(FileNotFoundError), os.scandir(layout.markets_dir) as entries:
        for entry in entries:
            name = market_file_name(entry.name)
            if name is not None and name.format in formats.NAMES:
                return dataclasses.replace(layout, format=name.format)
    return layout


def require_export(layout: Layout) -> None:
    """Raise NotAnExport if the output directory has neither an index nor market files."""
    if not layout.index.exists() and not layout.markets_dir.exists():
        raise NotAnExport(f"{layout.output_dir} is not an export: it has no index.csv. Check --output-dir.")


def indexed(layout: Layout) -> Index:
    """Return the rows of index.csv. Raises NotAnExport if there is none or it cannot be read."""
    if not layout.index.exists():
        raise NotAnExport(f"{layout.output_dir} is not an export: it has no index.csv. Check --output-dir.")
    try:
        return index_csv.read(layout.index)
    except UnreadableIndex as error:
        raise NotAnExport(f"{error}. Rebuild the index: BuildIndex --offline.") from None


def inputs(layout: Layout, rows: Iterable[IndexRow]) -> dict[str, Inputs]:
    """Return the current inputs for the rows of markets."""
    return {row.market_id: Inputs(row.facts.checksum, metadata_checksum(layout, row.market_id)) for row in rows}


def are_of_now(layout: Layout, rows: Mapping[str, IndexRow], made_of: Mapping[str, Inputs]) -> bool:
    """Return whether a consolidation was made from the current files of its markets."""
    return made_of == inputs(layout, (rows[market_id] for market_id in made_of if market_id in rows))


def with_ticks(
    layout: Layout, rows: Mapping[str, IndexRow], wanted: Span, known: Collection[str] = ()
) -> dict[str, IndexRow]:
    """Return the rows of an index, sorted by market id, whose market file has ticks in a span.

    A file is opened only if the index does not decide it (undecided()) and it is not known. known: markets that have
    ticks in the span.
    """
    to_open = set(undecided(rows, wanted)) - set(known)
    return {
        market_id: rows[market_id]
        for market_id in sorted(rows)
        if wanted.share(rows[market_id].facts)
        and (
            market_id not in to_open
            or next(market_file.read_span(layout.market_file(market_id), 0, wanted, _SMALL_BATCH_ROWS), None)
            is not None
        )
    }


def undecided(rows: Mapping[str, IndexRow], wanted: Span) -> list[str]:
    """Return the markets whose ticks begin before a span and end after it: the index does not say whether any are in
    it.
    """
    return [
        market_id
        for market_id, row in rows.items()
        if wanted.share(row.facts)
        and not any(tick is not None and wanted.holds(tick) for tick in (row.facts.first_tick, row.facts.last_tick))
    ]


def require_counts(paths: Iterable[object], rows: Iterable[IndexRow], span: Span, read: Iterable[int]) -> None:
    """Raise DamagedFile if a market whose ticks are all in a span had more or fewer than the index says.

    paths: of the market files; read: how many ticks of each were read.
    """
    for path, row, count in zip(paths, rows, read):
        if span.share(row.facts) == 1 and count != row.facts.tick_records:
            raise DamagedFile(
                f"{path}: has {count} ticks, index.csv says {row.facts.tick_records}. Run ExportAll with the database."
            )


def refuse_unindexed(layout: Layout, rows: Mapping[str, IndexRow]) -> None:
    """Raise NotAnExport if index.csv and the market files in the directory do not have the same markets."""
    present = list_files(layout).keys()
    for market_ids, problem in (
        (present - rows.keys(), "is there, but not in index.csv"),
        (rows.keys() - present, "is missing, but in index.csv"),
    ):
        if market_ids:
            name = layout.file_path(min(market_ids))
            raise NotAnExport(
                f"{layout.output_dir}: {name} {problem} ({len(market_ids)} such files). Restore what is missing, or"
                " rebuild the index: BuildIndex --offline."
            )


class ExportSource:
    """The ticks of a span in market files. rows: the markets' rows in the index, sorted by market id.

    read: the number of ticks read so far, by market.
    """

    def __init__(self, layout: Layout, rows: Mapping[str, IndexRow], wanted: Span) -> None:
        self._layout = layout
        self._rows = list(rows.values())
        self._span = wanted
        self._paths = [layout.market_file(row.market_id) for row in self._rows]
        self._stats = [_stat(path) for path in self._paths]
        self.read = np.zeros(len(self._rows), np.int64)
        self.market_ids = [row.market_id for row in self._rows]
        self.markets = [self._describe(row) for row in self._rows]

    @functools.cached_property
    def expected_rows(self) -> Sequence[float]:
        """About how many rows each market has."""
        return [market_file.estimate_rows(path, row.facts, self._span) for path, row in zip(self._paths, self._rows)]

    @property
    def inputs(self) -> dict[str, Inputs]:
        """What each market's rows are made from."""
        return inputs(self._layout, self._rows)

    def _describe(self, row: IndexRow) -> Description:
        path = self._layout.metadata_file(row.market_id)
        try:
            known = metadata_json.parse(path.read_bytes())
        except FileNotFoundError:
            return flat_csv.describe(row.market_id, row.event_id, None)
        if known is None:
            raise NotAnExport(f"{path}: not a metadata file of this pipeline. Delete it and run BuildMetadata.")
        return flat_csv.describe(row.market_id, row.event_id, known)

    def verify(self) -> None:
        """Raise DamagedFile if a market file is not the one that the index lists."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, row, checksum in zip(self._paths, self._rows, pool.map(file_checksum, self._paths)):
                if checksum != row.facts.checksum:
                    raise DamagedFile(
                        f"{path}: its SHA-256 is {checksum[:16]}…, index.csv says {row.facts.checksum[:16]}…. Restore"
                        " the file, or run ExportAll with the database to repair it."
                    )

    def stream(self, market: int, batch_rows: int) -> Iterator[Ticks]:
        """Yield the ticks of a market in ascending order of publish_time, about so many at once."""
        for ticks in market_file.read_span(self._paths[market], market, self._span, batch_rows):
            self.read[market] += len(ticks)
            yield ticks

    def together(self, markets: Sequence[int]) -> Iterator[Ticks]:
        """Yield all ticks of several markets, market by market."""
        for market in markets:
            yield from self.stream(market, _SMALL_BATCH_ROWS)

    def reconcile(self) -> None:
        """Raise DamagedFile if a market had more or fewer ticks than the index says, or its file has changed
        in the meantime.
        """
        for path, stat in zip(self._paths, self._stats):
            if not FileStat.of_path(path).is_same_file(stat):
                raise DamagedFile(f"{path}: another run has changed it in the meantime. Start again.")
        require_counts(self._paths, self._rows, self._span, self.read.tolist())


def _stat(path: Path) -> FileStat:
    try:
        return FileStat.of_path(path)
    except FileNotFoundError:
        raise DamagedFile(
            f"{path}: missing, but in index.csv. Restore the file, or delete index.csv and rebuild it with"
            " BuildIndex to leave its ticks out."
        ) from None
