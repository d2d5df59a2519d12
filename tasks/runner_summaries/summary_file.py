"""runner_summary.parquet and .csv: made from all market files of an export, market by market."""

import concurrent.futures
import hashlib
import io
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tasks.condition import market_condition
from tasks.errors import DamagedFile
from tasks.export_directory import market_results, market_states, metadata_json
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files import market_file
from tasks.market_files.decoding import decoding
from tasks.market_files.time_span import Span
from tasks.runner_summaries.market_summary import MarketKnown, Row, summarise
from tasks.runner_summaries.summary_columns import SCHEMA
from tasks.statistics import statistics_store
from tasks.statistics.tick_statistics import Statistics
from tasks.storage.atomic_files import NewFile, flush_directory
from tasks.storage.file_identity import file_checksum
from tasks.storage.layout import Layout
from tasks.stream_files import stream_file
from tasks.ticks import value_text
from tasks.ticks.schema import FIRST_TIME_US, LAST_TIME_US, TIME

#: The version of the format: after a change of this number, the summary is rebuilt.
FORMAT_VERSION = 1
_ALWAYS = Span(FIRST_TIME_US, LAST_TIME_US)
_BATCH_ROWS = 131_072
_MADE_OF, _CSV = b"made_of", b"csv_sha256"

Progress = Callable[[int], None]


def is_current(layout: Layout, rows: Mapping[str, IndexRow]) -> bool:
    """Return whether both files exist, are as they were written, and were made from the current files."""
    try:
        noted = pq.read_schema(layout.runner_summary).metadata or {}
        return (
            noted.get(_MADE_OF) == _made_of(layout, rows)
            and noted.get(_CSV) == file_checksum(layout.runner_summary_csv).encode()
        )
    except (OSError, pa.ArrowException):
        return False


def flaws(layout: Layout) -> Iterator[tuple[Path, str, object, object]]:
    """Yield where the two files are not as they were written: the file, which part, found, expected."""
    for path in (layout.runner_summary, layout.runner_summary_csv):
        if not path.exists():
            yield path, "the file", "nothing", "a runner summary: the other file is there"
            return
    try:
        with decoding(layout.runner_summary):
            table = pq.read_table(layout.runner_summary, page_checksum_verification=True, use_threads=False)
    except DamagedFile as error:
        yield layout.runner_summary, "content", str(error).removeprefix(f"{layout.runner_summary}: "), "a summary"
        return
    noted = (table.schema.metadata or {}).get(_CSV, b"").decode()
    if not table.schema.equals(SCHEMA):
        yield layout.runner_summary, "columns", table.schema.names, SCHEMA.names
    elif (found := file_checksum(layout.runner_summary_csv)) != noted:
        yield layout.runner_summary_csv, "checksum", found, f"{noted} ({layout.runner_summary.name})"
    elif _csv(table) != layout.runner_summary_csv.read_bytes():
        yield layout.runner_summary, "content", "something else", f"what {layout.runner_summary_csv.name} says"


def write(layout: Layout, rows: Mapping[str, IndexRow], workers: int, progress: Progress) -> dict[str, str]:
    """Write the summary of all markets; return why some could not be included. In that case it is not current."""
    made_of = _made_of(layout, rows)
    statistics, failed = statistics_store.load(layout, rows)
    order = sorted(rows, key=lambda market_id: (-rows[market_id].facts.tick_records, market_id))
    found: dict[str, list[Row]] = {}
    for market_id, answer in _each(layout, [(rows[name], statistics.get(name)) for name in order], workers):
        if isinstance(answer, str):
            failed[market_id] = answer
        else:
            found[market_id] = answer
        progress(rows[market_id].facts.tick_records)
    table = _table([row for market_id in sorted(found) for row in found[market_id]])
    with NewFile(layout.runner_summary_csv) as text, NewFile(layout.runner_summary) as file:
        text.write(_csv(table))
        text.finish()
        noted = {_MADE_OF: b"incomplete" if failed else made_of, _CSV: text.checksum.encode()}
        pq.write_table(
            table.replace_schema_metadata(noted), pa.PythonFile(file, "w"), version="2.6", compression="zstd"
        )
        file.finish()
        for one in (text, file):
            one.flush_to_disk()
        text.publish()
        file.publish()  # last, because it confirms both
    flush_directory(layout.output_dir)
    return failed


def _made_of(layout: Layout, rows: Mapping[str, IndexRow]) -> bytes:
    digest = hashlib.sha256(f"{FORMAT_VERSION}\n".encode())
    for market_id in sorted(rows):
        made_of = stream_file.inputs(layout, rows[market_id])
        digest.update(f"{market_id} {made_of.ticks} {made_of.metadata} {made_of.states} {made_of.results}\n".encode())
    return digest.hexdigest().encode()


def _each(
    layout: Layout, wanted: Sequence[tuple[IndexRow, Statistics | None]], workers: int
) -> Iterator[tuple[str, list[Row] | str]]:
    """Yield the rows of each market, or why there are none; markets are distributed over processes."""
    if workers < 2 or len(wanted) < 2:
        for row, statistics in wanted:
            yield _of_market(layout, row, statistics)
        return
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        answers = [pool.submit(_of_market, layout, row, statistics) for row, statistics in wanted]
        for answer in concurrent.futures.as_completed(answers):
            yield answer.result()


def _of_market(layout: Layout, row: IndexRow, statistics: Statistics | None) -> tuple[str, list[Row] | str]:
    market_id, path = row.market_id, layout.market_file(row.market_id)
    try:
        if file_checksum(path) != row.facts.checksum:
            raise DamagedFile(
                f"{path}: its SHA-256 is not the one in index.csv. Restore the file, or run ExportAll with the database"
                " to repair it."
            )
        try:
            metadata = metadata_json.parse(layout.metadata_file(market_id).read_bytes())
        except FileNotFoundError:
            metadata = None
        condition = None
        if statistics is not None:
            condition = str(market_condition.judge(market_id, statistics, metadata).condition)
        states = market_states.read(layout, market_id)
        results = market_results.read(layout).get(market_id, market_results.NOTHING).of
        known = MarketKnown(market_id, row.event_id or None, metadata or {}, states, condition, results)
        return market_id, summarise(known, market_file.read_span(path, 0, _ALWAYS, _BATCH_ROWS))
    except (DamagedFile, OSError) as error:
        return market_id, str(error)


def _table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_arrays(
        [
            (
                pa.array([row.get(field.name) for row in rows], pa.int64()).cast(TIME)
                if field.type == TIME
                else pa.array([row.get(field.name) for row in rows], field.type)
            )
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


def _csv(table: pa.Table) -> bytes:
    """Return the table as CSV: times and numbers as everywhere else, empty for null."""
    for number, field in enumerate(SCHEMA):
        column = table.column(number)
        if field.type == TIME:
            texts = value_text.time_texts(column.cast(pa.int64()).to_pylist())
            text = pa.array([written or None for written in texts], pa.string())
        elif field.type == pa.float64():
            text = pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())
        else:
            continue
        table = table.set_column(number, field.name, text)
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="needed", quoting_header="needed"))
    return sink.getvalue()
