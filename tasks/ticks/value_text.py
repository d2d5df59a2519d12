"""Values as text, the same in JSONL, CSV, index and reports; each distinct value is rendered once, not in each row."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from tasks.ticks.sort_keys import Ints

_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
#: Integers below it are looked up in a list of all of them.
_SMALL = 4_096
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def time_text(microseconds: int) -> str:
    """Return a time as 2026-02-05T12:10:54.031000Z."""
    return str(np.datetime64(microseconds, "us")) + "Z"


def time_texts(microseconds: Sequence[int | None]) -> list[str]:
    """Return times as texts, an empty one for None."""
    texts = np.datetime_as_string(
        np.array([moment or 0 for moment in microseconds], "datetime64[us]"), unit="us", timezone="UTC"
    )
    return ["" if moment is None else str(written) for moment, written in zip(microseconds, texts, strict=True)]


def parse_time(text: str) -> int:
    """Return the microseconds since 1970 of a text made by time_text. Raises ValueError for any other."""
    return int(np.datetime64(_checked(text)[:-1], "us").astype(np.int64))


def parse_times(texts: Sequence[str]) -> list[int | None]:
    """Return the microseconds since 1970 of texts made by time_text, None for an empty one.

    Raises ValueError for any other text.
    """
    moments = (
        np.array([_checked(text)[:-1] if text else "NaT" for text in texts], "datetime64[us]").astype(np.int64).tolist()
    )
    return [moment if text else None for text, moment in zip(texts, moments, strict=True)]


def _checked(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not a time like 2026-02-05T12:10:54.031000Z")
    return text


def counted(number: int, thing: str) -> str:
    """Return a number with what it counts: 1 slice, 1,200 slices."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def size_text(size_bytes: float) -> str:
    """Return a size as people read it: 12.3MB"""
    return str(tqdm.format_sizeof(size_bytes, "B"))


def times(microseconds: Ints) -> pa.DictionaryArray:
    """Return times as text, one per row."""
    encoded = pa.array(microseconds).dictionary_encode()
    distinct = np.datetime_as_string(encoded.dictionary.to_numpy().view("datetime64[us]"), unit="us", timezone="UTC")
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(distinct, pa.string()))


def floats(values: npt.NDArray[np.float64]) -> pa.DictionaryArray:
    """Return numbers as the shortest decimal that reads back as the same double; NaN, Infinity, -Infinity as words.

    Minus zero is -0.0, because a JSON reader takes -0 for an integer and drops the sign.
    """
    encoded = pa.array(values).dictionary_encode()
    distinct = pc.cast(encoded.dictionary, pa.string())
    distinct = pc.if_else(pc.equal(distinct, "-0"), "-0.0", distinct)
    if not bool(np.all(np.isfinite(encoded.dictionary.to_numpy()))):
        distinct = pa.array([_NOT_FINITE.get(text, text) for text in distinct.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, distinct)


def integers(values: npt.NDArray[np.integer[Any]]) -> pa.DictionaryArray:
    """Return integers as text. Small ones are looked up by their value."""
    if len(values) and 0 <= values.min() and values.max() < _SMALL:
        texts = pc.cast(pa.array(np.arange(int(values.max()) + 1)), pa.string())
        return pa.DictionaryArray.from_arrays(values.astype(np.int32), texts)
    encoded = pa.array(values).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, pc.cast(encoded.dictionary, pa.string()))
