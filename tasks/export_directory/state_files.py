"""The files in states/: made of the lifecycle rows of the database, and of what they say already."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence

from tasks.errors import DamagedFile
from tasks.export_directory import market_results, market_states
from tasks.export_directory.metadata_states import Described
from tasks.postgres.database import Database
from tasks.postgres.lifecycle import LifecycleRows, lifecycle_rows
from tasks.postgres.parallel_questions import ask_each
from tasks.postgres.settlement import settlements
from tasks.storage.atomic_files import NewFile, flush_all_to_disk, flush_directory, replacing
from tasks.storage.file_identity import FileStat
from tasks.storage.layout import Layout

_BATCH = 250
_FILES_AT_ONCE = 200
_EXAMPLE = market_states.render("1.1", [market_states.State(0, 1, 0, "OPEN", False)])


class StateFiles:
    """The states of some markets. A file that was found to say what the database says is not read again.

    failed: why the states of markets could not be made, once they were asked for.
    """

    def __init__(self, database: Database, layout: Layout, market_ids: Sequence[str]) -> None:
        self._database, self._layout, self._market_ids = database, layout, market_ids
        self._described = Described(layout.stated, rendering=_EXAMPLE)
        self.failed: dict[str, str] = {}

    def are_current(self) -> bool:
        """Return whether every file says what the database says."""
        return self._new_results() is None and next(self._changes(), None) is None and not self.failed

    def remember(self) -> None:
        """Write down what was found out, so that a file that nobody touches need not be read again."""
        self._described.save()

    def write(self) -> Iterator[int]:
        """Write the files that do not, many together; yield how many were written each time."""
        if (results := self._new_results()) is not None:
            with replacing(self._layout.results) as file:
                file.write(results)
        changes = self._changes()
        while batch := list(itertools.islice(changes, _FILES_AT_ONCE)):
            with contextlib.ExitStack() as unpublished:
                written = []
                for rows, content in batch:
                    file = unpublished.enter_context(NewFile(self._layout.states_file(rows.market_id)))
                    file.write(content)
                    file.finish()
                    written.append(file)
                flush_all_to_disk(written)
                for (rows, _), file in zip(batch, written, strict=True):
                    file.publish()
                    self._described.learn(rows, FileStat.of(os.stat(file.path)))
            flush_directory(self._layout.states_dir)
            yield len(batch)
        self._described.save()

    def _new_results(self) -> bytes | None:
        """Return the content that results.parquet shall have, None where it has it, or there is nothing to say."""
        path = self._layout.results
        now = settlements(self._database)
        rows = market_results.merged(now, market_results.read_rows(path))
        wanted = market_results.render(rows)
        return None if not rows or path.exists() and path.read_bytes() == wanted else wanted

    def _changes(self) -> Iterator[tuple[LifecycleRows, bytes]]:
        """Yield what the database says and the new content of each file that is not as it should be."""
        batches = (self._market_ids[start : start + _BATCH] for start in range(0, len(self._market_ids), _BATCH))
        for markets in ask_each(self._database, lifecycle_rows, batches):
            for rows in markets:
                path = self._layout.states_file(rows.market_id)
                seen = list(zip(rows.times, rows.statuses, rows.in_plays))
                try:
                    stat = FileStat.of_path(path)
                except FileNotFoundError:
                    yield rows, market_states.render(rows.market_id, market_states.intervals(seen))
                    continue
                if self._described.is_current(rows, stat):
                    continue
                try:
                    before = market_states.read(self._layout, rows.market_id)
                except DamagedFile as error:
                    self.failed[rows.market_id] = f"{error} Delete the file: BuildStates makes it of the database."
                    continue
                wanted = market_states.render(rows.market_id, market_states.merged(seen, before))
                if wanted != path.read_bytes():
                    yield rows, wanted
                else:
                    self._described.learn(rows, stat)
