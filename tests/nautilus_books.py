"""Print the books that nautilus_trader makes of the streams in a folder, a line a message. Run by test_streams.py."""

import bz2
import json
import pathlib
import sys

from betfair_parser.spec.streaming import stream_decode
from nautilus_trader.adapters.betfair.parsing.core import BetfairParser
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.data import OrderBookDeltas
from nautilus_trader.model.enums import BookType

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.bz2")):
    parser, books = BetfairParser("GBP"), {}
    for line in bz2.open(path):
        message = stream_decode(line)
        for update in parser.parse(message):
            if isinstance(update, OrderBookDeltas):
                selection_id = int(str(update.instrument_id).split("-")[2])
                book = books.setdefault(selection_id, OrderBook(update.instrument_id, BookType.L2_MBP))
                book.apply_deltas(update)
        sides = [
            (selection_id, side, sorted((float(level.price), float(level.size())) for level in levels))
            for selection_id, book in books.items()
            for side, levels in (("B", book.bids()), ("L", book.asks()))
        ]
        print(json.dumps([path.stem, message.pt, sides]))
