"""Store the statistics of markets, so that an unchanged market is not read again.

An export adds them to the journal, one line per market; whoever needs them all collects the lines in one file. The
SHA-256 of the market file says which file they belong to. Losing them costs only the time to read market files again.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from backports import zstd

from tasks.errors import DamagedFile
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files import market_file
from tasks.statistics.tick_statistics import VERSION, Statistics, StatisticsCounter
from tasks.storage.atomic_files import process_name, replacing, without_following
from tasks.storage.layout import Layout
from tasks.ticks.tick_arrays import Ticks

_log = logging.getLogger("tick_export.statistics")

#: A market and the SHA-256 of its file.
Key = tuple[str, str]


class Gatherer:
    """Counts the ticks of a market file while it is written. No error here may stop the export."""

    def __init__(self, market_id: str, gathers: bool = True) -> None:
        self._market_id = market_id
        self._counter = StatisticsCounter() if gathers else None

    def add(self, ticks: Ticks) -> None:
        """Count ticks."""
        if self._counter is None:
            return
        try:
            self._counter.add(ticks)
        except Exception as error:  # a report then reads the market file instead, and reports the error
            self._forget(error)

    def keep(self, layout: Layout, checksum: str) -> None:
        """Add the statistics to the journal. checksum: SHA-256 of the market file that was written."""
        if self._counter is None:
            return
        try:
            _append(layout.journal_dir, self._market_id, checksum, self._counter.statistics())
        except Exception as error:  # such as a full disk: writing the market file fails too, and reports it
            self._forget(error)

    def _forget(self, error: Exception) -> None:
        self._counter = None
        _log.debug("Market %s: statistics are left out: %r", self._market_id, error)


def load(
    layout: Layout,
    rows: Mapping[str, IndexRow],
    progress: Callable[[int, int], None] = lambda markets, ticks: None,
    save: bool = True,
) -> tuple[dict[str, Statistics], dict[str, str]]:
    """Return the statistics of the market files that an index lists, and why others could not be read.

    A file is read only if it has changed since its statistics were gathered. save: rows are all that the index lists:
    add new statistics to the one file; otherwise add them to the journal.
    """
    kept, are_saved = _kept(layout, {(row.market_id, row.facts.checksum) for row in rows.values()})
    found: dict[str, Statistics] = {}
    failed: dict[str, str] = {}
    for market_id, row in rows.items():
        statistics = kept.get((market_id, row.facts.checksum))
        if statistics is None:
            try:
                statistics = read(layout.market_file(market_id))
            except (DamagedFile, OSError) as error:
                failed[market_id] = str(error)
                continue
            are_saved = False
            if not save:
                with contextlib.suppress(OSError):  # losing them costs only time
                    _append(layout.journal_dir, market_id, row.facts.checksum, statistics)
            progress(0, row.facts.tick_records)
        found[market_id] = statistics
        progress(1, 0)
    if save and not are_saved:
        _save(layout, {(market_id, rows[market_id].facts.checksum): found[market_id] for market_id in sorted(found)})
    return found, failed


def read(path: Path) -> Statistics:
    """Return the statistics of a market file, by reading it. Raises DamagedFile and OSError."""
    counter = StatisticsCounter()
    for ticks in _whole_messages(market_file.read(path)):
        counter.add(ticks)
    return counter.statistics()


def _whole_messages(batches: Iterable[Ticks]) -> Iterator[Ticks]:
    """Yield ticks cut between publish times only."""
    left = Ticks.empty()
    for batch in batches:
        ticks = Ticks.concatenate([left, batch])
        if not len(ticks):
            continue
        cut = int(np.searchsorted(ticks.publish_time, ticks.publish_time[-1]))
        yield ticks[:cut]
        left = ticks[cut:]
    yield left


def _append(directory: Path, market_id: str, checksum: str, statistics: Statistics) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"statistics.{process_name()}.jsonl"
    with open(path, "a", encoding="utf-8", opener=without_following) as file:
        file.write(_line(market_id, checksum, statistics))


def _line(market_id: str, checksum: str, statistics: Statistics) -> str:
    return json.dumps([market_id, checksum, statistics], separators=(",", ":")) + "\n"


def _kept(layout: Layout, wanted: Collection[Key]) -> tuple[dict[Key, Statistics], bool]:
    """Return the stored statistics among those requested, and whether the one file has exactly these."""
    kept: dict[Key, Statistics] = {}
    lines = 0
    with contextlib.suppress(OSError, zstd.ZstdError, UnicodeDecodeError):  # missing or damaged: it is rebuilt
        text = zstd.decompress(layout.statistics.read_bytes()).decode()
        lines = text.count("\n")
        kept |= _parsed(text.splitlines(), wanted)
    are_saved = lines == len(kept) == len(wanted)
    for path in layout.journal_dir.glob("statistics.*.jsonl"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            new = _parsed(file, wanted)
            are_saved = are_saved and new.keys() <= kept.keys()
            kept |= new
    return kept, are_saved


def _parsed(lines: Iterable[str], wanted: Collection[Key]) -> dict[Key, Statistics]:
    found = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError):  # the unfinished last line of a killed process
            market_id, checksum, statistics = json.loads(line)
            if statistics["version"] == VERSION and (market_id, checksum) in wanted:
                found[market_id, checksum] = statistics
    return found


def _save(layout: Layout, kept: Mapping[Key, Statistics]) -> None:
    layout.journal_dir.mkdir(parents=True, exist_ok=True)
    collected = list(layout.journal_dir.glob("statistics.*.jsonl"))
    with replacing(layout.statistics) as file:
        file.write(zstd.compress("".join(_line(*key, statistics) for key, statistics in kept.items()).encode(), 3))
    for path in collected:
        path.unlink(missing_ok=True)
