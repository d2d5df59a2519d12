"""Check an output directory except for the ticks: index, metadata, consolidated days, stray files."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.day_csv import consolidation_report, export_source
from tasks.day_csv.consolidation_report import Published
from tasks.errors import NewerVersion
from tasks.export_directory import index_csv, metadata_json, report_version
from tasks.export_directory.index_csv import IndexRow
from tasks.export_directory.inventory import describe, take_inventory
from tasks.exporting import execution_report
from tasks.market_files.file_facts import FileFacts
from tasks.market_files.time_span import Span
from tasks.storage.file_identity import checksum_of
from tasks.storage.file_names import day_of_report, is_market_id, is_metadata, market_of
from tasks.storage.layout import Layout
from tasks.ticks import value_text
from tasks.ticks.day_sums import DAY_US
from tasks.verification.difference import MOVE_AWAY, Difference

#: By market, the number of ticks per day (since 1970).
DayRows = Mapping[str, Mapping[int, int]]

#: Figures of a consolidation report.
_READ, _REMOVED, _WRITTEN = (
    re.compile(rf"^{name}: (\d+)$", re.MULTILINE)
    for name in ("Total rows read[^:]*", "Duplicates removed", "Rows written")
)
_OF_MARKET = re.compile(r"^\d+\.\d+ (\d+) \S+ \S+$", re.MULTILINE)


def read_index(layout: Layout) -> tuple[dict[str, IndexRow], list[Difference]]:
    """Return the valid rows of index.csv, and a difference for each invalid line."""
    name = layout.index.name
    try:
        content = layout.index.read_bytes()
        lines = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except FileNotFoundError:
        return {}, [Difference("", name, "the file", "nothing", "an index")]
    except (ValueError, csv.Error) as error:
        return {}, [Difference("", name, "content", error, "a CSV file in UTF-8")]
    if not lines or tuple(lines[0]) != index_csv.COLUMNS:
        return {}, [
            Difference("", name, "columns", ",".join(lines[0]) if lines else "none", ",".join(index_csv.COLUMNS))
        ]
    rows: dict[str, IndexRow] = {}
    found = []
    for number, line in enumerate(lines[1:], 2):
        row = _index_row(line)
        if isinstance(row, str):
            found.append(Difference(line[0] if line else "", name, f"line {number}", row, "a row of an index"))
        elif row.market_id in rows:
            found.append(
                Difference(row.market_id, name, f"line {number}", "a second row for the market", "one row per market")
            )
        else:
            rows[row.market_id] = row
            path = layout.file_path(row.market_id)
            if row.file_path != path:
                found.append(Difference(row.market_id, name, f"line {number}, file_path", row.file_path, path))
    if not found and b"".join(index_csv.render(rows)) != content:
        found.append(
            Difference(
                "", name, "content", "another order or formatting", "rows by market_id, as BuildIndex writes them"
            )
        )
    return rows, found


def _index_row(line: list[str]) -> IndexRow | str:
    """Return the row of a line, or what is wrong with it."""
    if len(line) != len(index_csv.COLUMNS):
        return f"{len(line)} fields"
    market_id, event_id, first, last, records, messages, path, size, checksum = line
    if not is_market_id(market_id):
        return f"market_id {market_id!r}"
    if not re.fullmatch(r"[0-9a-f]{64}", checksum):
        return f"checksum {checksum!r}"
    try:
        times = [value_text.parse_time(moment) if moment else None for moment in (first, last)]
        return IndexRow(
            market_id, event_id, path, FileFacts(times[0], times[1], int(records), int(messages), int(size), checksum)
        )
    except ValueError as error:
        return str(error)


def check_names(layout: Layout, rows: Mapping[str, IndexRow]) -> tuple[list[Difference], list[str]]:
    """Return missing and stray files as differences, and files that the pipeline has set aside as notes."""
    inventory = take_inventory(layout, rows)
    found = [
        Difference(
            market_of(name),
            name,
            "the file",
            f"a stray ({describe(layout.output_dir / name)})",
            "nothing: it is not in index.csv",
            MOVE_AWAY,
        )
        for name in inventory.strays
    ]
    for market_id, row in rows.items():
        path = layout.market_file(market_id)
        if _relative(layout, path) not in inventory.files:
            found.append(
                Difference(
                    market_id, _relative(layout, path), "the file", describe(path), "a market file: it is in index.csv"
                )
            )
    notes = [f"{name}: a damaged file that was set aside" for name in inventory.aside]
    notes += [
        f"{name}: {'metadata' if is_metadata(name) else 'states'} of a market without a file, because its export failed"
        for name in inventory.without_file
    ]
    return found, notes


def _relative(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.output_dir).as_posix()


def check_report(layout: Layout, rows: Mapping[str, IndexRow]) -> tuple[list[Difference], list[str]]:
    """Compare execution_report.txt with the index. Lower counts are noted, because ConsolidateDay adds to the index
    only; higher counts are a difference, because an index never shrinks.
    """
    name = layout.execution_report.name
    try:
        lines = layout.execution_report.read_text(encoding="utf-8", errors="replace").splitlines()
        report_version.require_known(layout.execution_report, lines)
    except FileNotFoundError:
        return [], []
    except NewerVersion as error:
        return [_of_later_version(layout.execution_report, error)], []
    found, notes = [], []
    for figure in execution_report.counts([row.facts for row in rows.values()]):
        what, now = figure.split(": ")
        said = next((line.removeprefix(f"{what}: ") for line in lines if line.startswith(f"{what}: ")), "nothing")
        if not said.isdecimal() or int(said) > int(now):
            found.append(Difference("", name, what, said, f"{now} (index.csv)"))
        elif said != now:
            notes.append(f"{name}: {what} was {said} when it was written, the index has {now} by now")
    return found, notes


def _of_later_version(path: Path, error: NewerVersion) -> Difference:
    return Difference("", path.name, "content", error.found, error.known, error.NEXT)


def check_metadata(layout: Layout, row: IndexRow, required: bool) -> Iterator[Difference]:
    """Yield what is wrong with a market's metadata file. required: it must exist if the market has ticks."""
    path = layout.metadata_file(row.market_id)
    name = path.relative_to(layout.output_dir).as_posix()

    def differs(what: str, found: object, expected: object) -> Difference:
        return Difference(row.market_id, name, what, found, expected)

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if required and row.facts.tick_records:
            yield differs("the file", "nothing", "metadata: the market has ticks")
        return
    known = metadata_json.parse(content)
    if known is None:
        yield differs("content", repr(content[:40])[1:], "a JSON object with the keys of metadata")
        return
    selections = [runner["selectionId"] for runner in known["runners"]]
    if known["marketId"] != row.market_id:
        yield differs("marketId", known["marketId"], row.market_id)
    if (known["eventId"] or "") != row.event_id:
        yield differs("eventId", known["eventId"], f"{row.event_id or None} (index.csv)")
    if known["numberOfRunners"] != len(selections):
        yield differs("numberOfRunners", known["numberOfRunners"], f"{len(selections)} runners")
    if selections != sorted(set(selections)):
        yield differs("runners", selections, "each once, by selectionId")
    if any(list(runner) != ["selectionId", "runnerName", "handicap"] for runner in known["runners"]):
        yield differs("keys of a runner", "others", "selectionId, runnerName, handicap")
    if known["inPlay"] not in (None, True, False):
        yield differs("inPlay", known["inPlay"], "true, false or null")
    if known["marketStartTime"] is not None:
        try:
            value_text.parse_time(known["marketStartTime"])
        except (ValueError, TypeError):
            yield differs("marketStartTime", known["marketStartTime"], "a time like 2026-02-05T12:10:54.031000Z")


def check_consolidated(
    layout: Layout, rows: Mapping[str, IndexRow], day_rows: DayRows
) -> tuple[list[Difference], list[str]]:
    """Compare consolidated CSVs with their reports, and the reports with the market files; return differences and
    notes.

    day_rows: the number of ticks of each market on each day in the market files.
    """
    found: list[Difference] = []
    notes: list[str] = []
    named = set()
    for path in layout.consolidation_reports():
        try:
            published = consolidation_report.read(path)
        except NewerVersion as error:
            found.append(_of_later_version(path, error))
            named |= {csv.name for csv in layout.consolidated_csvs()}  # which files it describes is unknown
            continue
        if published is None:
            found.append(
                Difference("", path.name, "content", "not a report of this pipeline", "a consolidation report")
            )
            continue
        named |= {file.name for file in published.files}
        if published.partial:
            found.append(
                Difference("", path.name, "the day", "a part of it", "a day that was over when it was consolidated")
            )
        found += _csv_files(layout, published)
        if not published.inputs:
            notes.append(
                f"{path.name}: made straight from the database, so {published.file.name} was compared only with this"
                " report"
            )
            continue
        found += _ticks_read(path, published, day_rows)
        if not export_source.are_of_now(layout, rows, published.inputs):
            notes.append(
                f"{path.name}: market files or metadata were refreshed since; run the consolidation again to bring it"
                " up to date"
            )
    for path in layout.consolidated_csvs():
        if path.name not in named:
            found.append(Difference("", path.name, "the file", "a CSV without a report", "its consolidation report"))
    return found, notes


def _ticks_read(path: Path, published: Published, day_rows: DayRows) -> Iterator[Difference]:
    """Yield where a report lists other markets, or another number of ticks, than the market files have."""
    date = day_of_report(path.name)
    day = None if date is None else Span.of_day(date).lower_us // DAY_US
    ticks = {
        market_id: sum(count for its_day, count in days.items() if day is None or its_day == day)
        for market_id, days in day_rows.items()
    }
    with_ticks = {market_id for market_id, count in ticks.items() if count}
    for market_id in sorted(with_ticks ^ published.inputs.keys()):
        words = (
            ("not this market", "a market with ticks then")
            if market_id in with_ticks
            else ("this market", "only markets with ticks then")
        )
        yield Difference(market_id, path.name, "inputs", *words)
    content = path.read_text(encoding="utf-8")
    read, removed, written = (sum(map(int, figure.findall(content))) for figure in (_READ, _REMOVED, _WRITTEN))
    if read != sum(ticks.values()):
        yield Difference("", path.name, "total rows read", read, f"{sum(ticks.values())} ticks in the market files")
    if written + removed != read:
        yield Difference("", path.name, "rows written", written, f"{read - removed}, rows read minus duplicates")
    if (of_markets := sum(map(int, _OF_MARKET.findall(content)))) != written:
        yield Difference("", path.name, "rows written of all markets", of_markets, f"{written} rows written")


def _csv_files(layout: Layout, published: Published) -> Iterator[Difference]:
    for csv_file in published.files:
        name = csv_file.name
        try:
            with open(layout.output_dir / name, "rb") as file:
                found = checksum_of(file)
                found_bytes = file.tell()
        except FileNotFoundError:
            yield Difference("", name, "the file", "nothing", "a CSV: its report exists")
            continue
        if found_bytes != csv_file.size_bytes:
            yield Difference("", name, "size in bytes", found_bytes, f"{csv_file.size_bytes} (report)")
        if found != csv_file.checksum:
            yield Difference("", name, "checksum", found, f"{csv_file.checksum} (report)")
