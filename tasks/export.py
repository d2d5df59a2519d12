"""ExportMarket, and ExportMarkets for the many small ones."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from tasks.errors import MarketFailed
from tasks.export_directory.journal import Failed
from tasks.exporting.market_export import Job, export
from tasks.workflow import run
from tasks.workflow.base_task import AllMarketsTask
from tasks.workflow.exit_codes import EXIT_USAGE, stop
from tasks.workflow.parameters import MarketIdParameter

_log = logging.getLogger("tick_export.export")


class StoredMarket(luigi.ExternalTask):
    """A market that the database has ticks of, or that has a file already."""

    market_id = luigi.Parameter(description="Betfair market id")
    exists = luigi.BoolParameter(significant=False, visibility=ParameterVisibility.PRIVATE)

    def complete(self) -> bool:
        """Tell whether there is such a market."""
        if not self.exists:
            _log.error(
                "Market %s has no ticks in the database and no file. Check --market-id and POSTGRES_DB.", self.market_id
            )
        return bool(self.exists)


class _Export(AllMarketsTask):
    """Exports what is pending of some markets of a plan."""

    def market_ids(self) -> tuple[str, ...]:
        """Return the markets to be exported."""
        raise NotImplementedError

    def complete(self) -> bool:
        """Tell whether none of the markets waits any more."""
        return not self.plan().any_open(self.market_ids())

    def export(self) -> list[Failed]:
        """Export the markets that wait; return those that failed."""
        plan = self.plan()
        pending = [plan.market(market_id) for market_id in self.market_ids() if market_id in plan.pending]
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


class ExportMarket(_Export):
    """Export one market to markets/marketId=<id>.<format>, or refresh its file with what is new in the database."""

    market_id = MarketIdParameter(description="Betfair market id, such as 1.200806927")
    refresh = luigi.BoolParameter(
        default=False, description="read the market again and merge it into the file even if that is complete"
    )
    in_bulk = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.PRIVATE,
        description="leave a failure to ExportAll, which reports all of them at its end",
    )

    def plan(self) -> run.Plan:
        """Return the plan of all markets if this is part of it, otherwise one for this market alone."""
        if self.offline:
            stop("ExportMarket reads the database: it cannot be --offline.", EXIT_USAGE)
        if self.in_bulk:
            return super().plan()
        return run.plan(
            self.layout, market_id=self.market_id, refresh=self.refresh, allow_other_database=self.allow_other_database
        )

    @property
    def priority(self) -> int:  # type: ignore[override]  # Luigi's documentation makes a property of it, its class an attribute
        """Large markets first, so that the last one does not run alone."""
        return 100 + round(self.plan().job.density.rows(self.market_id)) if self.in_bulk else 0

    def market_ids(self) -> tuple[str, ...]:
        """Return the one market."""
        return (self.market_id,)

    def is_known(self) -> bool:
        """Tell whether the database has ticks of the market, or it has a file."""
        plan = self.plan()
        return plan.stored.has_ladder(self.market_id) or self.market_id in plan.disk.files

    def requires(self) -> Any:
        """Return the market in the database."""
        return StoredMarket(market_id=self.market_id, exists=self.is_known()) if not self.in_bulk else []

    def complete(self) -> bool:
        """Tell whether the file is undamaged and holds the newest tick, settled."""
        return self.is_known() and super().complete()

    def output(self) -> luigi.LocalTarget:
        """Return the market file."""
        return luigi.LocalTarget(str(self.layout.market_file(self.market_id)))

    @property
    def result(self) -> Path:
        """The market file."""
        return self.layout.market_file(self.market_id)

    def run(self) -> None:
        """Export the market."""
        failures = self.export()
        if failures and not self.in_bulk:
            raise MarketFailed(f"Market {failures[0].market_id}: {failures[0].reason}")


class ExportMarkets(_Export):
    """Export a group of small markets together."""

    group = luigi.IntParameter(description="number of the group")

    def market_ids(self) -> tuple[str, ...]:
        """Return the group's markets that were not complete at the start of the run."""
        return self.plan().groups.get(self.group, ())

    def run(self) -> None:
        """Export the group; markets that fail are recorded and do not stop the others."""
        self.export()


def pending_exports(
    task: AllMarketsTask, one: type[ExportMarket] = ExportMarket, many: type[ExportMarkets] = ExportMarkets
) -> list[luigi.Task]:
    """Return the tasks, of two classes, that export what is missing or out of date, large markets first."""
    plan = task.plan()
    large = [task.clone(one, market_id=market_id, in_bulk=True) for market_id in plan.large]
    return large + [task.clone(many, group=group) for group in sorted(plan.groups)]
