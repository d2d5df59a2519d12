"""PlotMarket: a page and a picture of one market."""

import hashlib
import logging
from pathlib import Path

import luigi

from tasks.condition import export_condition, market_condition
from tasks.day_csv import export_source
from tasks.errors import UsageError
from tasks.export_directory import market_states
from tasks.export_directory.index_csv import IndexRow
from tasks.market_files import market_file
from tasks.reporting import market_plot, page, replay
from tasks.statistics import statistics_store
from tasks.storage.atomic_files import make_directory, replacing
from tasks.storage.file_identity import file_checksum
from tasks.workflow.base_task import ExportTask, FormatFrom
from tasks.workflow.exit_codes import determining
from tasks.workflow.parameters import MarketIdParameter

_log = logging.getLogger("tick_export.plot")

#: A page says what it was made of before its data, within so many bytes.
_HEAD_BYTES = 200_000


class PlotMarket(ExportTask):
    """Draw a market from its file: plots/marketId=<id>.html, which replays its ladder, and .png."""

    writes = "plots/marketId=<id>.html, plots/marketId=<id>.png"
    examples = ("--market-id 1.200806927", "--market-id 1.200806927 --offline --output-dir their_export")

    unused_options = frozenset({"export_metadata", "allow_other_database"})
    format_from = FormatFrom.FILES

    market_id = MarketIdParameter(description="Betfair market id, such as 1.200806927")

    def output(self) -> list[luigi.LocalTarget]:
        """Return page and picture."""
        return [luigi.LocalTarget(str(self.layout.plot(self.market_id, suffix))) for suffix in ("html", "png")]

    @property
    def result(self) -> Path:
        """The page."""
        return self.layout.plot(self.market_id)

    @property
    def up_to_date(self) -> str:
        """The message if there is nothing to do."""
        return f"{self.result} is up to date with the market file"

    def complete(self) -> bool:
        """Return whether the page was made from the market's file as it is now, and the picture exists."""
        with determining():
            market_plot.require_pictures()
            made_of = self._made_of(self._row())
            try:
                with open(self.result, "rb") as file:
                    head = file.read(_HEAD_BYTES)
            except FileNotFoundError:
                return False
            return market_plot.made_of(head) == made_of and self.layout.plot(self.market_id, "png").exists()

    def work(self) -> None:
        """Draw page and picture."""
        layout, row = self.layout, self._row()
        found, failed = statistics_store.load(layout, {self.market_id: row}, save=False)
        if failed:
            raise UsageError(f"Market {self.market_id}: {failed[self.market_id]}")
        ((_, metadata),) = export_condition.read_metadata(layout, [self.market_id])
        states = market_states.read(layout, self.market_id)
        end = row.facts.last_tick or 0
        in_play = [(one.from_us, one.until_us or max(end, one.last_seen_us)) for one in states if one.in_play]
        off = market_condition.in_play_from(metadata)
        if not states and off is not None and off < end:
            in_play = [(off, end)]
        condition = market_condition.judge(
            self.market_id,
            found[self.market_id],
            metadata,
            lambda moment: any(start <= moment < stop for start, stop in in_play),
        )
        market = market_plot.Market(self.market_id, metadata, in_play, condition)
        replayed = replay.replay(market_file.read(layout.market_file(self.market_id)), row.facts.messages)
        self.say("drawing", 60)
        make_directory(layout.plots_dir)
        with replacing(layout.plot(self.market_id, "png")) as file:
            file.write(market_plot.picture(market, replayed))
        with replacing(self.result) as file:
            file.write(market_plot.render(market, replayed, self._made_of(row)))
        text = f"{self.result}: {row.facts.tick_records:,} ticks, {self.result.stat().st_size:,} bytes"
        self.say_done(text, _log)

    def _row(self) -> IndexRow:
        rows = export_source.indexed(self.layout)
        if self.market_id not in rows:
            raise UsageError(
                f"{self.layout.output_dir} has no market {self.market_id} in its index.csv. Check --market-id, or"
                f" export it with ./run_pipeline.sh ExportMarket --market-id {self.market_id}, then BuildIndex."
            )
        return rows[self.market_id]

    def _made_of(self, row: IndexRow) -> str:
        layout = self.layout
        parts = [page.fingerprint(), row.facts.checksum]
        for path in (layout.metadata_file(self.market_id), layout.states_file(self.market_id)):
            parts.append(file_checksum(path) if path.exists() else "-")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
