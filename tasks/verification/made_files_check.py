"""Check the files that are made from market files or stored beside them: states, results, streams, runner summary,
condition, report, catalogue.

A file that is not as it was written is a difference; one whose inputs have changed since is a note.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tasks.errors import DamagedFile, UsageError
from tasks.export_directory import catalogue_sql, market_results, market_states
from tasks.export_directory.index_csv import IndexRow
from tasks.export_directory.market_states import Seen, State
from tasks.postgres.database import Database
from tasks.postgres.lifecycle import lifecycle_rows
from tasks.postgres.settlement import Settled, settlements
from tasks.runner_summaries import summary_file
from tasks.storage.file_identity import file_checksum
from tasks.storage.layout import Layout
from tasks.stream_files import stream_file
from tasks.ticks.value_text import counted
from tasks.verification.difference import Difference

_STATES = "Delete it and run BuildStates while the database has the market"
_STREAMS, _SUMMARY, _REPORT = (f"Run {task}" for task in ("BuildStreams", "BuildRunnerSummary", "Report"))
_BATCH = 250


def check_made_files(
    layout: Layout, rows: Mapping[str, IndexRow], database: Database | None, settle_us: int
) -> tuple[list[Difference], list[str]]:
    """Return differences and notes. A file that was never made is not a difference.

    settle_us: how long lifecycle rows may still arrive late.
    """
    found: list[Difference] = []
    notes: list[str] = []
    states = _read_states(layout, rows, found)
    results = _read_results(layout, found)
    if database is not None:
        _compare_states(layout, states, database, settle_us, found, notes)
        if results is not None and layout.results.exists():
            _compare_results(layout, results, settlements(database), found, notes)
    if found:  # the files made from them cannot be judged
        notes += ["streams and runner summary were not checked, because states/ has differences"]
    else:
        found += _streams(layout, rows, notes)
        found += _summary(layout, rows, notes)
    found += _report(layout)
    _catalogue(layout, rows, notes)
    return found, notes


def _read_states(layout: Layout, rows: Mapping[str, IndexRow], found: list[Difference]) -> dict[str, list[State]]:
    """Return the states of each market that has a file; add the faults of the file itself."""
    states = {}
    for market_id in rows:
        path = layout.states_file(market_id)
        if not path.exists():
            continue
        name = _name(layout, path)
        try:
            table = market_states.read_table(path)
            its = market_states.read(layout, market_id)
        except DamagedFile as error:
            found.append(
                Difference(market_id, name, "content", str(error).removeprefix(f"{path}: "), "states", _STATES)
            )
            continue
        ids = table.column("market_id").unique().to_pylist()
        if ids not in ([], [market_id]):
            found.append(Difference(market_id, name, "market_id", ids, market_id, _STATES))
        elif any(not _follow(*two) for two in zip(its, [*its[1:], None])):
            found.append(Difference(market_id, name, "intervals", "others", "one after the other, in order", _STATES))
        else:
            states[market_id] = its
    return states


def _follow(state: State, after: State | None) -> bool:
    """Return whether an interval is valid, and does not overlap the next one."""
    until_us = None if after is None else after.from_us
    return (
        state.from_us <= state.last_seen_us
        and state.until_us == until_us
        and (until_us is None or state.last_seen_us < until_us)
    )


def _read_results(layout: Layout, found: list[Difference]) -> list[Settled] | None:
    try:
        return market_results.read_rows(layout.results)
    except DamagedFile as error:
        what = str(error).removeprefix(f"{layout.results}: ")
        found.append(Difference("", _name(layout, layout.results), "content", what, "results", _STATES))
        return None


def _compare_states(
    layout: Layout,
    states: Mapping[str, Sequence[State]],
    database: Database,
    settle_us: int,
    found: list[Difference],
    notes: list[str],
) -> None:
    ids = list(states)
    newer = 0
    for start in range(0, len(ids), _BATCH):
        for rows in lifecycle_rows(database, ids[start : start + _BATCH]):
            seen = list(zip(rows.times, rows.statuses, rows.in_plays))
            here = list(states[rows.market_id])
            is_newer = not here or seen[-1][0] > here[-1].last_seen_us
            newer += is_newer
            if not here:
                continue
            until_us = here[-1].last_seen_us - (settle_us if is_newer else 0)
            expected = _expected([row for row in seen if row[0] <= until_us], here, until_us)
            if here != expected:
                one, other = next(pair for pair in zip([*here, None], [*expected, None]) if pair[0] != pair[1])
                found.append(
                    Difference(
                        rows.market_id,
                        _name(layout, layout.states_file(rows.market_id)),
                        "an interval",
                        one,
                        f"{other} (database)",
                        _STATES,
                    )
                )
    if newer:
        notes.append(f"states/: the database has newer rows for {counted(newer, 'market')}; BuildStates adds them")


def _expected(seen: Sequence[Seen], here: Sequence[State], until_us: int) -> list[State]:
    """Return what the file should contain: the database's rows up to a time, and the file's own before and after them.

    Rows older than all of the database's have been dropped there.
    """
    since_us = seen[0][0] if seen else until_us + 1
    kept = [
        (moment, state.status, state.in_play)
        for state in here
        for moment in sorted({state.from_us, state.last_seen_us})
        if moment < since_us or moment > until_us
    ]
    return market_states.intervals(sorted([*seen, *kept], key=lambda row: row[0]))


def _compare_results(
    layout: Layout, here: Sequence[Settled], there: Sequence[Settled], found: list[Difference], notes: list[str]
) -> None:
    ours: dict[str, list[Settled]] = {}
    theirs: dict[str, list[Settled]] = {}
    for rows, of in ((here, ours), (there, theirs)):
        for row in rows:
            of.setdefault(row.market_id, []).append(row)
    for market_id in sorted(ours.keys() & theirs.keys()):
        if ours[market_id] != theirs[market_id]:
            what = [[(row.selection_id, row.result) for row in of[market_id]] for of in (ours, theirs)]
            found.append(
                Difference(
                    market_id,
                    _name(layout, layout.results),
                    "results",
                    what[0],
                    f"{what[1]} (database)",
                    "Run BuildStates if the database is right",
                )
            )
    if new := theirs.keys() - ours.keys():
        notes.append(
            f"{_name(layout, layout.results)}: {counted(len(new), 'new settlement')} in the database; BuildStates adds"
            " them"
        )


def _streams(layout: Layout, rows: Mapping[str, IndexRow], notes: list[str]) -> Iterator[Difference]:
    older = 0
    for market_id, row in rows.items():
        stream, catalogue = layout.stream_file(market_id), layout.stream_catalogue(market_id)
        if not stream.exists() and not catalogue.exists():
            continue
        for path, what, here, there in stream_file.flaws(layout, row):
            yield Difference(market_id, _name(layout, path), what, here, there, _STREAMS)
        older += not stream_file.is_of_now(layout, row)
    if older:
        notes.append(
            f"streams/: {counted(older, 'stream')} made from files that have changed since; BuildStreams rebuilds them"
        )


def _summary(layout: Layout, rows: Mapping[str, IndexRow], notes: list[str]) -> Iterator[Difference]:
    if not layout.runner_summary.exists() and not layout.runner_summary_csv.exists():
        return
    is_whole = True
    for path, what, here, there in summary_file.flaws(layout):
        is_whole = False
        yield Difference("", _name(layout, path), what, here, there, _SUMMARY)
    if is_whole and not summary_file.is_current(layout, rows):
        notes.append(
            f"{layout.runner_summary.name}: made from files that have changed since, or not from all markets;"
            " BuildRunnerSummary rebuilds it"
        )


def _report(layout: Layout) -> Iterator[Difference]:
    """Yield where condition.json or report.html is not as Report wrote it, according to the journal."""
    try:
        checksums = json.loads(layout.report_state.read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for path, expected in zip((layout.condition, layout.report_page), checksums):
        if not path.exists():
            yield Difference("", path.name, "the file", "nothing", "what Report has written", _REPORT)
        elif (found := file_checksum(path)) != expected:
            yield Difference("", path.name, "checksum", found, f"{expected}, as Report has written it", _REPORT)


def _catalogue(layout: Layout, rows: Mapping[str, IndexRow], notes: list[str]) -> None:
    with contextlib.suppress(FileNotFoundError, UsageError):
        if layout.catalogue.read_bytes() != catalogue_sql.text(layout, rows).encode():
            notes.append(f"{layout.catalogue.name}: not as BuildCatalogue would write it now; run it again")


def _name(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.output_dir).as_posix()
