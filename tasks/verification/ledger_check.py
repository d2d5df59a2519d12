"""Compare the index with the ledger: has a market lost ticks, or does it have a file that the pipeline did not
write?
"""

from collections.abc import Iterator, Mapping

from tasks.errors import DamagedLedger
from tasks.export_directory import accepted_losses
from tasks.export_directory.index_csv import IndexRow
from tasks.export_directory.ledger import Ledger
from tasks.storage.layout import Layout
from tasks.verification.difference import Difference

_LOST = (
    "Restore the file from a backup or an archive and run ExportAll; if there is none, ExportMarket --accept-loss"
    " accepts what is left"
)
_CHANGED = "Run ExportAll with the database, which repairs what can be repaired"


def check_ledger(layout: Layout, rows: Mapping[str, IndexRow]) -> tuple[list[Difference], list[str]]:
    """Return where the index has fewer ticks or other checksums than were written, and the accepted losses as notes.

    An export without a ledger (a delivered one, or one of version 0.1) can only be compared with its index.
    """
    notes = [f"{layout.accepted_losses.name}: {loss}" for loss in accepted_losses.read(layout.accepted_losses)]
    try:
        ledger = Ledger.read(layout.ledger)
    except DamagedLedger:
        step = "Run ExportAll, which rebuilds it"
        return [Difference("", layout.ledger.name, "content", "damaged", "the ledger as it was written", step)], notes
    return list(_differences(layout, rows, ledger)), notes


def _differences(layout: Layout, rows: Mapping[str, IndexRow], ledger: Ledger) -> Iterator[Difference]:
    for market_id in sorted(ledger.market_ids()):
        promised, row = ledger.promise(market_id), rows.get(market_id)
        ticks = row.facts.tick_records if row else 0
        if promised is not None and ticks < promised.tick_records:
            expected = f"{promised.tick_records}: it has had so many (ledger)"
            yield Difference(market_id, layout.file_path(market_id), "ticks", ticks, expected, _LOST)
        elif row and not ledger.knows(market_id, row.facts.checksum):
            expected = "one of a file that the pipeline wrote (ledger)"
            yield Difference(market_id, row.file_path, "checksum", row.facts.checksum, expected, _CHANGED)
