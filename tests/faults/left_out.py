"""What a run that ends with 30 may write: a table over all markets, without what it could not read."""

import io
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

#: Tables over all markets.
_TABLES = ("consolidated_ticks", "runner_summary")


def is_all_but_failed(work: Path, name: str, content: bytes, whole: bytes) -> bool:
    """Return whether a table lacks only what could not be read. work: where it is, with the market files as they are.

    Of each market it has all rows of the whole table, with the same values or empty ones; or, if the market could not
    be refreshed, those that are in its file.
    """
    if not name.rpartition("/")[2].startswith(_TABLES):
        return False
    part, all_of_it = _by_market(name, content), _by_market(name, whole)
    for market_id, rows in part.items():
        its = all_of_it.get(market_id, [])
        is_unchanged = len(rows) == len(its) and all(map(_is_same_or_emptier, rows, its))
        if not is_unchanged and not (all(row in its for row in rows) and len(rows) == _ticks(work, name, market_id)):
            return False
    return True


def _is_same_or_emptier(row: list[str], its: list[str]) -> bool:
    return all(one in ("", other) for one, other in zip(row, its, strict=True))


def _ticks(work: Path, name: str, market_id: str) -> int:
    """Return how many ticks of the day of a CSV a market's file has."""
    times = pq.read_table(work / "out" / "markets" / f"marketId={market_id}.parquet", columns=["publish_time"])[0]
    day = "-".join(Path(name).stem.split("_")[-3:])
    return int(pc.sum(pc.equal(pc.strftime(times, "%Y-%m-%d"), day)).as_py() or 0)


def _by_market(name: str, content: bytes) -> dict[str, list[list[str]]]:
    """Return the rows of each market, as texts; empty for null."""
    if name.endswith(".parquet"):
        text = io.BytesIO()
        pa_csv.write_csv(pq.read_table(io.BytesIO(content)), text)
        content = text.getvalue()
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    rows: dict[str, list[list[str]]] = defaultdict(list)
    for market_id, row in zip(table["market_id"], table.to_numpy().tolist(), strict=True):
        rows[market_id].append(row)
    return rows
