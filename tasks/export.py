"""ExportMarket, and ExportMarkets for the many small ones."""

import abc
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from tasks.errors import MarketFailed
from tasks.export_directory import accepted_losses
from tasks.export_directory.journal import Failed
from tasks.exporting.market_export import export
from tasks.exporting.market_reads import Job
from tasks.ticks.value_text import counted, time_text
from tasks.workflow import plan, run_context
from tasks.workflow.base_task import AllMarketsTask, DayMarketsTask, ExportTask, MarketsTask
from tasks.workflow.exit_codes import EXIT_FAILED, EXIT_USAGE, stop
from tasks.workflow.parameters import MarketIdParameter
from tasks.workflow.plan import Plan

_log = logging.getLogger("tick_export.export")


class StoredMarket(luigi.ExternalTask):
    """A market that the database has ticks of, or that has a file already."""

    market_id = luigi.Parameter(description="Betfair market id")
    exists = luigi.BoolParameter(significant=False, visibility=ParameterVisibility.PRIVATE)

    def complete(self) -> bool:
        """Tell whether there is such a market."""
        if not self.exists:
            _log.error(
                "Market %s has no ticks in the database and no file. Check --market-id and POSTGRES_DB. If it has"
                " traded rows and no ladder rows, --include-markets-without-ladder exports them.",
                self.market_id,
            )
        return bool(self.exists)


class SomeMarketsExport(ExportTask):
    """Exports what is pending of some markets of a plan."""

    accepts_losses = False

    @abc.abstractmethod
    def plan(self) -> Plan:
        """Return the plan that the markets are part of."""

    @abc.abstractmethod
    def market_ids(self) -> tuple[str, ...]:
        """Return the markets to be exported."""

    def complete(self) -> bool:
        """Tell whether none of the markets waits any more."""
        return not self.plan().any_open(self.market_ids())

    def work(self) -> None:
        """Export the markets; those that fail are recorded, stop no other, and are reported at the end of the run."""
        self.export()

    def export(self) -> list[Failed]:
        """Export the markets that wait; return those that failed."""
        plan = self.plan()
        pending = [
            dataclasses.replace(plan.market(market_id), accepted=self.accepts_losses)
            for market_id in self.market_ids()
            if market_id in plan.pending
        ]
        expected = sum(plan.job.density.rows(market.market_id) for market in pending)
        done = read = 0

        def progress(markets: int, ticks: int) -> None:
            nonlocal done, read
            plan.progress.count(markets, ticks)
            done, read = done + markets, read + ticks
            share = read / expected if expected else done / len(pending)
            self.say(
                f"{done:,} of {len(pending):,} markets of this task, {read:,} ticks. All: {plan.progress.text}",
                int(100 * min(share, 0.99)),
            )

        job: Job = dataclasses.replace(plan.job, progress=progress)
        failures = export(job, pending)
        self.say_done(
            f"Market files written: {len(pending) - len(failures):,}, ticks: {read:,}"
            + "".join(f"; {failed.market_id!r} failed: {failed.reason}" for failed in failures)
        )
        return failures

    @property
    def result(self) -> Path:
        """Where the market files are."""
        return self.layout.markets_dir


class OneMarketExport(SomeMarketsExport):
    """Exports one market of a plan."""

    market_id = MarketIdParameter(description="Betfair market id, such as 1.200806927")

    @property
    def priority(self) -> int:  # type: ignore[override]  # a property by Luigi's documentation
        """Large markets first, so that the last one does not run alone."""
        return 100 + round(self.plan().job.density.rows(self.market_id))

    def market_ids(self) -> tuple[str, ...]:
        """Return the one market."""
        return (self.market_id,)

    def output(self) -> luigi.LocalTarget:
        """Return the market file."""
        return luigi.LocalTarget(str(self.layout.market_file(self.market_id)))

    @property
    def result(self) -> Path:
        """The market file."""
        return self.layout.market_file(self.market_id)


class ExportMarket(MarketsTask, OneMarketExport):
    """Export one market to markets/marketId=<id>.<format>, or refresh its file with what is new in the database.

    In a run over all markets it is part of their plan, and leaves a failure to the task that was asked for. Asked for
    by itself it has a plan of its own, and fails.
    """

    unused_options = frozenset({"export_metadata", "offline"})

    refresh = luigi.BoolParameter(
        default=False, description="read the market again and merge it into the file even if that is complete"
    )
    accept_loss = luigi.BoolParameter(
        default=False,
        description=(
            "accept that this market has fewer ticks than it once had, or a file that is not as it was written;"
            " recorded in accepted_losses.csv"
        ),
    )

    def plan(self) -> Plan:
        """Return the plan that the run has for this market among others, otherwise one for this market alone."""
        if self.offline:
            stop("ExportMarket reads the database: it cannot be --offline.", EXIT_USAGE)
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
        """Whether a file with fewer ticks than before is as it should be."""
        return bool(self.accept_loss)

    def is_known(self) -> bool:
        """Tell whether the database has ticks of the market, or it has a file, or a loss is to be accepted."""
        plan = self.plan()
        return (
            plan.stored.has_ladder(self.market_id)
            or self.market_id in plan.disk.files
            or self.loss_to_accept() is not None
            or self.include_markets_without_ladder
            and self.market_id in plan.stored.traded_only
        )

    def loss_to_accept(self) -> str | None:
        """Return what the operator accepts with --accept-loss; None where that is not asked for, or nothing is lost."""
        disk = self.plan().disk
        if not self.accept_loss:
            return None
        if self.market_id in disk.unreadable:
            stop(f"{disk.unreadable[self.market_id]}. It may be sound: mend that first.", EXIT_FAILED)
        if problem := disk.not_ours(self.layout).get(self.market_id):
            return problem
        return "fewer ticks than it had" if disk.is_below_promise(self.market_id) else None

    def requires(self) -> Any:
        """Return the market in the database."""
        return [] if self._plan_of_many else StoredMarket(market_id=self.market_id, exists=self.is_known())

    def complete(self) -> bool:
        """Tell whether the file is undamaged and holds the newest tick, settled."""
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


@ExportMarket.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_unchanged(task: ExportMarket) -> None:
    if not task._plan_of_many:
        _log.info(
            "Nothing to do: %s is complete. --refresh reads the market again.",
            task.layout.market_file(task.market_id),
        )


class MarketGroupExport(SomeMarketsExport):
    """Exports a group of small markets of a plan together."""

    group = luigi.IntParameter(description="number of the group")

    def market_ids(self) -> tuple[str, ...]:
        """Return the group's markets that were not complete at the start of the run."""
        return self.plan().groups.get(self.group, ())


class ExportMarkets(AllMarketsTask, MarketGroupExport):
    """Export a group of small markets together."""


def pending_exports(
    task: AllMarketsTask | DayMarketsTask,
    one: type[OneMarketExport] = ExportMarket,
    many: type[MarketGroupExport] = ExportMarkets,
) -> list[luigi.Task]:
    """Return the tasks, of two classes, that export what is missing or out of date, large markets first."""
    plan = task.plan()
    large = [task.clone(one, market_id=market_id) for market_id in plan.large]
    return large + [task.clone(many, group=group) for group in sorted(plan.groups)]
