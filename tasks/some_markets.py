"""The base class of tasks that export markets of a plan: one market, or several together."""

import abc
import dataclasses
import time
from pathlib import Path

import luigi

from tasks.export_directory.journal import Failed
from tasks.exporting.market_export import export
from tasks.exporting.market_reads import Job
from tasks.ticks.value_text import counted
from tasks.workflow import run_context
from tasks.workflow.base_task import link
from tasks.workflow.market_batches import BatchNode, MarketNode, MarketsNode
from tasks.workflow.plan import Plan

#: How often progress is sent to luigid: each time is a request.
SAY_S = 1.0


class SomeMarketsExport(MarketsNode):
    """Exports what is pending of some markets of a plan."""

    accepts_losses = False

    @abc.abstractmethod
    def plan(self) -> Plan:
        """Return the plan that the markets are part of."""

    def is_open(self, market_id: str) -> bool:
        """Return whether a market is still to be exported: neither written since the plan was made nor failed."""
        return self.plan().any_open((market_id,))

    def failures(self) -> dict[str, str]:
        """Return why markets have failed, for luigid; the requested task reports them to the user."""
        failed = {} if self.plan().is_of_one else self.plan().failed()
        return {market_id: failed[market_id] for market_id in self.market_ids() if market_id in failed}

    def complete(self) -> bool:
        """Return whether none of the markets is still to be exported."""
        return not self.plan().any_open(self.market_ids())

    def work(self) -> None:
        """Export the markets. Those that fail do not stop the others; they are recorded, and reported at the
        run's end.
        """
        self.export()

    def is_wanted(self, market_id: str) -> bool:
        """Return whether a market of this task is to be exported."""
        return market_id in self.plan().pending

    def export(self) -> list[Failed]:
        """Export the markets that are still to be exported; return those that failed."""
        plan, failed = self.plan(), self.failures()
        pending = [
            dataclasses.replace(plan.market(market_id), accepted=self.accepts_losses)
            for market_id in self.market_ids()
            if self.is_wanted(market_id) and market_id not in failed  # luigid hands a failed one out again, in a while
        ]
        expected = sum(plan.job.density.rows(market.market_id) for market in pending)
        done = read = 0
        said_s = 0.0

        def progress(markets: int, ticks: int) -> None:
            nonlocal done, read, said_s
            plan.progress.count(markets, ticks)
            done, read = done + markets, read + ticks
            if time.monotonic() - said_s < SAY_S:
                return
            said_s = time.monotonic()
            share = read / expected if expected else done / len(pending)
            self.say(
                f"{done:,} of {len(pending):,} markets of this task, {read:,} ticks. All: {plan.progress.text}",
                int(100 * min(share, 0.99)),
            )

        wants = run_context.current().wants_report
        job: Job = dataclasses.replace(plan.job, progress=progress, gathers_statistics=wants)
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

    @property
    def address(self) -> str:
        """The address of the page, if the run makes it."""
        return link(self.layout, self.layout.report_page) if run_context.current().makes_report else super().address


class OneMarketExport(MarketNode, SomeMarketsExport):
    """Exports one market of a plan."""

    @property
    def priority(self) -> int:  # type: ignore[override]  # a property by Luigi's documentation
        """Large markets first, so that the last one does not run alone; the others as they are dealt to batches."""
        return 0 if self.batchable else 100 + round(self.plan().job.density.rows(self.market_id))

    @property
    def batchable(self) -> bool:
        """Whether it is exported together with others: all but large ones are."""
        return self.market_id in self.plan().batched

    @property
    def max_batch_size(self) -> int:  # type: ignore[override]  # likewise
        """The most markets of a batch."""
        return self.plan().batch_size

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

    @property
    def address(self) -> str:
        """The address of the market's plot, of the market on the page, or of its file: the first that there is."""
        if (plot := self.layout.plot(self.market_id)).exists():
            return link(self.layout, plot)
        if run_context.current().makes_report:
            return f"{super().address}#{self.market_id}"
        return link(self.layout, self.result)


class MarketGroupExport(BatchNode, SomeMarketsExport):
    """Exports small markets of a plan together: those of some ExportMarket tasks, or of a group where very many wait.

    What it says of itself is not part of its name: workers of one luigid cut the same groups, whatever each finds
    missing.
    """

    group = luigi.Parameter(description="number of the group, or name of the batch")
    first_market = luigi.Parameter(default="", significant=False, description="the first of its market ids")
    last_market = luigi.Parameter(default="", significant=False, description="the last of its market ids")
    markets = luigi.IntParameter(default=0, significant=False, description="how many markets")

    def market_ids(self) -> tuple[str, ...]:
        """Return the markets of the batch, or those of the group that were not complete at the start of the run."""
        return self.batched or self.plan().groups.get(self.group, ())

    def is_wanted(self, market_id: str) -> bool:
        """Return whether a market is to be exported: of a batch all, since another luigid worker may have found out."""
        return bool(self.batched) or super().is_wanted(market_id)

    def __repr__(self) -> str:
        """Return what logs call it."""
        which = f"{self.first_market} to {self.last_market}"
        return f"{self.task_family}(group={self.group}, {counted(self.markets, 'market')}, {which})"
