"""VerifyExport: states, results, streams, runner summary, condition and report are as they were written."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tasks.export_directory import market_results, market_states
from tasks.postgres.database import Database
from tasks.postgres.server import Server
from tasks.storage.layout import Layout
from tasks.verification.export_check import verify
from tests.conftest import Pipeline, new_source


@pytest.fixture(scope="module")
def demo(server):
    """A database with the small demo's recording."""
    source = new_source(server)
    load(Recording.tiny(), server.conninfo(source.name))
    return source


@pytest.fixture(scope="module")
def whole(demo, tmp_path_factory):
    """Its export with all that can be made of it, never changed."""
    pipeline = Pipeline(tmp_path_factory.mktemp("made") / "export", demo.environment)
    for arguments in (("ExportAll", "--streams"), ("BuildRunnerSummary",)):
        result = pipeline.run(*arguments)
        assert result.returncode == 0, result.stderr
    return pipeline.output_dir


@pytest.fixture
def export(whole, tmp_path) -> Layout:
    """A copy of the export, to be damaged."""
    shutil.copytree(whole, tmp_path / "export")
    return Layout(tmp_path / "export")


def verified(layout, source=None):
    """Return differences and notes as text."""
    if source is None:
        verdict = verify(layout, None, 0)
    else:
        with Database(Server.from_environment(source.environment)) as database:
            verdict = verify(layout, database, 0)
    return [str(difference) for difference in verdict.differences], verdict.notes


def largest(layout):
    """Return the market whose stream is the largest."""
    return max(layout.streams_dir.glob("*.bz2"), key=lambda path: path.stat().st_size).stem


def change(path, place):
    """Change a byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_was_just_made_is_as_it_was_made(export, demo):
    for source in (None, demo):
        found, notes = verified(export, source)
        assert not found and not [note for note in notes if "BuildS" in note or "BuildR" in note]


@pytest.mark.parametrize("place", [0, 40, 1000, -1])
def test_a_changed_byte_in_a_stream_is_found(export, place):
    market_id = largest(export)
    change(export.stream_file(market_id), place)
    (found,), _ = verified(export)
    assert (
        found.startswith(f"market {market_id}: streams/{market_id}.bz2: checksum: found ") and "BuildStreams" in found
    )


def test_a_stream_or_a_catalogue_alone_is_found(export):
    first, second = sorted(path.stem for path in export.streams_dir.glob("*.bz2"))[:2]
    export.stream_file(first).unlink()
    export.stream_catalogue(second).unlink()
    found, _ = verified(export)
    assert [line.partition(": found")[0] for line in found] == [
        f"market {first}: streams/{first}.bz2: the file",
        f"market {second}: streams/{second}.json: content",
    ]


def test_a_catalogue_that_says_something_else_is_found(export):
    path = export.stream_catalogue(largest(export))
    known = json.loads(path.read_bytes())
    known["marketName"] += " 2"
    path.write_text(json.dumps(known, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (found,), _ = verified(export)
    assert f"{path.stem}.json: content: found something else" in found


def test_a_stream_of_what_has_changed_since_is_a_note(export):
    market_id = largest(export)
    path = export.stream_catalogue(market_id)
    known = json.loads(path.read_bytes())
    known["stream"]["madeOf"]["metadata"] = "0" * 64
    path.write_text(json.dumps(known))
    found, notes = verified(export)
    assert not found and [
        note for note in notes if note.startswith("streams/: 1 stream made from files that have changed since")
    ]


def test_a_changed_summary_is_found(export):
    content = export.runner_summary_csv.read_bytes()
    export.runner_summary_csv.write_bytes(content.replace(b"1", b"2", 1))
    (found,), _ = verified(export)
    assert found.startswith("runner_summary.csv: checksum: ") and "BuildRunnerSummary" in found
    export.runner_summary_csv.write_bytes(content)
    table = pq.read_table(export.runner_summary)
    column = table.schema.get_field_index("back_0s")
    pq.write_table(
        table.set_column(column, table.schema.field(column), pa.nulls(len(table), pa.float64())), export.runner_summary
    )
    (found,), _ = verified(export)
    assert found.startswith("runner_summary.parquet: content: found something else")
    export.runner_summary.write_bytes(export.runner_summary.read_bytes()[:-5])
    (found,), _ = verified(export)
    assert found.startswith("runner_summary.parquet: content: ")


@pytest.mark.parametrize("name", ["condition.json", "report.html"])
def test_condition_and_report_are_as_they_were_written(export, name):
    path = export.output_dir / name
    change(path, path.stat().st_size // 2)
    (found,), _ = verified(export)
    assert found.startswith(f"{name}: checksum: ") and "Run Report" in found
    path.unlink()
    (found,), _ = verified(export)
    assert found.startswith(f"{name}: the file: found nothing")


def test_damaged_states_are_found_and_nothing_is_judged_by_them(export):
    path = next(path for path in sorted(export.states_dir.glob("marketId*")) if path.stat().st_size)
    change(path, 30)
    (found,), notes = verified(export)
    assert f"states/{path.name}: content: " in found and any("because states/ has differences" in n for n in notes)


def forged(export, alter):
    """Alter the states of the market with most of them; return its id."""
    every = {path: market_states.read(export, path.stem[9:]) for path in export.states_dir.glob("marketId*")}
    path = max(sorted(every), key=lambda path: len(every[path]))
    market_id = path.stem[9:]
    path.write_bytes(market_states.render(market_id, alter(every[path])))
    return market_id


@pytest.mark.parametrize(
    "alter",
    [
        lambda states: [states[0]._replace(status="CLOSED"), *states[1:]],
        lambda states: [*states[:-1], states[-1]._replace(in_play=not states[-1].in_play)],
        lambda states: [states[0]._replace(until_us=states[2].from_us), *states[2:]],
    ],
)
def test_states_that_the_database_does_not_say_are_found(export, demo, alter):
    market_id = forged(export, alter)
    found, _ = verified(export, demo)
    assert len(found) == 1 and f"states/marketId={market_id}.parquet: an interval: found State(" in found[0]


def test_intervals_out_of_order_are_found_without_a_database(export):
    market_id = forged(export, lambda states: [states[1], states[0], *states[2:]])
    (found,), _ = verified(export)
    assert f"states/marketId={market_id}.parquet: intervals: " in found


def test_newer_lifecycle_rows_and_settlements_are_notes(export, demo):
    market_id = forged(export, lambda states: [*states[:-2], states[-2]._replace(until_us=None)])
    rows = market_results.read_rows(export.results)
    export.results.write_bytes(market_results.render([row for row in rows if row.market_id != rows[0].market_id]))
    found, notes = verified(export, demo)
    assert not found, market_id
    assert any(note.startswith("states/: the database has newer rows for 1 market;") for note in notes)
    assert any(note.startswith("states/results.parquet: 1 new settlement in the database") for note in notes)


def test_other_results_than_the_databases_are_found(export, demo):
    rows = market_results.read_rows(export.results)
    row = next(row for row in rows if row.result == "WINNER")
    export.results.write_bytes(
        market_results.render([one._replace(result="LOSER") if one == row else one for one in rows])
    )
    found, _ = verified(export, demo)
    assert len(found) == 1 and f"market {row.market_id}: states/results.parquet: results: found [" in found[0]
