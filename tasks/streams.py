"""BuildStreams and BuildStream: markets in Betfair's historic format."""

import abc
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import luigi

from tasks.day_csv import export_source
from tasks.errors import DamagedFile
from tasks.export_directory import index_csv
from tasks.export_directory.index_csv import Index
from tasks.states import BuildStates
from tasks.stream_files import stream_file
from tasks.ticks.value_text import counted
from tasks.whole_export import WholeExportTask
from tasks.workflow import run_context
from tasks.workflow.exit_codes import EXIT_USAGE, determining, stop
from tasks.workflow.parameters import MarketIdParameter
from tasks.workflow.plan import Plan
from tasks.workflow.progress import PartProgress

_log = logging.getLogger("tick_export.streams")

#: So many of the largest markets get a task of their own; the others are written in so many groups.
_LARGE = 4
_GROUPS = 4


class FromMarketFiles(WholeExportTask):
    """Makes something of the market files and what is beside them, brought up to date first unless offline."""

    def requires(self) -> Any:
        """Return index, metadata and states, and with them the exports that are missing."""
        return [] if self.takes_files_alone else [*super().requires(), self.clone(BuildStates)]

    def is_ready(self) -> bool:
        """Return whether what this is made of was up to date when the run began."""
        return self.offline or run_context.current().once(_is_ready, self.plan, *self.requires())

    def index(self) -> Index:
        """Return the index as it is now."""
        with determining():
            return export_source.indexed(self.layout) if self.offline else index_csv.read(self.layout.index)


class WriteStreams(FromMarketFiles):
    """Writes the streams of some markets."""

    @property
    def result(self) -> Path:
        """Where the streams are."""
        return self.layout.streams_dir

    @abc.abstractmethod
    def market_ids(self) -> tuple[str, ...]:
        """Return the markets, the largest first."""

    def complete(self) -> bool:
        """Return whether every stream is made of what there is now."""
        index = self.index()
        with determining():
            return all(
                market_id not in index or stream_file.is_current(self.layout, index[market_id])
                for market_id in self.market_ids()
            )

    def write(self, market_ids: tuple[str, ...]) -> dict[str, str]:
        """Write the streams that are not as they should be; return the markets whose file is damaged."""
        index, layout = self.index(), self.layout
        rows = [index[market_id] for market_id in market_ids if market_id in index]
        rows = [row for row in rows if row.facts.tick_records and not stream_file.is_current(layout, row)]
        progress = PartProgress("stream", "written", len(rows), sum(row.facts.tick_records for row in rows))
        failed = {}
        for row in rows:
            try:
                stream_file.write(layout, row)
            except (DamagedFile, OSError) as error:
                failed[row.market_id] = str(error)
            progress.count(1, row.facts.tick_records)
            self.say(progress.text, progress.percent)
        self.say_done(f"{len(rows) - len(failed):,} streams written")
        return failed


class BuildStream(WriteStreams):
    """Write the stream of one market, streams/<id>.bz2 in Betfair's historic format, and its catalogue."""

    writes = "streams/<id>.bz2, streams/<id>.json"
    examples = ("--market-id 1.200806927",)

    market_id = MarketIdParameter(description="Betfair market id, such as 1.200806927")

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        row = self.index().get(self.market_id)
        if row is not None and not row.facts.tick_records:
            return f"market {self.market_id} has no ticks, so it has no stream"
        return f"{self.layout.stream_file(self.market_id)} is up to date with the market file"

    def market_ids(self) -> tuple[str, ...]:
        """Return the one market."""
        return (self.market_id,)

    def complete(self) -> bool:
        """Return whether the stream is there, made of what there is now. Stops if there is no such market."""
        if not self.is_ready():
            return False
        index = self.index()
        if self.market_id not in index:
            stop(
                f"Market {self.market_id} is not in {self.layout.index}. Check --market-id; ExportMarket exports a"
                " market that the database has.",
                EXIT_USAGE,
            )
        return not index[self.market_id].facts.tick_records or super().complete()

    def work(self) -> Mapping[str, str]:
        """Write the stream."""
        if self.market_id not in self.index():
            stop(f"Market {self.market_id} is not in {self.layout.index}. Check --market-id.", EXIT_USAGE)
        return self.write(self.market_ids())


class WriteSomeStreams(WriteStreams):
    """Write the streams of a part of the markets: a large one, or many small ones."""

    number = luigi.IntParameter(description="number of the part")

    @property
    def priority(self) -> int:  # type: ignore[override]  # a property by Luigi's documentation
        """Large markets first, so that the last one does not run alone."""
        return 1_000 - int(self.number)

    def market_ids(self) -> tuple[str, ...]:
        """Return the markets of this part."""
        return _parts(self.index())[self.number]

    def complete(self) -> bool:
        """Return whether every stream of the part is made of what there is now."""
        return self.is_ready() and super().complete()

    def work(self) -> Mapping[str, str]:
        """Write them; return the markets whose file is damaged."""
        return self.write(self.market_ids())


class BuildStreams(FromMarketFiles):
    """Write the stream of every market, streams/<id>.bz2 in Betfair's historic format, and its catalogue."""

    writes = "streams/<id>.bz2, streams/<id>.json"
    examples = ("--workers 2", "--offline --output-dir their_export")

    def requires(self) -> Any:
        """Return the parts."""
        return [self.clone(WriteSomeStreams, number=number) for number in range(_LARGE + _GROUPS)]

    @property
    def result(self) -> Path:
        """Where the streams are."""
        return self.layout.streams_dir

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"all streams in {self.layout.streams_dir} are up to date with the market files"

    def complete(self) -> bool:
        """Return whether every stream is made of what there is now."""
        return all(task.complete() for task in self.requires())

    def work(self) -> Mapping[str, str]:
        """Say what there is; return the markets that could not be exported."""
        count = sum(1 for row in self.index().values() if row.facts.tick_records)
        text = f"{counted(count, 'stream')} in {self.layout.streams_dir}"
        self.say_done(text, _log)
        return self.failures()


def _is_ready(plan: Callable[[], Plan], *tasks: luigi.Task) -> bool:
    return not plan().any_failed() and all(task.complete() for task in tasks)


def _parts(index: Index) -> list[tuple[str, ...]]:
    """Return the markets with ticks: the largest one by one, then the others in groups of about as many ticks."""
    ticks = {market_id: row.facts.tick_records for market_id, row in index.items() if row.facts.tick_records}
    order = sorted(ticks, key=lambda market_id: (-ticks[market_id], market_id))
    large, small = order[:_LARGE], order[_LARGE:]
    return [tuple(large[number : number + 1]) for number in range(_LARGE)] + [
        tuple(small[number::_GROUPS]) for number in range(_GROUPS)
    ]
