"""Ticks as lines of text: the columns that schema.COLUMNS declares, each distinct piece of text written once.

A line consists of a few pieces. Adjacent columns that show the same array are one piece; so are two with few distinct
texts each (side and level). One `take` concatenates the pieces of all lines: the data buffer of the resulting string
array is the text.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ticks import value_text
from tasks.ticks.schema import TIME, Column, Shown

#: How many lines are joined at once: about 3 MB, which stays in the cache and is reused by the allocator. With 150,000
#: lines the same work takes ten times as long.
_LINES_AT_ONCE = 16_384
#: Two adjacent pieces are merged into one if it has at most so many texts.
_FEW_TEXTS = 128


class Piece(NamedTuple):
    """A part of each line: the distinct texts, and for each line the position of its text."""

    texts: pa.Array
    codes: npt.NDArray[np.integer[Any]]


class Wording(NamedTuple):
    """How a kind of text writes a value: the quotes around values that are not numbers, and the text for null."""

    quote: str
    null: str


JSON, CSV = Wording('"', "null"), Wording("", "")


class _Written(NamedTuple):
    """A column with the text before and after its value."""

    column: Column
    before: str
    after: str


def column_pieces(
    columns: Sequence[tuple[Column, str, str]],
    wording: Wording,
    arrays: Mapping[str, npt.NDArray[Any]],
    traded: npt.NDArray[np.bool_],
    market_id: str = "",
) -> list[Piece]:
    """Return the pieces of columns, each with the text before and after its value.

    arrays: those of the ticks, and sequence; traded: whether a row is a traded one; market_id: of all rows.
    """
    pieces: list[Piece] = []
    for array, written in _groups([_Written(*column) for column in columns]):
        distinct, codes = (None, None) if array is None else _values(written, arrays[array], wording)
        piece = _piece(written, distinct, codes, traded, wording, market_id)
        if pieces and len(pieces[-1].texts) * len(piece.texts) <= _FEW_TEXTS:
            piece = _product(pieces.pop(), piece)
        pieces.append(piece)
    return pieces


def lines(pieces: Sequence[Piece]) -> Iterator[pa.Buffer]:
    """Yield the text of all lines, in buffers of many whole lines."""
    texts = pa.concat_arrays([piece.texts for piece in pieces])
    offsets = np.cumsum([0] + [len(piece.texts) for piece in pieces])
    count = len(pieces[0].codes)
    for start in range(0, count, _LINES_AT_ONCE):
        some = slice(start, start + _LINES_AT_ONCE)
        indices = np.stack(
            [piece.codes[some] + offset for piece, offset in zip(pieces, offsets)],
            axis=1,
            dtype=np.int32,
            casting="unsafe",
        )
        yield texts.take(pa.array(indices.ravel())).buffers()[2]


def joined(*parts: pa.Array | str) -> pa.Array:
    """Return texts concatenated, those of arrays element by element."""
    return pc.binary_join_element_wise(*parts, "")


def _groups(columns: Sequence[_Written]) -> Iterator[tuple[str | None, list[_Written]]]:
    """Yield adjacent columns that show the same array, and that array."""
    array, group = None, list[_Written]()
    for written in columns:
        if written.column.array is not None and array is not None and written.column.array != array:
            yield array, group
            array, group = None, []
        array = array or written.column.array
        group.append(written)
    yield array, group


def _values(group: Sequence[_Written], array: npt.NDArray[Any], wording: Wording) -> tuple[pa.Array, Any]:
    """Return the distinct texts of an array's values, and the position of each row's text."""
    column = next(written.column for written in group if written.column.array is not None)
    if column.words:
        return pa.array([f"{wording.quote}{word}{wording.quote}" for word in column.words]), array
    if pa.types.is_floating(column.type):
        numbers = value_text.floats(array)
        texts = numbers.dictionary
        if wording.quote:  # JSON has no number for these
            texts = pc.if_else(
                pc.is_in(texts, value_set=pa.array(_NO_NUMBERS)), joined(wording.quote, texts, wording.quote), texts
            )
        return texts, numbers.indices.to_numpy()
    written = value_text.times(array) if column.type == TIME else value_text.integers(array)
    quote = wording.quote if column.type == TIME else ""
    return joined(quote, written.dictionary, quote) if quote else written.dictionary, written.indices.to_numpy()


#: (As an array it would load pandas with this module.)
_NO_NUMBERS = ["NaN", "Infinity", "-Infinity"]


def _piece(
    group: Sequence[_Written],
    distinct: pa.Array | None,
    codes: Any,
    traded: npt.NDArray[np.bool_],
    wording: Wording,
    market_id: str,
) -> Piece:
    """Return the piece of a group: the texts of ladder rows, then those of traded rows if they differ."""

    def texts(kind: str) -> tuple[pa.Array, bool]:
        parts: list[pa.Array | str] = []
        for column, before, after in group:
            shown = getattr(column, kind)
            value = distinct if shown is Shown.VALUE else _literal(column, shown, wording, market_id)
            parts += [before, value, after]
        has_values = any(part is distinct for part in parts)
        return (joined(*_merged(parts)) if has_values else pa.array(["".join(parts)])), has_values

    if all(column.ladder == column.traded for column, _, _ in group):
        same, has_values = texts("ladder")
        return Piece(same, codes if has_values else np.zeros(len(traded), np.int32))
    (ladder, has_ladder_values), (trade, has_trade_values) = texts("ladder"), texts("traded")
    of_ladder = codes if has_ladder_values else 0
    of_trade = codes + np.int32(len(ladder)) if has_trade_values else np.int32(len(ladder))
    return Piece(pa.concat_arrays([ladder, trade]), np.where(traded, of_trade, of_ladder))


def _literal(column: Column, shown: Shown | str | None, wording: Wording, market_id: str) -> str:
    if shown is None:
        return wording.null
    quote = wording.quote if column.is_text else ""
    return f"{quote}{market_id if shown is Shown.MARKET_ID else shown}{quote}"


def _merged(parts: Sequence[pa.Array | str]) -> Iterator[pa.Array | str]:
    """Yield parts; adjacent texts are merged into one."""
    for is_text, some in itertools.groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(some)
        else:
            yield from some


def _product(first: Piece, second: Piece) -> Piece:
    """Return two pieces as one, whose texts combine each of the first with each of the second."""
    few, many = np.arange(len(first.texts)), np.arange(len(second.texts))
    texts = joined(
        first.texts.take(pa.array(np.repeat(few, len(many)))), second.texts.take(pa.array(np.tile(many, len(few))))
    )
    return Piece(texts, first.codes.astype(np.int32) * np.int32(len(many)) + second.codes)
