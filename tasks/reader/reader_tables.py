"""The tables of the reader: their columns, and what is joined to ticks from metadata and states."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.export_directory import market_states
from tasks.export_directory.market_states import State
from tasks.ticks.schema import SCHEMA, TEXT, TIME
from tasks.ticks.sort_keys import Ints
from tasks.ticks.tick_arrays import Ticks

#: What joined=True adds to the columns of a tick; in_play, which market files leave empty, is filled in.
JOINED = pa.schema(
    [
        pa.field("status", TEXT),
        pa.field("event_id", TEXT),
        pa.field("market_name", TEXT),
        pa.field("market_type", TEXT),
        pa.field("runner_name", TEXT),
        pa.field("result", TEXT),
    ]
)
MARKETS = pa.schema(
    [
        ("market_id", pa.string()),
        ("event_id", pa.string()),
        ("market_name", pa.string()),
        ("market_type", pa.string()),
        ("market_start_time", TIME),
        ("status", pa.string()),
        ("settled_at", TIME),
        ("runners", pa.int64()),
        ("first_tick", TIME),
        ("last_tick", TIME),
        ("ticks", pa.int64()),
        ("messages", pa.int64()),
        ("file_path", pa.string()),
    ]
)
RUNNERS = pa.schema(
    [("market_id", pa.string()), ("selection_id", pa.int64()), ("runner_name", pa.string()), ("result", pa.string())]
)
BEST = pa.schema(
    [("publish_time", TIME), ("selection_id", pa.int64())]
    + [(name, pa.float64()) for name in ("back", "back_size", "lay", "lay_size")]
)


def to_table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table; times are microseconds since 1970."""
    columns = list(zip(*rows)) or [()] * len(schema)
    return pa.Table.from_arrays(
        [
            pa.array(column, pa.int64()).cast(TIME) if field.type == TIME else pa.array(column, field.type)
            for column, field in zip(columns, schema)
        ],
        schema=schema,
    )


Join = Callable[[pa.Table, Ticks], pa.Table]


def joining(event_id: str, known: Mapping[str, Any], states: Sequence[State], results: Mapping[int, str]) -> Join:
    """Return a function that adds the columns JOINED to ticks of a market, and fills in in_play. known: its
    metadata.
    """

    def same(count: int, text: str | None) -> pa.Array:
        return pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32), mask=np.full(count, text is None)), pa.array([text or ""])
        )

    def join(table: pa.Table, ticks: Ticks) -> pa.Table:
        status, in_play = states_at(states, ticks.publish_time)
        count = len(ticks)
        added = {
            "status": status,
            "event_id": same(count, event_id or None),
            "market_name": same(count, known.get("marketName")),
            "market_type": same(count, known.get("marketType")),
            "runner_name": of_runners(names(known), table.column("selection_id")),
            "result": of_runners(results, table.column("selection_id")),
        }
        table = table.set_column(SCHEMA.get_field_index("in_play"), SCHEMA.field("in_play"), in_play)
        for field in JOINED:
            table = table.append_column(field, added[field.name])
        return table

    return join


def states_at(states: Sequence[State], publish_time: Ints) -> tuple[pa.Array, pa.Array]:
    """Return status and in-play at each time, null if unknown."""
    position = market_states.position_at(states, publish_time)
    index = pa.array(position, mask=position < 0)
    status = pa.array([state.status for state in states], pa.string()).dictionary_encode().cast(TEXT)
    return status.take(index), pa.array([state.in_play for state in states], pa.bool_()).take(index)


def names(known: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each runner that has one in metadata."""
    return {runner["selectionId"]: runner["runnerName"] for runner in known.get("runners", ()) if runner["runnerName"]}


def of_runners(texts: Mapping[int, str], selection_id: pa.ChunkedArray) -> pa.Array:
    """Return the text for each row's runner, null if there is none."""
    place = pc.index_in(selection_id, value_set=pa.array(list(texts), pa.int64()))
    return pa.array(list(texts.values()), pa.string()).dictionary_encode().cast(TEXT).take(place.combine_chunks())
