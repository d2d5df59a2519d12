"""The journal: what was written and what failed since index.csv was made, shared by the processes of a run.

It is not a checkpoint: a record counts only while the file on disk is the one it describes. Losing the journal costs
only the time to read files again.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tasks.market_files.file_facts import FileFacts
from tasks.storage.atomic_files import process_name, without_following
from tasks.storage.file_identity import FileStat

Record = TypeVar("Record")


class Written(NamedTuple):
    """A market file that was written, with the stat by which it is recognised."""

    market_id: str
    change: str  # new or refreshed
    stat: FileStat
    facts: FileFacts

    def is_of(self, stat: FileStat) -> bool:
        """Return whether a stat is that of the file that this record describes."""
        return self.stat.is_same_file(stat)


class Failed(NamedTuple):
    """A market that could not be exported, or not as it should."""

    market_id: str
    reason: str


class Journal:
    """The records of one output directory: files of JSON lines, one per process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def written(self, market: Written) -> None:
        """Record a market file that is about to get its final name."""
        self._append("written", market._asdict() | {"stat": market.stat._asdict(), "facts": market.facts._asdict()})

    def failed(self, market: Failed) -> None:
        """Record a failure."""
        self._append("failed", market._asdict() | {"at_s": time.time()})

    def _append(self, kind: str, record: dict[str, Any]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{kind}.{process_name()}.jsonl"
        with open(path, "a", encoding="utf-8", opener=without_following) as file:
            file.write(json.dumps(record) + "\n")

    def all_written(self) -> Iterator[Written]:
        """Yield all records of written files, those of one market in the order of writing."""

        def made_of(record: dict[str, Any]) -> Written:
            return Written(
                record["market_id"], record["change"], FileStat(**record["stat"]), FileFacts(**record["facts"])
            )

        return self._records("written", made_of)

    def failed_since(self, moment_s: float) -> dict[str, str]:
        """Return the failures since a time (seconds since 1970): the reason by market. Reading removes none."""
        records = self._records("failed", lambda record: (float(record.pop("at_s")), Failed(**record)))
        return dict(failed for at_s, failed in records if at_s >= moment_s)

    def _records(self, kind: str, made_of: Callable[[dict[str, Any]], Record]) -> Iterator[Record]:
        for path in sorted(self._directory.glob(f"{kind}.*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
            with open(path, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        record = made_of(json.loads(line))
                    except (ValueError, TypeError, KeyError):  # the last line of a killed process, or another version's
                        continue
                    yield record

    def forget_before(self, moment_s: float) -> None:
        """Remove failures recorded before a time (seconds since 1970): that run is over, and this one tries its markets
        again.
        """
        for path in self._directory.glob("failed.*.jsonl"):
            if path.stat().st_mtime < moment_s:
                path.unlink(missing_ok=True)

    def clear(self, kind: str) -> None:
        """Remove the records of a kind: index.csv or the report has them now."""
        for path in self._directory.glob(f"{kind}.*.jsonl"):
            path.unlink(missing_ok=True)
