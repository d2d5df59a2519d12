"""An export as a program reads it."""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.errors import NotAnExport, UsageError
from tasks.export_directory import index_csv, market_results, market_states, metadata_json
from tasks.export_directory.index_csv import Index
from tasks.market_files import market_file
from tasks.market_files.time_span import Span
from tasks.reader import books_as_of, reader_tables
from tasks.reader.books_as_of import Books
from tasks.storage.layout import Layout
from tasks.ticks import value_text
from tasks.ticks.schema import FIRST_TIME_US, LAST_TIME_US, SCHEMA
from tasks.ticks.snapshots import Slots, whole_messages
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

_BATCH_ROWS = 131_072
_ALWAYS = Span(FIRST_TIME_US, LAST_TIME_US)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def open_export(directory: str | Path) -> "Export":
    """Open an export by its output directory: your own, or one that somebody has sent you.

    Reads only index.csv. Raises NotAnExport if there is none, UnreadableIndex if it is not a valid index.
    """
    path = Path(directory).absolute()
    layout = Layout(path)
    if not layout.index.exists():
        raise NotAnExport(f"{path}: no {layout.index.name} here. Pass the output directory of an export.")
    index = index_csv.read(layout.index)
    suffix = next((row.file_path.rpartition(".")[2] for row in index.values()), layout.format)
    return Export(dataclasses.replace(layout, format=suffix), index)


class Export:
    """An export on this disk. Only its index is held in memory; files are read on demand.

    Arguments are aware datetimes; returned times are timestamps in microseconds, UTC. Ranges are half open: they
    include start, but not end. A market that is not in the index raises UsageError, a market file with wrong content
    DamagedFile, one that the system cannot read OSError.
    """

    def __init__(self, layout: Layout, index: Index) -> None:
        self.layout, self.index = layout, index

    @property
    def market_ids(self) -> list[str]:
        """The markets, sorted."""
        return sorted(self.index)

    def metadata(self, market_id: str) -> dict[str, Any]:
        """Return the metadata of a market as in its file, an empty dictionary if there is none."""
        self._require(market_id)
        try:
            return metadata_json.parse(self.layout.metadata_file(market_id).read_bytes()) or {}
        except FileNotFoundError:
            return {}

    def markets(self) -> pa.Table:
        """Return one row per market, sorted by market_id.

        Columns: market_id, event_id, market_name, market_type, market_start_time, status, settled_at, runners,
        first_tick, last_tick, ticks, messages, file_path. Null means unknown.
        """
        rows = []
        results = market_results.read(self.layout)
        for market_id in self.market_ids:
            row, known = self.index[market_id], self.metadata(market_id)
            start = known.get("marketStartTime")
            rows.append(
                (
                    market_id,
                    row.event_id or None,
                    known.get("marketName"),
                    known.get("marketType"),
                    value_text.parse_time(start) if start else None,
                    known.get("marketStatus"),
                    results.get(market_id, market_results.NOTHING).settled_us,
                    known.get("numberOfRunners"),
                    row.facts.first_tick,
                    row.facts.last_tick,
                    row.facts.tick_records,
                    row.facts.messages,
                    row.file_path,
                )
            )
        return reader_tables.to_table(rows, reader_tables.MARKETS)

    def runners(self, market_ids: Iterable[str] | None = None) -> pa.Table:
        """Return one row per runner of those markets (all if None): market_id, selection_id, runner_name, result.

        result: WINNER, LOSER or REMOVED; null if the market is not settled, or if the result is unknown.
        """
        results = market_results.read(self.layout)
        rows = [
            (
                market_id,
                runner["selectionId"],
                runner["runnerName"],
                results.get(market_id, market_results.NOTHING).of.get(runner["selectionId"]),
            )
            for market_id in sorted(self.market_ids if market_ids is None else market_ids)
            for runner in self.metadata(market_id).get("runners", ())
        ]
        return reader_tables.to_table(rows, reader_tables.RUNNERS)

    def states(self, market_id: str) -> pa.Table:
        """Return status and in-play of a market over time, one row per interval, as BuildStates writes them; no rows if
        there is no such file.
        """
        self._require(market_id)
        try:
            return market_states.read_table(self.layout.states_file(market_id))
        except FileNotFoundError:
            return market_states.SCHEMA.empty_table()

    def batches(
        self,
        market_ids: str | Iterable[str] | None = None,
        start: datetime.datetime | None = None,
        end: datetime.datetime | None = None,
        joined: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield ticks of one market, of several or of all (None), market after market, each in file order.

        start, end: of publish_time; None: from the first, to the last. joined: add the columns JOINED, and fill in
        in_play. A batch has about 131,072 ticks of one market, always whole messages.
        """
        span = _span(start, end)
        for market_id in self._wanted(market_ids):
            join = self._join(market_id) if joined else None
            for ticks in whole_messages(self._read(market_id, span)):
                table = ticks.to_table(market_id, ticks.sequence())
                yield from (table if join is None else join(table, ticks)).combine_chunks().to_batches()

    def ticks(
        self,
        market_ids: str | Iterable[str] | None = None,
        start: datetime.datetime | None = None,
        end: datetime.datetime | None = None,
        joined: bool = False,
    ) -> pa.Table:
        """Return the rows of batches() as one table, all in memory (about 80 bytes per tick)."""
        schema = pa.schema([*SCHEMA, *reader_tables.JOINED]) if joined else SCHEMA
        batches = list(self.batches(market_ids, start, end, joined))
        return pa.Table.from_batches(batches, schema).unify_dictionaries()

    def ticks_pandas(self, *asked: Any, **options: Any) -> Any:
        """Return ticks() as a pandas DataFrame; texts are categoricals."""
        return self.ticks(*asked, **options).to_pandas()

    def ticks_polars(self, *asked: Any, **options: Any) -> Any:
        """Return ticks() as a Polars DataFrame. Raises ImportError if Polars is not installed."""
        import polars

        return polars.from_arrow(self.ticks(*asked, **options))

    def books(self, market_id: str, times: "Sequence[datetime.datetime] | np.ndarray[Any, Any]") -> Books:
        """Return the books of a market as of many times: for each time, that of the newest message at or before it.

        times: aware datetimes, or a NumPy array of datetime64 in UTC; in any order.
        """
        self._require(market_id)
        moments = _moments(times)
        until = Span(_ALWAYS.lower_us, int(moments.max(initial=_ALWAYS.lower_us)) + 1)
        path, choose = self.layout.market_file(market_id), books_as_of.choosing(np.sort(moments))
        ticks = market_file.read_rows(path, until, _BATCH_ROWS, books_as_of.COLUMNS, choose)
        return books_as_of.books_as_of(ticks, moments)

    def best_prices(
        self, market_id: str, start: datetime.datetime | None = None, end: datetime.datetime | None = None
    ) -> pa.Table:
        """Return the best prices of each runner at each message, by publish_time and selection_id.

        Columns: publish_time, selection_id, back, back_size, lay, lay_size, status, in_play, runner_name. Null if a
        side is empty; no row if both are.
        """
        self._require(market_id)
        slots = Slots()
        batches = list(books_as_of.best_prices(slots.layout(self._read(market_id, _span(start, end))), slots))
        table = pa.Table.from_batches(batches, reader_tables.BEST)
        publish_time = table.column("publish_time").cast(pa.int64()).to_numpy()
        status, in_play = reader_tables.states_at(market_states.read(self.layout, market_id), publish_time)
        names = reader_tables.of_runners(reader_tables.names(self.metadata(market_id)), table.column("selection_id"))
        return (
            table.append_column("status", status).append_column("in_play", in_play).append_column("runner_name", names)
        )

    def _wanted(self, market_ids: str | Iterable[str] | None) -> list[str]:
        if market_ids is None:
            return self.market_ids
        wanted = [market_ids] if isinstance(market_ids, str) else list(market_ids)
        for market_id in wanted:
            self._require(market_id)
        return wanted

    def _require(self, market_id: str) -> None:
        if market_id not in self.index:
            raise UsageError(
                f"{self.layout.index}: market {market_id!r} is not one of its {len(self.index):,} markets. Check the"
                " id; markets() lists them."
            )

    def _read(self, market_id: str, span: Span) -> Iterator[Ticks]:
        return market_file.read_span(self.layout.market_file(market_id), 0, span, _BATCH_ROWS)

    def _join(self, market_id: str) -> reader_tables.Join:
        return reader_tables.joining(
            self.index[market_id].event_id,
            self.metadata(market_id),
            market_states.read(self.layout, market_id),
            market_results.read(self.layout).get(market_id, market_results.NOTHING).of,
        )


def _span(start: datetime.datetime | None, end: datetime.datetime | None) -> Span:
    lower, upper = (None if moment is None else _microseconds(moment) for moment in (start, end))
    return Span(_ALWAYS.lower_us if lower is None else lower, _ALWAYS.upper_us if upper is None else upper)


def _microseconds(moment: datetime.datetime) -> int:
    if moment.tzinfo is None:
        raise UsageError(f"{moment} has no time zone. Pass an aware time, such as {moment}+00:00 for UTC.")
    return (moment - _EPOCH) // _MICROSECOND


def _moments(times: "Sequence[datetime.datetime] | np.ndarray[Any, Any]") -> Ints:
    if isinstance(times, np.ndarray) and times.dtype.kind == "M":
        return np.asarray(times.astype("datetime64[us]").astype(np.int64))
    return np.array([_microseconds(moment) for moment in times], np.int64)
