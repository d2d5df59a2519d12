"""Sort many columns as one integer: rank and pack them."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

#: Betfair's highest price, 1000.
_MOST_HUNDREDTHS = 100_000


def dense_rank(values: npt.NDArray[Any]) -> Ints:
    """Number the distinct values 0, 1, 2 … in ascending order.

    NaN is one value, after all others (as in PostgreSQL); 0.0 and -0.0 are one value. A recorder's rows have runs of
    equal values (for a message, for a runner): only the first of each run is looked up, by a hash if they do not
    ascend.
    """
    if len(values) == 0:
        return np.zeros(0, np.int64)
    is_first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    heads = values[starts]
    if bool(np.all(heads[1:] > heads[:-1])):
        ranks = np.arange(len(heads))
    else:
        encoded = pa.array(heads).dictionary_encode()
        _, order = np.unique(encoded.dictionary.to_numpy(zero_copy_only=False), return_inverse=True)
        ranks = order.astype(np.int64)[encoded.indices.to_numpy()]
    return np.repeat(ranks, np.diff(starts, append=len(values)))


def price_rank(prices: npt.NDArray[np.float64]) -> Ints:
    """Number prices in ascending order, equal ones alike. Betfair's prices are multiples of 0.01, so their hundredths
    are used as numbers, which takes a fifth of dense_rank's time.
    """
    with np.errstate(over="ignore"):
        hundredths = np.rint(prices * 100)
    if np.all((hundredths / 100 == prices) & (hundredths >= 0) & (hundredths <= _MOST_HUNDREDTHS)):
        return hundredths.astype(np.int64)
    return dense_rank(prices)


def pack(ranks: Sequence[Ints]) -> Ints:
    """Join non-negative integers, the most significant first, into one integer per row that sorts the same way.

    If the bits do not fit, rows are ranked by a full sort instead: the result has the same order and equalities.
    """
    if len(ranks[0]) == 0:
        return np.zeros(0, np.int64)
    bits = [int(column.max()).bit_length() for column in ranks]
    if sum(bits) <= 63:
        return functools.reduce(lambda key, column: (key << column[1]) | column[0], zip(ranks[1:], bits[1:]), ranks[0])
    order = np.lexsort(tuple(reversed(ranks)))
    changed = np.zeros(len(order), bool)
    for column in ranks:
        ordered = column[order]
        changed[1:] |= ordered[1:] != ordered[:-1]
    key = np.empty(len(order), np.int64)
    key[order] = np.cumsum(changed)
    return key


def ascending_order(key: Ints) -> Ints | None:
    """Return the stable order that sorts the key, None if it is sorted already."""
    if bool(np.all(key[1:] >= key[:-1])):
        return None
    return np.argsort(key, kind="stable")
