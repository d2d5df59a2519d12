"""Ticks as COPY takes them in its binary format: the inverse of tick_decoder.py for the tables themselves."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.postgres.source_tables import LADDER, TRADED
from tasks.ticks.tick_arrays import BACK, Ticks

#: Between 1970-01-01 and 2000-01-01 UTC, from which PostgreSQL counts, in microseconds.
_YEAR_2000_US = 946_684_800_000_000
#: Its "Binary Format", in PostgreSQL's documentation of COPY: signature, flags, no extension; and what ends it.
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

#: The columns of each table in the order in which encoded() has them, with the type of each on the wire; the market's
#: id, which comes first, is as long as it is.
_FIELDS: Mapping[str, Mapping[str, str]] = {
    LADDER: {
        "selection_id": ">i8",
        "side": "S1",
        "level": ">i2",
        "price": ">f8",
        "size": ">f8",
        "publish_time": ">i8",
        "received_time": ">i8",
    },
    TRADED: {
        "selection_id": ">i8",
        "price": ">f8",
        "size_traded": ">f8",
        "publish_time": ">i8",
        "received_time": ">i8",
    },
}


def columns(table: str) -> Sequence[str]:
    """Return the columns of a table that encoded() has the values of, in its order."""
    return ("market_id", *_FIELDS[table])


def encoded(table: str, market_id: str, ticks: Ticks) -> bytes:
    """Return ticks of one market, all of which belong into a table, as records of a binary COPY."""
    fields = {"market_id": f"S{len(market_id)}", **_FIELDS[table]}
    kinds: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in fields.items():
        kinds += [(f"{name} length", ">i4"), (name, kind)]
    records: npt.NDArray[Any] = np.empty(len(ticks), np.dtype(kinds))
    records["fields"] = len(fields)
    for name, kind in fields.items():
        records[f"{name} length"] = np.dtype(kind).itemsize
    records["market_id"] = market_id.encode()
    values = {
        "selection_id": ticks.selection_id,
        "side": np.where(ticks.side == BACK, b"B", b"L"),
        "level": ticks.level,
        "price": ticks.price,
        "size": ticks.size,
        "size_traded": ticks.size,
        "publish_time": ticks.publish_time - _YEAR_2000_US,
        "received_time": ticks.received_at - _YEAR_2000_US,
    }
    for name in _FIELDS[table]:
        records[name] = values[name]
    return records.tobytes()
