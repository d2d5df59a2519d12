"""Parse the names of the pipeline's files: the market, the format, the day, the kind."""

import datetime
import re
from typing import NamedTuple

MARKET_ID = re.compile(r"[0-9]+\.[0-9]+")
_MARKET_FILE = re.compile(rf"marketId=(?P<market_id>{MARKET_ID.pattern})\.(?P<format>[a-z]+)")
_OF_MARKET = re.compile(rf"marketId=({MARKET_ID.pattern})(?=[._])")
_DAY_REPORT = re.compile(r"consolidation_report_(\d{4})_(\d\d)_(\d\d)(?:_parquet)?\.txt")
_CONSOLIDATED = re.compile(
    r"consolidat(ed_ticks|ion_report)((_\d{4})(_\d\d){1,2})?\.(csv|txt)"
    r"|consolidated_ticks_\d{4}_\d\d_\d\d\.parquet|consolidation_report_\d{4}_\d\d_\d\d_parquet\.txt"
)
_ASIDE = re.compile(r".*\.damaged(\.\d+)?", re.DOTALL)


def is_market_id(text: str) -> bool:
    """Return whether text is a Betfair market id, and so is safe as part of a file name."""
    return MARKET_ID.fullmatch(text) is not None


def checked_market_id(market_id: str) -> str:
    """Return a market id. Raises ValueError if it is not one."""
    if not is_market_id(market_id):
        raise ValueError(f"{market_id!r} is not a market id and must not become a file name")
    return market_id


class MarketFileName(NamedTuple):
    """The parts of a market file's name. format: its suffix, known or not."""

    market_id: str
    format: str


def market_file_name(name: str) -> MarketFileName | None:
    """Return the parts of a market file's name, None for any other name."""
    match = _MARKET_FILE.fullmatch(name)
    return None if match is None else MarketFileName(match["market_id"], match["format"])


def market_of(name: str) -> str:
    """Return the market id in the name of a market's file of any kind, an empty text if there is none."""
    match = _OF_MARKET.search(name)
    return match[1] if match else ""


def is_market_file(name: str) -> bool:
    """Return whether a file is a market's data file of any format, by its name or path."""
    return market_file_name(name.rpartition("/")[2]) is not None


def is_metadata(name: str) -> bool:
    """Return whether a file is a market's metadata, by its name or path."""
    return name.endswith("_metadata.json")


def is_consolidated(name: str) -> bool:
    """Return whether a file in the output directory is a consolidated CSV, a day as Parquet, or the report of one."""
    return _CONSOLIDATED.fullmatch(name) is not None


def is_aside(name: str) -> bool:
    """Return whether a file is a damaged one that was kept."""
    return _ASIDE.fullmatch(name) is not None


def day_of_report(name: str) -> datetime.date | None:
    """Return the UTC day in the name of a consolidation report, None for the report on all days. Raises ValueError if
    there is no such day."""
    match = _DAY_REPORT.fullmatch(name)
    return None if match is None else datetime.date(*map(int, match.groups()))
