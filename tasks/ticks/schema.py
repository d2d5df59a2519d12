"""Every column of a tick, declared once: name, type, meaning, where it comes from, what its rows show.

These are derived from it: the Arrow schema and the Parquet files, the text of JSONL and of the consolidated CSV
(row_text.py), the statements that read ticks and their decoder (postgres/tick_statements.py, tick_decoder.py), the
arrays of Ticks, and the checksums of a verification on both sides (day_sums.py, postgres/stored_sums.py). Two things
are written by hand for speed: how the server packs selection, level and side, and the beginning of the lines of a CSV.
tests/unit/test_columns.py finds each place that lacks a column.
"""

import dataclasses
import enum
import typing

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.ticks.sort_keys import Ints

TEXT = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("us", tz="UTC")

SIDES = ("BACK", "LAY")
MAX_LEVEL = 7
#: The times that can be written as text, years 1 to 9999, in microseconds since 1970.
FIRST_TIME_US, LAST_TIME_US = -62_135_596_800_000_000, 253_402_300_799_999_999

#: The version of the files that are written (docs/format-versions.md has what each changed). Files of every earlier one
#: are read.
FORMAT_VERSION = 2

#: Rows of a Parquet row group, counted from row 0 of the file. Part of the file format: with another number the same
#: ticks give other bytes. About 450 messages of a real market, so that a reader can skip to a minute or so.
ROW_GROUP_ROWS = 131_072


class Shown(enum.Enum):
    """What a column shows if it is neither null nor the same word in every row."""

    VALUE = "the element of its array"
    MARKET_ID = "the market id of the file"


@dataclasses.dataclass(frozen=True)
class Column:
    """One field of a tick as users see it.

    array: the array of Ticks (or "sequence") that it shows, None if it is the same in all rows of a kind. ladder,
    traded: what ladder rows and traded rows show: with an array VALUE, or null (None); without one a word, or null.
    words: the texts for the numbers in the array. source: the SQL of the array's values, for ladder_levels and for
    traded_volume; if two columns show the same array, the first one has it. since: the first version whose files have
    the column; in earlier files it reads as 0, or as its word. was: earlier types, each with the last version that had
    it.
    """

    name: str
    type: pa.DataType
    meaning: str
    array: str | None = None
    ladder: Shown | str | None = Shown.VALUE
    traded: Shown | str | None = Shown.VALUE
    words: tuple[str, ...] = ()
    source: tuple[str, str] | None = None
    since: int = 1
    was: tuple[tuple[int, pa.DataType], ...] = ()

    @property
    def nullable(self) -> bool:
        """Whether some rows have no value."""
        return self.ladder is None or self.traded is None

    @property
    def is_text(self) -> bool:
        """Whether its values are text."""
        return self.type in (TEXT, pa.string())


COLUMNS = (
    Column(
        "received_at",
        TIME,
        "when the recorder received the message; received_time",
        "received_at",
        source=("received_time", "received_time"),
    ),
    Column(
        "publish_time",
        TIME,
        "when Betfair published the message; publish_time",
        "publish_time",
        source=("publish_time", "publish_time"),
    ),
    Column(
        "market_id",
        pa.string(),
        "Betfair market id, such as 1.200806927",
        ladder=Shown.MARKET_ID,
        traded=Shown.MARKET_ID,
        was=((1, TEXT),),
    ),
    Column("selection_id", pa.int64(), "Betfair runner id", "selection_id", source=("selection_id", "selection_id")),
    Column("side", TEXT, "BACK or LAY; null for traded", "side", traded=None, words=SIDES, source=("side", "2")),
    Column("price", pa.float64(), "decimal odds", "price", source=("price", "price")),
    Column(
        "size",
        pa.float64(),
        "money available at the price; for traded the platform's running sum of the money matched; size, size_traded",
        "size",
        source=("size", "size_traded"),
    ),
    Column("traded_volume", pa.float64(), "size_traded; null for ladder", "size", ladder=None),
    Column(
        "change_type",
        TEXT,
        "always update: the database does not tell snapshots from deltas",
        ladder="update",
        traded="update",
    ),
    Column("level", pa.int16(), "0 (best) to 7; null for traded", "level", traded=None, source=("level", "0")),
    Column("record_type", TEXT, "ladder or traded", ladder="ladder", traded="traded"),
    Column("in_play", pa.bool_(), "always null: not stored per tick", ladder=None, traded=None),
    Column(
        "sequence", pa.int64(), "ladder: the level; traded: rank of the price in its selection and message", "sequence"
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class TickArrays:
    """n ticks of one or several markets, as arrays of length n.

    market: position of the market in a list that the caller keeps; publish_time, received_at: microseconds since
    1970 in UTC; side: 0 BACK, 1 LAY, 2 traded; level: 0 to 7, and 0 for traded. Further columns come last.
    """

    market: Ints
    publish_time: Ints
    received_at: Ints
    selection_id: Ints
    side: npt.NDArray[np.int8]
    level: npt.NDArray[np.int16]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]


#: The type of the elements of each array: of npt.NDArray[np.int8] int8.
ARRAY_TYPES = {
    name: np.dtype(typing.get_args(typing.get_args(array)[1])[0])
    for name, array in typing.get_type_hints(TickArrays).items()
}

#: The column that each array is read back from, and comes from the database for; the others follow from these and the
#: market.
STORED = tuple(column for column in COLUMNS if column.source is not None)
READ_COLUMNS = [column.name for column in STORED]

#: The columns of a tick in the order of the consolidated CSV, those that come after its selection_id. One that is
#: declared nowhere here comes last.
_CSV_ORDER = ("side", "level", "price", "size", "traded_volume", "in_play", "change_type", "sequence", "record_type")
#: The columns with which a line of the CSV begins, which day_csv/flat_csv.py writes with what metadata says.
CSV_HEAD = ("received_at", "publish_time", "market_id", "selection_id")
CSV_COLUMNS = tuple(
    sorted(
        (column for column in COLUMNS if column.name not in CSV_HEAD),
        key=lambda column: _CSV_ORDER.index(column.name) if column.name in _CSV_ORDER else len(_CSV_ORDER),
    )
)

_OF_VERSION = {
    version: tuple(column for column in COLUMNS if column.since <= version) for version in range(1, FORMAT_VERSION + 1)
}


def columns_of(version: int) -> tuple[Column, ...]:
    """Return the columns of the files of a version."""
    return _OF_VERSION[version]


def schema_of(version: int) -> pa.Schema:
    """Return the Arrow schema of the files of a version."""
    return pa.schema(
        [
            pa.field(
                column.name,
                next((kind for last, kind in column.was if version <= last), column.type),
                nullable=column.nullable,
            )
            for column in columns_of(version)
        ]
    )


SCHEMA = schema_of(FORMAT_VERSION)
