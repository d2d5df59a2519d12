"""Add up the database's rows, for each market the columns that its file has."""

import collections
from collections.abc import Mapping
from pathlib import Path

from tasks.errors import DamagedFile
from tasks.market_files import market_file
from tasks.postgres import stored_sums
from tasks.postgres.database import Database
from tasks.postgres.source_tables import LADDER, TRADED
from tasks.storage.layout import Layout
from tasks.ticks.day_sums import Sums
from tasks.ticks.schema import FORMAT_VERSION


def stored_by_day(
    database: Database, layout: Layout, until_us: Mapping[str, int]
) -> dict[str, dict[tuple[int, bool], Sums]]:
    """Return the sums of the database's rows of markets, each up to a time, by market, day and whether traded. They
    cover the columns that the market's file has."""
    stored: dict[str, dict[tuple[int, bool], Sums]] = collections.defaultdict(dict)
    by_version: dict[int, dict[str, int]] = collections.defaultdict(dict)
    for market_id, moment in until_us.items():
        by_version[_version(layout.market_file(market_id))][market_id] = moment
    for version, until in by_version.items():
        for name in (LADDER, TRADED):
            for market_id, day, sums in stored_sums.sums(database, name, until, version):
                stored[market_id][day, name == TRADED] = sums
    return stored


def _version(path: Path) -> int:
    try:
        return market_file.version(path)
    except (DamagedFile, OSError):  # check_market reports it
        return FORMAT_VERSION
