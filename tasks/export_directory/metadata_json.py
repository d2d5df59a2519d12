"""Metadata JSON of a market: what the database says of it, and what it no longer knows."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.errors import NewerVersion
from tasks.export_directory.metadata_states import Described
from tasks.postgres.database import Database
from tasks.postgres.market_metadata import MarketMetadata
from tasks.postgres.parallel_questions import ask_each
from tasks.storage.atomic_files import NewFile, flush_all_to_disk, flush_directory
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout
from tasks.ticks import value_text

_BATCH = 250
_FILES_AT_ONCE = 200
_NOTHING = MarketMetadata("", *(None,) * 8)
_EXAMPLE = MarketMetadata("1.1", "2", "name", "type", 0, "status", True, [3], ["runner"])
Metadata = dict[str, Any]
_encode = json.JSONEncoder(ensure_ascii=False).encode


def described(market: MarketMetadata) -> Metadata:
    """Return what the database says of a market as a metadata file has it."""
    runners = [
        {"selectionId": selection, "runnerName": runner, "handicap": None}
        for selection, runner in zip(market.selection_ids or (), market.runner_names or ())
    ]
    return {
        "marketId": market.market_id,
        "eventId": market.event_id,
        "eventTypeId": None,
        "marketName": market.name,
        "marketType": market.type,
        "marketStartTime": None if market.start_us is None else value_text.time_text(market.start_us),
        "marketStatus": market.status,
        "inPlay": market.in_play,
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
        runners[runner["selectionId"]] = {
            key: known.get(key) if value is None else value for key, value in runner.items()
        }
    result["runners"] = [runners[selection] for selection in sorted(runners)]
    result["numberOfRunners"] = len(runners)
    return result


def render(metadata: Metadata) -> bytes:
    """Return the content of a metadata file: one key a line, one runner a line."""
    lines = [f"  {_encode(key)}: {_encode(value)},\n" for key, value in metadata.items() if key != "runners"]
    runners = ",\n".join(f"    {_encode(runner)}" for runner in metadata["runners"])
    return ("{\n" + "".join(lines) + '  "runners": [' + (f"\n{runners}\n  " if runners else "") + "]\n}\n").encode()


def parse(content: bytes) -> Metadata | None:
    """Return the metadata in a file's content, None where it is not a metadata file's.

    Raises NewerVersion where it has further keys.
    """
    try:
        metadata: Metadata = json.loads(content)
        known = list(described(_NOTHING))
        if list(metadata)[: len(known) - 1] == known[:-1] and len(metadata) > len(known):
            further = ", ".join(sorted(set(metadata).difference(known)))[:200]
            raise NewerVersion(f"the metadata of market {metadata['marketId']}", f"further keys ({further})", "others")
        if list(metadata) == list(described(_NOTHING)) and isinstance(metadata["runners"], list):
            if all(isinstance(runner["selectionId"], int) for runner in metadata["runners"]):
                return metadata
    except (ValueError, TypeError, KeyError):
        pass
    return None


class MetadataFiles:
    """The metadata files of some markets. One that was found to say what the database says is not read again."""

    def __init__(self, database: Database, layout: Layout, market_ids: Sequence[str]) -> None:
        self._database, self._layout, self._market_ids = database, layout, market_ids
        self._described = Described(layout.described, rendering=render(described(_EXAMPLE)))

    def are_current(self) -> bool:
        """Return whether every file says what the database says."""
        return next(self._changes(), None) is None

    def remember(self) -> None:
        """Write down what was found out, so that a file that nobody touches need not be read again."""
        self._described.save()

    def write(self) -> Iterator[int]:
        """Write the files that do not, many together; yield how many were written each time."""
        changes = self._changes()
        while batch := list(itertools.islice(changes, _FILES_AT_ONCE)):
            with contextlib.ExitStack() as unpublished:
                written = []
                for market, content in batch:
                    file = unpublished.enter_context(NewFile(self._layout.metadata_file(market.market_id)))
                    file.write(content)
                    file.finish()
                    written.append(file)
                flush_all_to_disk(written)
                for (market, _), file in zip(batch, written, strict=True):
                    file.publish()
                    self._described.learn(market, FileStat.of(os.stat(file.path)))
            flush_directory(self._layout.markets_dir)
            yield len(batch)
        self._described.save()

    def _changes(self) -> Iterator[tuple[MarketMetadata, bytes]]:
        """Yield what the database says and the new content of each file that is not as it should be."""
        directory = self._layout.markets_dir
        batches = (self._market_ids[start : start + _BATCH] for start in range(0, len(self._market_ids), _BATCH))
        for markets in ask_each(self._database, Database.metadata, batches):
            for market in markets:
                path = f"{directory}/{self._layout.metadata_name(market.market_id)}"
                try:
                    stat = FileStat.of(os.stat(path))
                except FileNotFoundError:
                    yield market, render(described(market))
                    continue
                if self._described.is_current(market, stat):
                    continue
                with open(path, "rb") as file:
                    content = file.read()
                wanted = render(merged(described(market), parse(content)))
                if wanted != content:
                    yield market, wanted
                else:
                    self._described.learn(market, stat)
