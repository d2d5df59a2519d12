"""The walk: one bit of each byte of a market file is flipped, and no run calls that a good file.

All copies lie in one export, a market a byte, so that one run meets all of them. By default a seeded choice of bytes;
all of them with `pytest tests/faults/test_walk.py --walk`.
"""

import random
import re
import shutil

import pytest

from tests.conftest import Pipeline, new_source

_SEEDED = 40
_EARLY, _LATE = "2026-02-05 10:00+00", "2026-02-06 10:00+00"


def name_of(number):
    """Return the id of the market whose byte of this number is flipped."""
    return f"1.{100_000_000 + number}"


def add_message(source, numbers, time):
    """Add a message of two ladder rows and a traded one to many markets."""
    source.query(
        "INSERT INTO stream_ingest.ladder_levels SELECT '1.' || n + 100000000, 7, side, 0, 2.5, mod(n, 97) + 0.25,"
        " timestamptz %s, timestamptz %s FROM unnest(%s::int[]) AS n, unnest(ARRAY['B', 'L']) AS side",
        time,
        time,
        list(numbers),
    )
    source.query(
        "INSERT INTO stream_ingest.traded_volume"
        " SELECT '1.' || n + 100000000, 7, 2.5, mod(n, 89) + 0.5, timestamptz %s,"
        " timestamptz %s FROM unnest(%s::int[]) AS n",
        time,
        time,
        list(numbers),
    )


@pytest.fixture(scope="module", params=["parquet", "jsonl"])
def walked(request, server, tmp_path_factory):
    """An export with a market for each byte to flip: pipeline, options, files, an older index, what to flip."""
    directory = tmp_path_factory.mktemp("walk")
    options = ("--format", request.param, "--export-metadata", "false", "--workers", "2")
    probe = new_source(server)
    for day in ("2026-02-05", "2026-02-06"):
        probe.partition(day)
    for time in (_EARLY, _LATE):
        add_message(probe, [0], time)
    first = Pipeline(directory / "probe", probe.environment)
    assert first.run("ExportAll", *options).returncode == 0
    length = first.market(name_of(0), request.param).stat().st_size
    if request.config.getoption("--walk"):
        numbers = range(length)
    else:
        numbers = sorted(random.Random(15).sample(range(length), _SEEDED))
    source = new_source(server)
    for day in ("2026-02-05", "2026-02-06"):
        source.partition(day)
    pipeline = Pipeline(directory / "out", source.environment)
    add_message(source, numbers, _EARLY)
    assert pipeline.run("ExportAll", *options).returncode == 0
    older_index = (pipeline.output_dir / "index.csv").read_bytes()
    add_message(source, numbers, _LATE)
    assert pipeline.run("ExportAll", *options).returncode == 0
    good = {
        number: content
        for number in numbers
        if number < len(content := pipeline.market(name_of(number), request.param).read_bytes())
    }
    assert len(good) > 0.9 * len(numbers)
    print(f"\n{request.param}: {len(good)} of {length} bytes are flipped")
    return source, pipeline, options, request.param, good, older_index


def flip(pipeline, format, good, seed):
    """Flip one bit of one byte of each market's file."""
    chance = random.Random(seed)
    for number, content in good.items():
        path = pipeline.market(name_of(number), format)
        bad = bytearray(content)
        bad[number] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)


def right(pipeline, format, good):
    """Return the numbers of the markets whose file has its right bytes."""
    paths = {number: pipeline.market(name_of(number), format) for number in good}
    return {number for number, path in paths.items() if path.exists() and path.read_bytes() == good[number]}


def named(pipeline, good):
    """Return the numbers of the markets that the report says failed, each with its reason."""
    report = (pipeline.output_dir / "execution_report.txt").read_text()
    found = dict(re.findall(r"^  '([^']+)': (.*)$", report, re.MULTILINE))
    return {number: found[name_of(number)] for number in good if name_of(number) in found}


def clear_aside(pipeline):
    """Remove what was set aside."""
    for path in pipeline.output_dir.glob("markets/*.damaged*"):
        path.unlink()


def as_it_was(pipeline, older_index):
    """Leave the index."""


def deleted(pipeline, older_index):
    """Delete the index."""
    (pipeline.output_dir / "index.csv").unlink()


def deleted_with_journal(pipeline, older_index):
    """Delete the index and the journal."""
    (pipeline.output_dir / "index.csv").unlink()
    shutil.rmtree(pipeline.output_dir / ".journal")


def edited(pipeline, older_index):
    """Change counts and checksums in the index."""
    path = pipeline.output_dir / "index.csv"
    path.write_bytes(path.read_bytes().replace(b",6,2,", b",5,2,").replace(b"a", b"b"))


def of_another_day(pipeline, older_index):
    """Put the index of another day in its place."""
    (pipeline.output_dir / "index.csv").write_bytes(older_index)


INDEXES = [as_it_was, deleted, deleted_with_journal, edited, of_another_day]


def test_no_flipped_bit_is_ever_blessed(walked):
    source, pipeline, options, format, good, older_index = walked
    whole = set(good)
    indexes = INDEXES
    if len(good) <= _SEEDED:  # a share each: a run takes seconds
        indexes = [deleted, of_another_day] if format == "parquet" else [as_it_was, edited]
    for seed, index in enumerate(indexes):
        flip(pipeline, format, good, seed)
        index(pipeline, older_index)
        result = pipeline.run("ExportAll", *options)
        assert "Traceback" not in result.stderr, result.stderr
        assert result.returncode in (0, 30), result.stderr
        mended = right(pipeline, format, good)
        told = named(pipeline, good) if result.returncode == 30 else {}
        print(f"{format}, index {index.__name__}: {len(mended)} mended, {len(told)} named")
        assert mended | told.keys() == whole, sorted(whole - mended - told.keys())[:20]
        for number in whole - mended:  # a file that calls itself a later version's is left alone
            assert "Update the pipeline" in told[number]
            pipeline.market(name_of(number), format).write_bytes(good[number])
        clear_aside(pipeline)
        assert pipeline.run("ExportAll", *options).returncode == 0
    source.query("DROP TABLE stream_ingest.ladder_20260205")
    for seed, index in enumerate(indexes, len(indexes)):
        flip(pipeline, format, good, seed)
        index(pipeline, older_index)
        for number in range(2 if index is indexes[0] else 1):
            result = pipeline.run("ExportAll", *options)
            assert result.returncode == 30 and "Traceback" not in result.stderr, result.stderr
            told = named(pipeline, good)
            print(f"{format}, partition dropped, index {index.__name__}, run {number + 1}: {len(told)} named")
            assert told.keys() == whole, sorted(whole - told.keys())[:20]
        clear_aside(pipeline)
        for number, content in good.items():
            pipeline.market(name_of(number), format).write_bytes(content)
        result = pipeline.run("ExportAll", *options)
        assert result.returncode == 0, result.stderr
        assert right(pipeline, format, good) == whole
