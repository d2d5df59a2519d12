"""Values as text."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.ticks import value_text


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


def test_columns_are_joined_row_by_row():
    sizes = value_text.floats(np.array([1.5, 2.0, 1.5]))
    numbers = value_text.integers(np.array([3, 3, -4]))
    assert (
        bytes(value_text.join([value_text.wrap("<", sizes, ","), value_text.wrap("", numbers, ">\n")]))
        == b"<1.5,3>\n<2,3>\n<1.5,-4>\n"
    )
    assert bytes(value_text.join([sizes.slice(0, 0)])) == b""
