"""execution_report.txt: what an export is, what the run did, and what needs attention."""

from collections.abc import Collection, Iterable, Mapping

from tasks.export_directory import accepted_losses, report_version
from tasks.export_directory.directory_scan import OnDisk
from tasks.export_directory.index_csv import Index
from tasks.export_directory.journal import Journal
from tasks.exporting.survey import Stored
from tasks.market_files.file_facts import FileFacts
from tasks.storage.layout import Layout
from tasks.ticks.value_text import counted, time_text


def refused(market_ids: Iterable[str]) -> dict[str, str]:
    """Return, for invalid market ids, why they are refused."""
    return {
        market_id: (
            "not a Betfair market id (digits, a dot, digits), so it cannot name a file. Correct or delete its rows."
        )
        for market_id in market_ids
    }


def known_failures(stored: Stored, disk: OnDisk) -> dict[str, str]:
    """Return the failures that are known before any market is exported."""
    unreadable = {
        market_id: f"{reason}. Nothing was changed. Fix the cause (permissions, limits, the disk) and run again."
        for market_id, reason in disk.unreadable.items()
    }
    return refused(stored.refused) | unreadable


def about_trades(market_ids: Collection[str]) -> str:
    """Return the sentence about markets with traded rows but no ladder rows, which are not exported by default."""
    named = ", ".join(repr(market_id) for market_id in market_ids)
    return (
        f"{counted(len(market_ids), 'market')} with traded rows and no ladder rows (the platform drops those after 30"
        f" days), not exported: {named}. --include-markets-without-ladder exports their trades."
    )


def unsaved(stored: Stored, rows: Index) -> list[str]:
    """Return the markets with ticks in partitions that will soon be dropped, and in no file yet."""
    return sorted(
        market_id
        for market_id, newest in stored.old.items()
        if market_id not in rows or (rows.facts[market_id].last_tick or newest - 1) < newest
    )


def counts(facts: Collection[FileFacts]) -> list[str]:
    """Return the lines with the contents of an export; these numbers never decrease."""
    return [
        f"Markets: {len(facts)}",
        f"Total tick records: {sum(fact.tick_records for fact in facts)}",
        f"Total messages (distinct publish_time): {sum(fact.messages for fact in facts)}",
    ]


def execution_report(
    layout: Layout, rows: Index, stored: Stored, disk: OnDisk, failed: Mapping[str, str], duration_s: float
) -> str:
    """Return the report of a run after which the index has these rows. failed: why markets could not be exported."""
    facts = rows.facts.values()
    is_new = {
        record.market_id: record.change == "new"
        for record in Journal(layout.journal_dir).all_written()
        if record.market_id in disk.files and record.is_of(disk.files[record.market_id])
    }
    new = sum(is_new.values())
    kept = {
        market_id
        for market_id in rows
        if stored.newest and not stored.has_ladder(market_id) and rows.facts[market_id].tick_records
    }
    ticks_written = sum(rows.facts[market_id].tick_records for market_id in is_new)
    first = min((fact.first_tick for fact in facts if fact.first_tick is not None), default=None)
    last = max((fact.last_tick for fact in facts if fact.last_tick is not None), default=None)
    lines = [
        *counts(facts),
        "Period: " + ("no ticks" if first is None or last is None else f"{time_text(first)} to {time_text(last)}"),
        f"Total size of data files: {sum(fact.size_bytes for fact in facts)} bytes",
        f"Output: {layout.format} in {layout.output_dir}",
        report_version.LINE,
        "",
        f"Markets new: {new}",
        f"Markets refreshed: {len(is_new) - new}",
        f"Markets unchanged: {len(rows) - len(is_new) - len(kept - is_new.keys())}",
        f"Markets kept though no longer in the database: {len(kept - is_new.keys())}",
        f"Markets failed: {len(failed)}",
        *(f"  {market_id!r}: {reason}" for market_id, reason in sorted(failed.items())),
        f"Duration: {duration_s:.1f} s",
        f"Rows per second: {ticks_written / max(duration_s, 1e-3):.0f}",
    ]
    if accepted := accepted_losses.read(layout.accepted_losses):
        lines.append(f"Losses accepted ({layout.accepted_losses.name}): {len(accepted)}")
        lines += [f"  {loss}" for loss in accepted]
    trades = stored.trades_not_exported(rows.facts)
    lines.append(f"Markets with traded rows only, not exported: {len(trades)}")
    if trades:
        lines.append(f"  {about_trades(trades)}")
    lost = unsaved(stored, rows)
    if lost:
        lines.append(
            f"WARNING: {counted(len(lost), 'market')} with ticks in old partitions that no file holds; the platform"
            " drops partitions after 30 days. Fix the cause and export them now:"
            f" {', '.join(repr(market_id) for market_id in lost)}"
        )
    return "\n".join(lines) + "\n"
