"""Encode ticks for the binary format of COPY, as rows of the recorder's tables."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.postgres.source_tables import LADDER, TRADED
from tasks.ticks.tick_arrays import BACK, Ticks

#: Between 1970-01-01 and 2000-01-01 UTC, from which PostgreSQL counts, in microseconds.
_YEAR_2000_US = 946_684_800_000_000
#: See "Binary Format" in PostgreSQL's documentation of COPY: signature, flags, no extension; and the trailer.
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

#: The columns of each table in the order of encoded(), with the type of each on the wire. The market id comes before
#: them; its length varies.
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
    """Return the columns of a table for which encoded() has values, in its order."""
    return ("market_id", *_FIELDS[table])


def encoded(table: str, market_id: str, ticks: Ticks) -> bytes:
    """Return ticks of one market, all for the same table, as records of a binary COPY."""
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
