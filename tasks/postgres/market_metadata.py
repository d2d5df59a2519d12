"""The metadata of a market as the database has it."""

from collections.abc import Sequence
from typing import NamedTuple


class MarketMetadata(NamedTuple):
    """A market as in public.markets, public.runners and the lifecycle events; None for missing values.

    start_us: the start, microseconds since 1970; runner_names: in the order of selection_ids, which ascend.
    """

    market_id: str
    event_id: str | None
    name: str | None
    type: str | None
    start_us: int | None
    status: str | None
    in_play: bool | None
    selection_ids: Sequence[int] | None
    runner_names: Sequence[str | None] | None
