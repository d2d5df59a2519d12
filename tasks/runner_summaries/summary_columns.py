"""The columns of the runner summary, and how far before the off prices are taken."""

import pyarrow as pa

from tasks.ticks.schema import TIME

#: How far before the off the best prices are taken: the end of the columns' names, and seconds.
HORIZONS = (("60m", 3600), ("30m", 1800), ("10m", 600), ("60s", 60), ("30s", 30), ("10s", 10), ("0s", 0))

#: What is traded in a phase: prices, the volume-weighted price, the last price, the volume (both sides of each bet).
TRADES = ("min", "max", "wap", "ltp", "volume")
PHASES = ("pp", "ip")

#: Why a volume fell.
FALLS = ("void", "removal", "settlement", "reset")

SCHEMA = pa.schema(
    [
        pa.field("market_id", pa.string(), nullable=False),
        pa.field("event_id", pa.string()),
        pa.field("event_date", pa.date32()),
        pa.field("market_type", pa.string()),
        pa.field("market_name", pa.string()),
        pa.field("market_start_time", TIME),
        pa.field("selection_id", pa.int64(), nullable=False),
        pa.field("selection_name", pa.string()),
        pa.field("result", pa.string()),
        pa.field("bsp", pa.float64()),
        *(pa.field(f"{phase}_{what}", pa.float64()) for phase in PHASES for what in TRADES),
        *(
            pa.field(f"{what}_{end}", pa.float64())
            for end, _ in HORIZONS
            for what in ("back", "back_size", "lay", "lay_size")
        ),
        pa.field("off_time", TIME),
        pa.field("first_tick", TIME),
        pa.field("last_tick", TIME),
        pa.field("condition", pa.string()),
        *(pa.field(f"fell_{why}", pa.float64()) for why in FALLS),
    ]
)
