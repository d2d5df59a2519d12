"""ExportMarket, and ExportMarkets for several together."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from tasks.errors import MarketFailed
from tasks.export_directory import accepted_losses
from tasks.some_markets import MarketGroupExport, OneMarketExport
from tasks.ticks.value_text import counted, time_text
from tasks.workflow import plan, run_context
from tasks.workflow.base_task import AllMarketsTask, DayMarketsTask, MarketsTask
from tasks.workflow.exit_codes import EXIT_FAILED, EXIT_USAGE, stop
from tasks.workflow.market_batches import BatchNode
from tasks.workflow.plan import Plan

_log = logging.getLogger("tick_export.export")


class StoredMarket(luigi.ExternalTask):
    """A market that the database has ticks of, or that has a file already."""

    market_id = luigi.Parameter(description="Betfair market id")
    exists = luigi.BoolParameter(significant=False, visibility=ParameterVisibility.PRIVATE)

    def complete(self) -> bool:
        """Return whether there is such a market."""
        if not self.exists:
            _log.error(
                "Market %s has no ticks in the database and no file. Check --market-id and POSTGRES_DB. If it has"
                " traded rows and no ladder rows, --include-markets-without-ladder exports them.",
                self.market_id,
            )
        return bool(self.exists)


class ExportMarkets(AllMarketsTask, MarketGroupExport):
    """Export several markets in one process: a batch of ExportMarket tasks, or one of the groups for very many
    markets.
    """

    #: The plan that the markets of a batch are part of.
    plan_of_batch: Plan | None = None

    def plan(self) -> Plan:
        """Return what has to be exported, determined once per run."""
        return self.plan_of_batch or super().plan()


class ExportMarket(MarketsTask, OneMarketExport):
    """Export one market to markets/marketId=<id>.<format>, or refresh its file with what is new in the database.

    In a run over all markets it is part of their plan, and the requested task reports its failure. Requested by itself,
    it has its own plan, and fails.
    """

    writes = "markets/marketId=<id>.parquet (or .jsonl)"
    examples = ("--market-id 1.200806927", "--market-id 1.200806927 --refresh")

    unused_options = frozenset({"export_metadata", "offline"})
    batch_class = ExportMarkets

    refresh = luigi.BoolParameter(
        default=False,
        visibility=ParameterVisibility.HIDDEN,
        description="read the market again and merge it into its file even if that is complete",
    )
    accept_loss = luigi.BoolParameter(
        default=False,
        visibility=ParameterVisibility.HIDDEN,
        description=(
            "accept that this market has fewer ticks than before, or a file that was changed from outside; recorded in"
            " accepted_losses.csv"
        ),
    )

    def batch(self, market_ids: Sequence[str], batch_id: str) -> BatchNode:
        """Return the task that exports markets together, this one and others of its plan."""
        task = super().batch(market_ids, batch_id)
        assert isinstance(task, ExportMarkets)
        task.plan_of_batch = self.plan()
        return task

    def plan(self) -> Plan:
        """Return the plan that the run has for this market among others, otherwise one for this market alone."""
        if self.offline:
            stop("ExportMarket reads the database, so it cannot be --offline.", EXIT_USAGE)
        return self._plan_of_many or run_context.current().once(
            plan.plan_market,
            self.layout,
            self.market_id,
            self.refresh,
            self.include_markets_without_ladder,
            self.allow_other_database,
        )

    @property
    def _plan_of_many(self) -> Plan | None:
        plans = run_context.current().found(Plan)
        return next(
            (
                plan
                for plan in plans
                if not plan.is_of_one and plan.layout == self.layout and self.market_id in plan.pending
            ),
            None,
        )

    @property
    def accepts_losses(self) -> bool:  # type: ignore[override]
        """Whether a file with fewer ticks than before is accepted."""
        return bool(self.accept_loss)

    def is_known(self) -> bool:
        """Return whether the database has ticks of the market, or it has a file, or a loss is to be accepted."""
        plan = self.plan()
        return (
            plan.stored.has_ladder(self.market_id)
            or self.market_id in plan.disk.files
            or self.loss_to_accept() is not None
            or self.include_markets_without_ladder
            and self.market_id in plan.stored.traded_only
        )

    def loss_to_accept(self) -> str | None:
        """Return the loss that --accept-loss accepts; None without that option, or if nothing is lost."""
        disk = self.plan().disk
        if not self.accept_loss:
            return None
        if self.market_id in disk.unreadable:
            stop(f"{disk.unreadable[self.market_id]}. It may be sound. Fix the cause first.", EXIT_FAILED)
        if problem := disk.not_ours(self.layout).get(self.market_id):
            return problem
        return "fewer ticks than it had" if disk.is_below_promise(self.market_id) else None

    def requires(self) -> Any:
        """Return the market in the database."""
        return [] if self._plan_of_many else StoredMarket(market_id=self.market_id, exists=self.is_known())

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.layout.market_file(self.market_id)} is complete. --refresh reads the market again"

    def complete(self) -> bool:
        """Return whether the file is undamaged and holds the newest tick, settled."""
        return self.is_known() and self.loss_to_accept() is None and super().complete()

    def work(self) -> None:
        """Export the market."""
        if reason := self.loss_to_accept():
            self._accept(reason)
        failures = self.export()
        if failures and not self._plan_of_many:
            raise MarketFailed(f"Market {failures[0].market_id}: {failures[0].reason}")
        if not self._plan_of_many:
            _log.info("Wrote %s with %s.", self.result, counted(self.plan().progress.ticks, "tick"))

    def _accept(self, reason: str) -> None:
        disk = self.plan().disk
        unvouched = disk.unvouched.get(self.market_id)
        kept = unvouched or (disk.facts[self.market_id] if self.market_id in disk.facts else None)
        now = time_text(time.time_ns() // 1000)
        left = kept.tick_records if kept else 0
        accepted_losses.accept(self.layout, disk, self.market_id, left, reason, now)
        _log.warning(
            "Market %s: the loss is accepted (%s) and recorded in %s.",
            self.market_id,
            reason,
            self.layout.accepted_losses.name,
        )


def pending_exports(
    task: AllMarketsTask | DayMarketsTask, one: type[OneMarketExport] = ExportMarket
) -> list[luigi.Task]:
    """Return the tasks that export what is missing or out of date, large markets first; one: those of one market."""
    plan = task.plan()
    # Luigi takes the last one first
    alone = [task.clone(one, market_id=market_id) for market_id in (*plan.large, *reversed(plan.batched))]
    groups = [
        task.clone(
            one.batch_class,
            group=group,
            first_market=min(market_ids),
            last_market=max(market_ids),
            markets=len(market_ids),
        )
        for group, market_ids in sorted(plan.groups.items())
    ]
    return alone + groups
