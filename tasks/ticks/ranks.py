"""Sorting many columns as one integer: ranks, and packing them."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def dense_rank(values: npt.NDArray[Any]) -> Ints:
    """Number the distinct values 0, 1, 2 … in ascending order.

    NaN is one value, after all others (as PostgreSQL orders it); 0.0 and -0.0 are one value. Costs a scan where the
    values ascend already, as publish times from a recorder do, otherwise a hash look-up each.
    """
    if len(values) == 0:
        return np.zeros(0, np.int64)
    steps = values[1:] != values[:-1]
    if bool(np.all(values[1:] >= values[:-1])):
        ranks = np.zeros(len(values), np.int64)
        np.cumsum(steps, out=ranks[1:])
        return ranks
    encoded = pa.array(values).dictionary_encode()
    _, order = np.unique(encoded.dictionary.to_numpy(zero_copy_only=False), return_inverse=True)
    return order.astype(np.int64)[encoded.indices.to_numpy()]


def pack(ranks: Sequence[Ints]) -> Ints:
    """Join non-negative integers, the most significant first, into one integer a row that sorts the same way.

    Where their bits do not fit, rows are ranked by a full sort instead: the result orders and compares alike.
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
    """Return the stable order that sorts the key, None where it is sorted already."""
    if bool(np.all(key[1:] >= key[:-1])):
        return None
    return np.argsort(key, kind="stable")
