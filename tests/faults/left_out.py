"""What a run that ends with 30 may write: a table over all markets, without those that it could not read."""

import io
from collections import defaultdict

import pandas as pd
import pyarrow.parquet as pq

#: Tables over all markets.
_TABLES = ("consolidated_ticks", "runner_summary")


def is_all_but_failed(name: str, content: bytes, whole: bytes) -> bool:
    """Return whether a table has only rows of the whole one, all of a market or none, with the same values or empty."""
    if not name.rpartition("/")[2].startswith(_TABLES):
        return False
    part, all_of_it = _by_market(name, content), _by_market(name, whole)
    return all(
        len(rows) == len(all_of_it.get(market_id, ()))
        and all(
            one in ("", other)
            for row, its in zip(rows, all_of_it[market_id], strict=True)
            for one, other in zip(row, its, strict=True)
        )
        for market_id, rows in part.items()
    )


def _by_market(name: str, content: bytes) -> dict[str, list[list[str]]]:
    """Return the rows of each market, as texts; empty for null."""
    if name.endswith(".parquet"):
        content = pq.read_table(io.BytesIO(content)).to_pandas().to_csv(index=False).encode()
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    rows: dict[str, list[list[str]]] = defaultdict(list)
    for market_id, row in zip(table["market_id"], table.to_numpy().tolist(), strict=True):
        rows[market_id].append(row)
    return rows
