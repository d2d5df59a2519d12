"""What was written and what failed since index.csv was made: how the processes of a run tell each other.

Not a checkpoint: a record counts only while the file on disk is the very one it speaks of, and all of it can be lost
without losing anything but the time to read a file again.
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
    """A market file that was written, with what tells it from others on disk."""

    market_id: str
    change: str  # new or refreshed
    stat: FileStat
    facts: FileFacts

    def is_of(self, stat: FileStat) -> bool:
        """Return whether stat is of the file that this record speaks of."""
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
        """Yield all records of written files, those of one market in the order in which they were made."""

        def made_of(record: dict[str, Any]) -> Written:
            return Written(
                record["market_id"], record["change"], FileStat(**record["stat"]), FileFacts(**record["facts"])
            )

        return self._records("written", made_of)

    def failed_since(self, moment_s: float) -> dict[str, str]:
        """Return the reason of each failure since a moment, seconds since 1970, by market. Reading forgets none."""
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
        """Forget failures recorded before a moment, seconds since 1970: that run is over, its markets come again."""
        for path in self._directory.glob("failed.*.jsonl"):
            if path.stat().st_mtime < moment_s:
                path.unlink(missing_ok=True)

    def clear(self, kind: str) -> None:
        """Forget the records of a kind: index.csv or the report has them now."""
        for path in self._directory.glob(f"{kind}.*.jsonl"):
            path.unlink(missing_ok=True)
