"""The files in states/: made from the lifecycle rows of the database and from what the files already contain."""

from collections.abc import Iterator, Sequence

from tasks.errors import DamagedFile, NewerVersion
from tasks.export_directory import market_results, market_states
from tasks.export_directory.described_files import DescribedFiles
from tasks.export_directory.metadata_states import Described
from tasks.postgres.database import Database
from tasks.postgres.lifecycle import LifecycleRows, lifecycle_rows
from tasks.postgres.settlement import settlements
from tasks.storage.atomic_files import make_directory, replacing
from tasks.storage.layout import Layout

_EXAMPLE = market_states.render("1.1", [market_states.State(0, 1, 0, "OPEN", False)])


class StateFiles(DescribedFiles[LifecycleRows]):
    """The states of some markets, and the results of all."""

    def __init__(self, database: Database, layout: Layout, market_ids: Sequence[str]) -> None:
        described = Described(layout.stated, rendering=_EXAMPLE)
        super().__init__(database, lifecycle_rows, market_ids, layout.states_dir, described)
        self._layout = layout

    def are_current(self) -> bool:
        """Return whether every file agrees with the database."""
        return self._new_results() is None and super().are_current()

    def write(self) -> Iterator[int]:
        """Write the files that differ, many at a time; yield how many were written each time."""
        if (results := self._new_results()) is not None:
            make_directory(self._layout.states_dir)
            with replacing(self._layout.results) as file:
                file.write(results)
        yield from super().write()

    def _new_results(self) -> bytes | None:
        """Return the content that results.parquet should have; None if it has it, or if there are no results."""
        path = self._layout.results
        now = settlements(self._database)
        rows = market_results.merged(now, market_results.read_rows(path))
        wanted = market_results.render(rows)
        return None if not rows or path.exists() and path.read_bytes() == wanted else wanted

    def _path(self, market_id: str) -> str:
        return str(self._layout.states_file(market_id))

    def _new(self, stored: LifecycleRows) -> bytes:
        return market_states.render(stored.market_id, market_states.intervals(_seen(stored)))

    def _old_and_new(self, stored: LifecycleRows) -> tuple[bytes, bytes] | None:
        market_id = stored.market_id
        try:
            before = market_states.read(self._layout, market_id)
        except NewerVersion as error:
            self.failed[market_id] = str(error)
            return None
        except DamagedFile as error:
            self.failed[market_id] = f"{error} Delete the file: BuildStates rebuilds it from the database."
            return None
        wanted = market_states.render(market_id, market_states.merged(_seen(stored), before))
        return self._layout.states_file(market_id).read_bytes(), wanted


def _seen(stored: LifecycleRows) -> list[tuple[int, str | None, bool | None]]:
    return list(zip(stored.times, stored.statuses, stored.in_plays))
