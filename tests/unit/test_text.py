"""Values as text."""

import itertools
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.ticks import value_text
from tasks.ticks.row_text import CSV, JSON, Piece, column_pieces, lines
from tasks.ticks.schema import COLUMNS
from tasks.ticks.tick_arrays import TRADED
from tests.conftest import TWO_TICKS


@given(st.floats())
@example(-0.0)
def test_floats_read_back_as_the_same_double(value):
    written = value_text.floats(np.array([value])).to_pylist()[0]
    if math.isfinite(value):
        assert (
            struct.pack("d", float(written)) == struct.pack("d", float(json.loads(written))) == struct.pack("d", value)
        )
        digits = [len(number.split("e")[0].strip("-").replace(".", "").strip("0")) for number in (repr(value), written)]
        assert digits[1] <= digits[0], "shortest"
    else:
        assert written == {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_times_are_iso_with_microseconds_and_read_back(moment):
    written = value_text.time_text(moment)
    assert value_text.times(np.array([moment])).to_pylist() == [written]
    assert len(written) == len("2026-02-05T12:10:54.031000Z") and value_text.parse_time(written) == moment


@pytest.mark.parametrize("wrong", ["", "2026-02-05", "2026-02-05T12:10:54Z", "2026-02-30T12:10:54.031000Z", "x"])
def test_no_time(wrong):
    with pytest.raises(ValueError):
        value_text.parse_time(wrong)


def test_pieces_are_joined_line_by_line():
    sizes = value_text.floats(np.array([1.5, 2.0, 1.5]))
    numbers = value_text.integers(np.array([3, 3, -4]))
    pieces = [Piece(sizes.dictionary, sizes.indices.to_numpy()), Piece(numbers.dictionary, numbers.indices.to_numpy())]
    assert b"".join(map(bytes, lines(pieces))) == b"1.53231.5-4"
    assert not list(lines([Piece(sizes.dictionary, np.zeros(0, np.int64))]))


@pytest.mark.parametrize("values", [[0], [7, 0, 7], [4095], [4096, 0], [-1, 3], [2**62, -(2**62)]])
def test_integers(values):
    assert value_text.integers(np.array(values)).to_pylist() == list(map(str, values))


@pytest.mark.parametrize("wording, null", [(JSON, b"null"), (CSV, b"")])
def test_a_piece_of_any_mixture_of_columns(wording, null):
    """Every row by itself is what all rows together are, whatever columns stand side by side."""
    arrays = vars(TWO_TICKS) | {"sequence": TWO_TICKS.sequence()}
    traded = TWO_TICKS.side == TRADED
    for pair in itertools.permutations(COLUMNS, 2):
        columns = [(column, "<", ">") for column in pair]
        together = b"".join(map(bytes, lines(column_pieces(columns, wording, arrays, traded, "1.5"))))
        apart = [
            b"".join(
                bytes(buffer)
                for column in columns
                for buffer in lines(
                    column_pieces(
                        [column], wording, {name: array[row] for name, array in arrays.items()}, traded[row], "1.5"
                    )
                )
            )
            for row in (slice(0, 1), slice(1, 2))
        ]
        assert together == b"".join(apart)
    in_play = next(column for column in COLUMNS if column.name == "in_play")
    assert bytes(next(lines(column_pieces([(in_play, "", ";")], wording, arrays, traded)))) == (null + b";") * 2
