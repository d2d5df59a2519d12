"""Metadata JSON of a market: what the database says of it, and what it no longer knows."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tasks.ticks import text
from tasks.ticks.database import Database
from tasks.ticks.layout import Layout
from tasks.ticks.prefetch import prefetched
from tasks.ticks.publish import NewFile, flush_all_to_disk, flush_directory

_BATCH = 2_000
_FILES_AT_ONCE = 500
Metadata = dict[str, Any]
_encode = json.JSONEncoder(ensure_ascii=False).encode


def from_row(row: tuple[Any, ...]) -> Metadata:
    """Return the metadata that a row of Database.metadata holds."""
    market_id, event_id, name, kind, start_us, status, in_play, selection_ids, names = row
    runners = [{"selectionId": selection, "runnerName": runner, "handicap": None}
               for selection, runner in zip(selection_ids or (), names or ())]
    return {
        "marketId": market_id,
        "eventId": event_id,
        "eventTypeId": None,
        "marketName": name,
        "marketType": kind,
        "marketStartTime": None if start_us is None else text.time_text(start_us),
        "marketStatus": status,
        "inPlay": in_play,
        "numberOfRunners": len(runners),
        "runners": runners,
    }


def merged(now: Metadata, before: Metadata | None) -> Metadata:
    """Return what the database says now, and for what it no longer knows what was known before."""
    if before is None:
        return now
    result = {key: before.get(key) if value is None else value for key, value in now.items()}
    runners = {runner["selectionId"]: runner for runner in before["runners"]}
    for runner in now["runners"]:
        known = runners.get(runner["selectionId"], runner)
        runners[runner["selectionId"]] = {key: known.get(key) if value is None else value for key, value in runner.items()}
    result["runners"] = [runners[selection] for selection in sorted(runners)]
    result["numberOfRunners"] = len(runners)
    return result


def render(metadata: Metadata) -> bytes:
    """Return the content of a metadata file: one key a line, one runner a line."""
    lines = [f"  {_encode(key)}: {_encode(value)},\n" for key, value in metadata.items() if key != "runners"]
    runners = ",\n".join(f"    {_encode(runner)}" for runner in metadata["runners"])
    return ("{\n" + "".join(lines) + '  "runners": [' + (f"\n{runners}\n  " if runners else "") + "]\n}\n").encode()


def parse(content: bytes) -> Metadata | None:
    """Return the metadata in a file's content, None where it is not a metadata file's."""
    try:
        metadata = json.loads(content)
        if list(metadata) == list(from_row(("",) + (None,) * 8)) and isinstance(metadata["runners"], list):
            if all(isinstance(runner["selectionId"], int) for runner in metadata["runners"]):
                return metadata
    except (ValueError, TypeError, KeyError):
        pass
    return None


def changes(database: Database, layout: Layout, market_ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield market id and content of each metadata file that is not yet as it should be."""
    directory = layout.markets_dir
    batches = (market_ids[start:start + _BATCH] for start in range(0, len(market_ids), _BATCH))
    for rows in prefetched(database.metadata(batch) for batch in batches):
        for row in rows:
            now = from_row(row)
            content = _content(f"{directory}/{layout.metadata_name(row[0])}")
            wanted = render(now)
            if wanted != content:
                wanted = render(merged(now, parse(content)))
                if wanted != content:
                    yield row[0], wanted


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def write(layout: Layout, files: Iterable[tuple[str, bytes]]) -> Iterator[int]:
    """Write metadata files, many together; yield how many were written each time."""
    contents = iter(files)
    while batch := list(itertools.islice(contents, _FILES_AT_ONCE)):
        with contextlib.ExitStack() as unpublished:
            written = []
            for market_id, content in batch:
                file = unpublished.enter_context(NewFile(layout.metadata_file(market_id)))
                file.write(content)
                file.finish()
                written.append(file)
            flush_all_to_disk(written)
            for file in written:
                file.publish()
        flush_directory(layout.markets_dir)
        yield len(batch)
