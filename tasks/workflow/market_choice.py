"""Choose the markets for tasks that write one file per market."""

from tasks.storage.file_names import is_market_id
from tasks.workflow import findings, run_context
from tasks.workflow.base_task import MarketsTask


def markets_with_ticks(task: MarketsTask) -> list[str]:
    """Return the markets with ticks, in the database or in a file, sorted."""
    found = run_context.current().once(findings.look_at_all, task.layout, task.allow_other_database)
    kept = (
        market_id
        for market_id, facts in found.disk.facts.items()
        if facts.tick_records and not found.stored.has_ladder(market_id)
    )
    market_ids = {*found.stored.with_ladder(), *kept}
    if task.include_markets_without_ladder:
        market_ids.update(filter(is_market_id, found.stored.traded_only))
    return sorted(market_ids)
