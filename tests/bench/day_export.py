"""An export of one day, invented, straight into market files: what the consolidation is measured on."""

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tasks.export_directory import directory_scan, metadata_json
from tasks.export_directory.journal import Journal, Written
from tasks.market_files.market_file import MarketWriter
from tasks.postgres.market_metadata import MarketMetadata
from tasks.storage.layout import Layout
from tasks.ticks.tick_arrays import Ticks

DATE = datetime.date(2024, 1, 15)
BACK, LAY, TRADED = 0, 1, 2
_DAY_US = (DATE - datetime.date(1970, 1, 1)).days * 86_400_000_000
_RUNNERS, _LADDER, _TRADED = 3, 16, 25
_MESSAGE_ROWS = _RUNNERS * (_LADDER + _TRADED)
_PRICES = np.round(
    np.concatenate([np.arange(1.01, 2, 0.01), np.arange(2, 3, 0.02), np.arange(3, 4, 0.05), np.arange(4, 6, 0.1)]), 2
)


def make_export(output_dir: Path, rows: int, markets: int) -> None:
    """Write an export of one day with about so many rows, a few markets holding most of them, as Parquet."""
    layout = Layout(output_dir)
    layout.markets_dir.mkdir(parents=True)
    random = np.random.default_rng(1)
    shares = 1 / (1 + np.arange(markets)) ** 0.9
    events = {}
    for market, share in enumerate(shares / shares.sum()):
        market_id = f"1.{200_000_000 + int(random.integers(1_000_000)) * 1_000 + market}"
        events[market_id] = str(30_000_000 + market)
        messages = max(int(rows * share) // _MESSAGE_ROWS, 1)
        with MarketWriter(layout.market_file(market_id), market_id) as writer:
            for arrays in _messages(random, messages):
                writer.write(Ticks(*arrays).sorted())
            facts, stat = writer.finish(time.time_ns() // 1000)
            Journal(layout.journal_dir).written(Written(market_id, "new", stat, facts))
            writer.file.publish()
        names = [f"Runner {market}, {n}" for n in range(_RUNNERS)]
        known = MarketMetadata(
            market_id,
            events[market_id],
            "Match Odds",
            "MATCH_ODDS_FT",
            _DAY_US + 43_200_000_000,
            "CLOSED",
            True,
            [1_000_001 + n for n in range(_RUNNERS)],
            names,
        )
        layout.metadata_file(market_id).write_bytes(metadata_json.render(metadata_json.described(known)))
    found = directory_scan.look_at_disk(layout, directory_scan.list_files(layout))
    directory_scan.publish_index(layout, found, directory_scan.index_rows(layout, found, events))


def _messages(random: np.random.Generator, messages: int) -> Iterator[list[np.ndarray]]:
    """Yield the columns of a market's messages: full snapshots of all runners, of which most sizes repeat those of
    the snapshot before.
    """
    times = _DAY_US + np.sort(random.choice(86_400_000, messages, replace=False)) * 1000
    side = np.tile(np.concatenate([np.repeat([BACK, LAY], _LADDER // 2), np.full(_TRADED, TRADED)]), _RUNNERS).astype(
        np.int8
    )
    level = np.tile(np.concatenate([np.tile(np.arange(_LADDER // 2), 2), np.zeros(_TRADED)]), _RUNNERS).astype(np.int16)
    price = np.concatenate(
        [
            _PRICES[np.concatenate([b - np.arange(8), b + 1 + np.arange(8), b - 12 + np.arange(_TRADED)])]
            for b in random.integers(20, len(_PRICES) - 20, _RUNNERS)
        ]
    )
    size = np.round(random.lognormal(4, 2, _MESSAGE_ROWS), 2)
    selection = np.repeat(1_000_001 + np.arange(_RUNNERS), _LADDER + _TRADED)
    for start in range(0, messages, 1_000):
        moments = times[start : start + 1_000]
        count = len(moments)
        changed = np.where(
            random.random((count, _MESSAGE_ROWS)) < 0.05, np.round(random.lognormal(4, 2, (count, _MESSAGE_ROWS)), 2), 0
        )
        changed[0] = np.where(changed[0] == 0, size, changed[0])
        newest = np.maximum.accumulate(np.where(changed != 0, np.arange(count)[:, None], 0), axis=0)
        sizes = changed[newest, np.arange(_MESSAGE_ROWS)]
        size = sizes[-1]
        publish = np.repeat(moments, _MESSAGE_ROWS)
        yield [
            np.zeros(len(publish), np.int64),
            publish,
            publish + 13_000,
            *(np.tile(column, count) for column in (selection, side, level, price)),
            sizes.ravel(),
        ]
