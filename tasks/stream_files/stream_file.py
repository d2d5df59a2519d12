"""streams/<market id>.bz2 and its catalogue entry: made from a market file, its metadata and its states."""

import bz2
import concurrent.futures
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.day_csv.export_source import metadata_checksum
from tasks.errors import DamagedFile
from tasks.export_directory import market_results, market_states, metadata_json
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files import market_file
from tasks.market_files.time_span import Span
from tasks.storage.atomic_files import NewFile, flush_directory, make_directory
from tasks.storage.file_identity import file_checksum
from tasks.storage.layout import Layout
from tasks.stream_files.definition import DefinitionFeed, Known, short_time
from tasks.stream_files.stream_lines import Counts, StreamLines
from tasks.ticks.prefetch import prefetched
from tasks.ticks.schema import FIRST_TIME_US, LAST_TIME_US

#: The version of the format: after a change of this number, all streams are rebuilt.
FORMAT_VERSION = 1
_ALWAYS = Span(FIRST_TIME_US, LAST_TIME_US)
_BATCH_ROWS = 131_072
#: A silence is a gap if it is longer than this and than so many of the market's mean intervals.
_GAP_US, _GAP_INTERVALS = 600_000_000, 20
#: The level of bzip2. Lines are repetitive, and small blocks stay in the processor's cache: half the time of level 9
#: for 1.5 % more bytes (docs/decisions/performance.md).
_LEVEL = 3
#: The keys in a catalogue for the counts of its stream's lines, as in Counts.
_COUNTED = ("definitionLines", "fullPictures", "rowsLeftOut")
_EVENT_TYPE_NAMES = {"1": "Soccer", "7": "Horse Racing"}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The files that a stream is made from, by SHA-256; "-" for a missing one."""

    ticks: str
    metadata: str
    states: str
    results: str

    def as_json(self) -> dict[str, Any]:
        """Return them in the form of the catalogue."""
        return {"version": FORMAT_VERSION, **dataclasses.asdict(self)}


def inputs(layout: Layout, row: IndexRow) -> Inputs:
    """Return the current inputs for a market's stream."""
    try:
        states = file_checksum(layout.states_file(row.market_id))
    except FileNotFoundError:
        states = "-"
    results = market_results.read(layout).get(row.market_id, market_results.NOTHING)
    return Inputs(row.facts.checksum, metadata_checksum(layout, row.market_id), states, results.checksum)


def is_current(layout: Layout, row: IndexRow) -> bool:
    """Return whether a market's stream exists, is as it was written, and was made from the current inputs."""
    known = read_catalogue(layout.stream_catalogue(row.market_id))
    try:
        size_bytes = layout.stream_file(row.market_id).stat().st_size
    except FileNotFoundError:
        return False
    return (
        known is not None
        and known["stream"]["madeOf"] == inputs(layout, row).as_json()
        and known["stream"]["sizeBytes"] == size_bytes
    )


def is_of_now(layout: Layout, row: IndexRow) -> bool:
    """Return whether, according to its catalogue, a market's stream was made from the current inputs."""
    known = read_catalogue(layout.stream_catalogue(row.market_id))
    return known is not None and known["stream"]["madeOf"] == inputs(layout, row).as_json()


def flaws(layout: Layout, row: IndexRow) -> Iterator[tuple[Path, str, object, object]]:
    """Yield where stream and catalogue of a market are not as they were written: the file, which part, found, expected.

    The stream is checked against the catalogue; the catalogue against its inputs, if they have not changed since.
    """
    stream, catalogue = layout.stream_file(row.market_id), layout.stream_catalogue(row.market_id)
    known = read_catalogue(catalogue)
    if known is None:
        yield catalogue, "content", "nothing, or not ours" if catalogue.exists() else "nothing", "a catalogue"
        return
    said = known["stream"]
    try:
        size_bytes, checksum = stream.stat().st_size, file_checksum(stream)
    except FileNotFoundError:
        yield stream, "the file", "nothing", "a stream: its catalogue is there"
        return
    if size_bytes != said["sizeBytes"]:
        yield stream, "size in bytes", size_bytes, f"{said['sizeBytes']} (catalogue)"
    if checksum != said["sha256"]:
        yield stream, "checksum", checksum, f"{said['sha256']} (catalogue)"
    if is_of_now(layout, row):
        counts = Counts(row.facts.messages, *(said.get(key) for key in _COUNTED))
        of_stream = {key: said[key] for key in ("madeOf", "sizeBytes", "sha256")}
        written = _rendered(_known(layout, row), counts, of_stream)
        if catalogue.read_bytes() != written:
            yield catalogue, "content", "something else", "the values from metadata, states and the stream"


def read_catalogue(path: Path) -> dict[str, Any] | None:
    """Return a catalogue that the pipeline wrote, None if there is none or if it is another program's."""
    try:
        known: dict[str, Any] = json.loads(path.read_bytes())
        if {"madeOf", "sizeBytes", "sha256"} <= known["stream"].keys():
            return known
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def write(layout: Layout, row: IndexRow) -> Counts:
    """Write stream and catalogue of a market with ticks. Raises DamagedFile, OSError."""
    market_id, facts = row.market_id, row.facts
    made_of = inputs(layout, row)
    path = layout.market_file(market_id)
    if file_checksum(path) != facts.checksum:
        raise DamagedFile(
            f"{path}: its SHA-256 is not the one in index.csv. Restore the file, or run ExportAll with the database to"
            " repair it."
        )
    known = _known(layout, row)
    interval_us = ((facts.last_tick or 0) - known.first_us) / max(facts.messages - 1, 1)
    lines = StreamLines(market_id, DefinitionFeed(known), round(max(_GAP_US, _GAP_INTERVALS * interval_us)))
    ticks = prefetched(market_file.read_span(path, 0, _ALWAYS, _BATCH_ROWS))
    make_directory(layout.streams_dir)
    with NewFile(layout.stream_file(market_id)) as stream, NewFile(layout.stream_catalogue(market_id)) as catalogue:
        for part in _compressed(lines.lines(ticks)):
            stream.write(part)
        stream.finish()
        if lines.counts.messages != facts.messages:
            raise DamagedFile(
                f"{path}: has {lines.counts.messages} messages, index.csv says {facts.messages}. Run ExportAll with the"
                " database."
            )
        of_stream = {"madeOf": made_of.as_json(), "sizeBytes": stream.size_bytes, "sha256": stream.checksum}
        catalogue.write(_rendered(known, lines.counts, of_stream))
        catalogue.finish()
        stream.flush_to_disk()
        catalogue.flush_to_disk()
        stream.publish()
        catalogue.publish()  # last, because it confirms the stream
    flush_directory(layout.streams_dir)
    return lines.counts


def _known(layout: Layout, row: IndexRow) -> Known:
    market_id = row.market_id
    results = market_results.read(layout).get(market_id, market_results.NOTHING)
    states = market_states.read(layout, market_id)
    return Known(market_id, _metadata(layout, market_id), states, results, row.facts.first_tick or 0)


def _metadata(layout: Layout, market_id: str) -> dict[str, Any]:
    try:
        return metadata_json.parse(layout.metadata_file(market_id).read_bytes()) or {}
    except FileNotFoundError:
        return {}


def _compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines as one bzip2 stream; one part is compressed while the next one is made."""
    compressor = bz2.BZ2Compressor(_LEVEL)
    with concurrent.futures.ThreadPoolExecutor(1, "bzip2") as pool:
        waiting = None
        for part in parts:
            if waiting is not None:
                yield waiting.result()
            waiting = pool.submit(compressor.compress, part)
        if waiting is not None:
            yield waiting.result()
    yield compressor.flush()


def _rendered(known: Known, counts: Counts, of_stream: Mapping[str, Any]) -> bytes:
    """Return the content of a catalogue. of_stream: the inputs of its stream, its size and its checksum."""
    entry = _catalogue(known, counts)
    entry["stream"] |= of_stream
    return (json.dumps(entry, ensure_ascii=False, indent=1) + "\n").encode()


def _catalogue(known: Known, counts: Counts) -> dict[str, Any]:
    """Return the entry of Betfair's market catalogue, with the facts about the stream."""
    metadata = known.metadata
    name, start = metadata.get("marketName") or "", short_time(known.start_us)
    definition = known.definition(known.changes()[-1], [], 1)
    copied = ("bettingType", "marketType", "turnInPlayEnabled", "bspMarket", "persistenceEnabled", "marketTime")
    return {
        "marketId": known.market_id,
        "marketName": name,
        "marketStartTime": start,
        "description": {key: definition[key] for key in copied} | {"suspendTime": start},
        "runners": [
            {
                "selectionId": runner["selectionId"],
                "runnerName": runner["runnerName"],
                "handicap": 0.0,
                "sortPriority": number,
            }
            for number, runner in enumerate(metadata.get("runners", ()), 1)
        ],
        "eventType": {"id": known.event_type, "name": _EVENT_TYPE_NAMES.get(known.event_type)},
        "event": {
            "id": metadata.get("eventId"),
            "name": name,
            "countryCode": "",
            "timezone": definition["timezone"],
            "venue": "",
            "openDate": start,
        },
        "stream": {
            "messages": counts.messages,
            **dict(zip(_COUNTED, (counts.definition_lines, counts.images, counts.left_out), strict=True)),
            "defaults": known.defaulted,
            "inferred": ["ltp", "trd", "tv"],
        },
    }
