"""Small files with what the database says about each market: those that differ are written, many at a time."""

import abc
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from tasks.export_directory.metadata_states import Described
from tasks.postgres.database import Database
from tasks.postgres.lifecycle import LifecycleRows
from tasks.postgres.market_metadata import MarketMetadata
from tasks.postgres.parallel_questions import ask_each
from tasks.storage.atomic_files import NewFile, flush_all_to_disk, flush_directory, make_directory
from tasks.storage.file_identity import FileStat

_BATCH = 250
_FILES_AT_ONCE = 200

Stored = TypeVar("Stored", MarketMetadata, LifecycleRows)


class DescribedFiles(abc.ABC, Generic[Stored]):
    """The files of some markets. A file that was once found to agree with the database is not read again.

    question: queries the database about a batch of markets. failed: markets whose file could not be written, and why.
    """

    def __init__(
        self,
        database: Database,
        question: Callable[[Database, Sequence[str]], Sequence[Stored]],
        market_ids: Sequence[str],
        directory: Path,
        described: Described,
    ) -> None:
        self._question: Callable[[Database, Sequence[str]], Sequence[Stored]] = question
        self._database, self._market_ids = database, market_ids
        self._directory, self._described = directory, described
        self.failed: dict[str, str] = {}

    @abc.abstractmethod
    def _path(self, market_id: str) -> str:
        """Return the path of a market's file."""

    @abc.abstractmethod
    def _new(self, stored: Stored) -> bytes:
        """Return the content of a new file."""

    @abc.abstractmethod
    def _old_and_new(self, stored: Stored) -> tuple[bytes, bytes] | None:
        """Return the content of the file and the content it should have, including what the database no longer has;
        None if that failed.
        """

    def are_current(self) -> bool:
        """Return whether every file agrees with the database."""
        return next(self._changes(), None) is None and not self.failed

    def remember(self) -> None:
        """Save which files agree with the database, so that unchanged files need not be read again."""
        self._described.save()

    def write(self) -> Iterator[int]:
        """Write the files that differ, many at a time; yield how many were written each time."""
        make_directory(self._directory)
        changes = self._changes()
        while batch := list(itertools.islice(changes, _FILES_AT_ONCE)):
            with contextlib.ExitStack() as unpublished:
                written = []
                for stored, content in batch:
                    file = unpublished.enter_context(NewFile(Path(self._path(stored.market_id))))
                    file.write(content)
                    file.finish()
                    written.append(file)
                flush_all_to_disk(written)
                for (stored, _), file in zip(batch, written, strict=True):
                    file.publish()
                    self._described.learn(stored, FileStat.of(os.stat(file.path)))
            flush_directory(self._directory)
            yield len(batch)
        self._described.save()

    def _changes(self) -> Iterator[tuple[Stored, bytes]]:
        """Yield what the database says, and the new content, for each file that differs."""
        batches = (self._market_ids[start : start + _BATCH] for start in range(0, len(self._market_ids), _BATCH))
        for answers in ask_each(self._database, self._question, batches):
            for stored in answers:
                path = self._path(stored.market_id)
                try:
                    stat = FileStat.of(os.stat(path))
                except FileNotFoundError:
                    yield stored, self._new(stored)
                    continue
                if self._described.is_current(stored, stat):
                    continue
                if (contents := self._old_and_new(stored)) is None:
                    continue
                old, new = contents
                if new != old:
                    yield stored, new
                else:
                    self._described.learn(stored, stat)
