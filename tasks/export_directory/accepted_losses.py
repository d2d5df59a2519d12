"""accepted_losses.csv: which ticks are lost, and that the operator has accepted the loss."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

from tasks.export_directory.directory_scan import OnDisk
from tasks.storage.atomic_files import replacing
from tasks.storage.layout import Layout

COLUMNS = ("accepted_at", "market_id", "promised_tick_records", "promised_checksum", "kept_tick_records", "reason")


@dataclasses.dataclass(frozen=True)
class AcceptedLoss:
    """A loss: when it was accepted (UTC, as in index.csv), the market, what its fullest file had, and what is left."""

    accepted_at: str
    market_id: str
    promised_tick_records: str
    promised_checksum: str
    kept_tick_records: str
    reason: str

    def __str__(self) -> str:
        return (
            f"market {self.market_id}: {self.kept_tick_records} of"
            f" {self.promised_tick_records or 'an unknown number of'} ticks are left, accepted {self.accepted_at}"
        )


def read(path: Path) -> list[AcceptedLoss]:
    """Return the accepted losses, oldest first; none if there is no file. Invalid lines are left out."""
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = csv.reader(io.StringIO(content, newline=""))
    return [AcceptedLoss(*line) for line in lines if len(line) == len(COLUMNS) and tuple(line) != COLUMNS]


def _write(path: Path, losses: Iterable[AcceptedLoss]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(dataclasses.astuple(loss) for loss in losses)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def accept(layout: Layout, disk: OnDisk, market_id: str, kept_tick_records: int, reason: str, accepted_at: str) -> None:
    """Record the loss of a market's ticks, and make the ledger promise only those that are left.

    The record is written first: after a crash between the two, the loss is recorded and still reported, not forgotten.
    """
    promised = disk.promise(market_id)
    loss = AcceptedLoss(
        accepted_at,
        market_id,
        str(promised.tick_records) if promised else "",
        promised.checksum if promised else "",
        str(kept_tick_records),
        reason,
    )
    _write(layout.accepted_losses, [*read(layout.accepted_losses), loss])
    disk.ledger.promising(disk.index.facts).without(market_id).write(layout.ledger)
