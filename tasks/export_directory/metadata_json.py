"""The metadata JSON of a market: what the database says about it, and what it no longer has."""

import json
from collections.abc import Sequence
from typing import Any

from tasks.errors import NewerVersion
from tasks.export_directory.described_files import DescribedFiles
from tasks.export_directory.metadata_states import Described
from tasks.postgres.database import Database
from tasks.postgres.market_metadata import MarketMetadata
from tasks.storage.layout import Layout
from tasks.ticks import value_text

_NOTHING = MarketMetadata("", *(None,) * 8)
_EXAMPLE = MarketMetadata("1.1", "2", "name", "type", 0, "status", True, [3], ["runner"])
Metadata = dict[str, Any]
_encode = json.JSONEncoder(ensure_ascii=False).encode


def described(market: MarketMetadata) -> Metadata:
    """Return what the database says about a market, in the form of a metadata file."""
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
    """Return what the database says now; for values that it no longer has, what was known before."""
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
    """Return the content of a metadata file: one key per line, one runner per line."""
    lines = [f"  {_encode(key)}: {_encode(value)},\n" for key, value in metadata.items() if key != "runners"]
    runners = ",\n".join(f"    {_encode(runner)}" for runner in metadata["runners"])
    return ("{\n" + "".join(lines) + '  "runners": [' + (f"\n{runners}\n  " if runners else "") + "]\n}\n").encode()


def parse(content: bytes) -> Metadata | None:
    """Return the metadata in a file's content, None if it is not that of a metadata file.

    Raises NewerVersion if it has further keys.
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


class MetadataFiles(DescribedFiles[MarketMetadata]):
    """The metadata files of some markets."""

    def __init__(self, database: Database, layout: Layout, market_ids: Sequence[str]) -> None:
        described_now = Described(layout.described, rendering=render(described(_EXAMPLE)))
        super().__init__(database, Database.metadata, market_ids, layout.markets_dir, described_now)
        self._layout = layout

    def _path(self, market_id: str) -> str:
        return f"{self._directory}/{self._layout.metadata_name(market_id)}"

    def _new(self, stored: MarketMetadata) -> bytes:
        return render(described(stored))

    def _old_and_new(self, stored: MarketMetadata) -> tuple[bytes, bytes]:
        with open(self._path(stored.market_id), "rb") as file:
            content = file.read()
        return content, render(merged(described(stored), parse(content)))
