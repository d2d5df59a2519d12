"""Every column of a tick, once: name, type, meaning, where it comes from.

Parquet takes all of it from here. Where speed forbids that (the arrays in memory, the SQL and its decoder, the text of
JSONL and CSV, the checksums of a verification), columns are spelled by hand, and tests/unit/test_columns.py names each
place that does not know one.
"""

import dataclasses

import pyarrow as pa

TEXT = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("us", tz="UTC")

SIDES = ("BACK", "LAY")
RECORD_TYPES = ("ladder", "traded")
CHANGE_TYPE = "update"
MAX_LEVEL = 7
#: The times that can be written as text, years 1 to 9999, in microseconds since 1970.
FIRST_TIME_US, LAST_TIME_US = -62_135_596_800_000_000, 253_402_300_799_999_999

#: Rows of a Parquet row group, counted from row 0 of the file. Part of the file format: with another number the same
#: ticks give other bytes. About 450 messages of a real market, so that a reader can skip to a minute or so.
ROW_GROUP_ROWS = 131_072


@dataclasses.dataclass(frozen=True)
class Column:
    """One field of a tick as users see it.

    array: the array of Ticks that it is made of, None where it follows from others or is always the same.
    """

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    array: str | None = None


COLUMNS = (
    Column("received_at", TIME, "when the recorder received the message; received_time", array="received_at"),
    Column("publish_time", TIME, "when Betfair published the message; publish_time", array="publish_time"),
    Column("market_id", TEXT, "Betfair market id, such as 1.200806927"),
    Column("selection_id", pa.int64(), "Betfair runner id", array="selection_id"),
    Column("side", TEXT, "BACK or LAY; null for traded", nullable=True, array="side"),
    Column("price", pa.float64(), "decimal odds", array="price"),
    Column(
        "size",
        pa.float64(),
        "money available at the price; for traded the money matched at it; size, size_traded",
        array="size",
    ),
    Column("traded_volume", pa.float64(), "size_traded; null for ladder", nullable=True),
    Column("change_type", TEXT, "always update: the database does not tell snapshots from deltas"),
    Column("level", pa.int16(), "0 (best) to 7; null for traded", nullable=True, array="level"),
    Column("record_type", TEXT, "ladder or traded"),
    Column("in_play", pa.bool_(), "always null: not stored per tick", nullable=True),
    Column("sequence", pa.int64(), "ladder: the level; traded: rank of the price in its selection and message"),
)

#: The columns that ticks are read back from; the others follow from these and the market.
READ_COLUMNS = [column.name for column in COLUMNS if column.array is not None]

SCHEMA = pa.schema([pa.field(column.name, column.type, nullable=column.nullable) for column in COLUMNS])
