"""The registry of market file formats. A new format is a class in a file of its own, and an entry here."""

from pathlib import PurePath

from tasks.errors import UnknownFormat
from tasks.market_files.jsonl import Jsonl
from tasks.market_files.market_format import MarketFormat
from tasks.market_files.parquet import Parquet

_ALL: tuple[MarketFormat, ...] = (Parquet(), Jsonl())
_BY_NAME = {known.name: known for known in _ALL}

#: The formats by name, the default first.
NAMES = tuple(_BY_NAME)
DEFAULT = NAMES[0]


def named(name: str) -> MarketFormat:
    """Return a format by its name, such as parquet. Raises UnknownFormat."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnknownFormat(f"There is no market file format {name!r}. Known are {', '.join(NAMES)}.") from None


def of(path: PurePath) -> MarketFormat:
    """Return the format of a market file by its suffix. Raises UnknownFormat."""
    try:
        return named(path.suffix.removeprefix("."))
    except UnknownFormat as error:
        raise UnknownFormat(f"{path}: {error}") from None


def is_compressed(name: str) -> bool:
    """Return whether a file with this name is a market file that an archive need not compress."""
    known = _BY_NAME.get(name.rpartition(".")[2])
    return known is not None and known.is_compressed
