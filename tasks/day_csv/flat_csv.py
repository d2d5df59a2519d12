"""The consolidated CSV: its columns, its order, which rows are duplicates, and how ticks become its text."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.ticks import value_text
from tasks.ticks.row_text import CSV, Piece, column_pieces, joined, lines
from tasks.ticks.schema import CSV_COLUMNS
from tasks.ticks.sort_keys import Ints, dense_rank, pack, price_rank
from tasks.ticks.tick_arrays import TRADED, Ticks

COLUMNS = (
    *("received_at", "publish_time", "market_id", "event_id", "selection_id"),
    *(column.name for column in CSV_COLUMNS),
    *("market_status", "market_start_time", "market_type", "runner_name"),
)
HEADER = (",".join(COLUMNS) + "\n").encode()

#: About what a row takes, for estimates.
ROW_BYTES = 190

_TICK_COLUMNS = [(column, "", ",") for column in CSV_COLUMNS]
_NEEDS_QUOTES = re.compile(r'[,"\r\n]')


@dataclasses.dataclass(frozen=True)
class Description:
    """What metadata says of a market, as CSV text: `1.2,30` and `CLOSED,2026-02-05T12:00:00.000000Z,WIN`, and runner
    names.
    """

    identity: str
    state: str
    runners: dict[int, str]


def quoted(value: Any) -> str:
    """Return a value as a CSV field by RFC 4180, in quotes only where it needs them; empty for None."""
    field = "" if value is None else str(value)
    return '"' + field.replace('"', '""') + '"' if _NEEDS_QUOTES.search(field) else field


def describe(market_id: str, event_id: str, metadata: dict[str, Any] | None) -> Description:
    """Return the description of a market; event_id counts where the metadata has none."""
    known = metadata or {}
    state = (known.get(name) for name in ("marketStatus", "marketStartTime", "marketType"))
    return Description(
        identity=f"{market_id},{quoted(known.get('eventId') or event_id)}",
        state=",".join(quoted(value) for value in state),
        runners={runner["selectionId"]: quoted(runner.get("runnerName")) for runner in known.get("runners", ())},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Ticks as the CSV has them: sorted, without duplicates. message numbers the rows of equal publish_time, market,
    selection and side; sequence is that of the export."""

    ticks: Ticks
    message: Ints
    sequence: Ints


def consolidated(ticks: Ticks) -> Rows:
    """Return the rows of whole messages, in any order, as the CSV has them. Ticks.market orders markets by their id.

    Order: publish_time, market_id, selection_id, side, level, sequence. Of rows that agree in all of these the one
    received first stays, then the one of the smallest size. Among traded rows without duplicates the sequence counts
    the prices of a message up, so sorting by price sorts by sequence.
    """
    traded = ticks.side == TRADED
    message = pack(
        [dense_rank(ticks.publish_time), ticks.market, dense_rank(ticks.selection_id), ticks.side.astype(np.int64)]
    )
    rank = ticks.level.astype(np.int64)
    rank[traded] = price_rank(ticks.price[traded])
    key = pack([message, rank])
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    if bool(np.any(ordered[1:] == ordered[:-1])):
        order = np.lexsort((ticks.price, ticks.size, ticks.received_at, key))
        ordered = key[order]
        order = order[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    ticks, message = ticks[order], message[order]
    position = np.arange(len(ticks))
    starts = np.ones(len(ticks), bool)
    starts[1:] = message[1:] != message[:-1]
    first = np.maximum.accumulate(np.where(starts, position, 0))
    return Rows(ticks, message, np.where(ticks.side == TRADED, position - first, ticks.level))


def render(rows: Rows, markets: Sequence[Description]) -> Iterator[pa.Buffer]:
    """Yield the text of rows, in buffers of whole lines: what the rows of a run begin with, the columns of each row,
    what metadata says.
    """
    ticks = rows.ticks
    starts = np.ones(len(ticks), bool)
    starts[1:] = (ticks.received_at[1:] != ticks.received_at[:-1]) | (rows.message[1:] != rows.message[:-1])
    run = np.cumsum(starts) - 1
    heads, tail_of_run, tails = _runs(ticks[np.flatnonzero(starts)], markets)
    arrays = vars(ticks) | {"sequence": rows.sequence}
    pieces = column_pieces(_TICK_COLUMNS, CSV, arrays, ticks.side == TRADED)
    yield from lines([Piece(heads, run), *pieces, Piece(tails, tail_of_run[run])])


def _runs(first: Ticks, markets: Sequence[Description]) -> tuple[pa.Array, Ints, pa.Array]:
    """Return how the lines of each run of rows begin, which end they have, and the ends; first is each run's first
    row.
    """
    runner = pack([dense_rank(first.market), dense_rank(first.selection_id)])
    _, example, of_run = np.unique(runner, return_index=True, return_inverse=True)
    names, tails = [], []
    for market, selection in zip(first.market[example].tolist(), first.selection_id[example].tolist()):
        known = markets[market]
        names.append(f",{known.identity},{selection},")
        tails.append(f"{known.state},{known.runners.get(selection, '')}\n")
    received, published = (
        value_text.times(times).dictionary_decode() for times in (first.received_at, first.publish_time)
    )
    heads = joined(received, ",", published, pa.array(names, pa.string()).take(pa.array(of_run)))
    return heads, of_run, pa.array(tails, pa.string())
