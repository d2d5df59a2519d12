"""Every path that the pipeline writes, defined once."""

import dataclasses
import datetime
import os
import re
from pathlib import Path

from tasks.errors import UsageError
from tasks.storage.file_names import checked_market_id

#: Names in the output directory that messages mention.
INDEX, EXECUTION_REPORT = "index.csv", "execution_report.txt"

_MONTH_CSV = re.compile(r"consolidated_ticks_\d{4}_\d\d\.csv")


def _underlined(date: datetime.date) -> str:
    """Return 2022_07_11. (strftime writes the first years without their zeros.)"""
    return date.isoformat().replace("-", "_")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The paths of one export: its output directory and the format of its market files."""

    output_dir: Path
    format: str = "parquet"

    @property
    def markets_dir(self) -> Path:
        """data_exports/tick_export/markets"""
        return self.output_dir / "markets"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory that files are written to."""
        below = self.markets_dir, self.journal_dir, self.states_dir, self.streams_dir, self.plots_dir
        return (self.output_dir, *below, self.day_parts_dir)

    @property
    def own_files(self) -> tuple[Path, ...]:
        """The files in the output directory that are part of an export, except consolidated CSVs and their reports.

        They are not strays, and go into archives.
        """
        return (
            self.index,
            self.execution_report,
            self.accepted_losses,
            self.report_page,
            self.condition,
            self.runner_summary,
            self.runner_summary_csv,
            self.catalogue,
        )

    def derived_files(self, market_id: str) -> tuple[Path, ...]:
        """The optional files that are made from a market's file or stored beside it."""
        return self.states_file(market_id), self.stream_file(market_id), self.stream_catalogue(market_id)

    def market_file(self, market_id: str) -> Path:
        """data_exports/tick_export/markets/marketId=1.200806927.parquet"""
        return self.output_dir / self.file_path(market_id)

    def file_path(self, market_id: str) -> str:
        """markets/marketId=1.200806927.parquet, the market file as index.csv names it"""
        return f"markets/marketId={checked_market_id(market_id)}.{self.format}"

    def metadata_file(self, market_id: str) -> Path:
        """data_exports/tick_export/markets/marketId=1.200806927_metadata.json"""
        return self.markets_dir / self.metadata_name(market_id)

    @staticmethod
    def metadata_name(market_id: str) -> str:
        """marketId=1.200806927_metadata.json"""
        return f"marketId={checked_market_id(market_id)}_metadata.json"

    @property
    def index(self) -> Path:
        """data_exports/tick_export/index.csv"""
        return self.output_dir / INDEX

    @property
    def execution_report(self) -> Path:
        """data_exports/tick_export/execution_report.txt"""
        return self.output_dir / EXECUTION_REPORT

    @property
    def verification_report(self) -> Path:
        """data_exports/tick_export/verification_report.txt"""
        return self.output_dir / "verification_report.txt"

    @property
    def condition(self) -> Path:
        """data_exports/tick_export/condition.json"""
        return self.output_dir / "condition.json"

    @property
    def report_page(self) -> Path:
        """data_exports/tick_export/report.html"""
        return self.output_dir / "report.html"

    @property
    def report_state(self) -> Path:
        """data_exports/tick_export/.journal/report.state: from what condition.json and report.html were made"""
        return self.journal_dir / "report.state"

    def made_from(self, task: str) -> Path:
        """data_exports/tick_export/.journal/WritePage.made_from: from what the outputs of a task were made"""
        return self.journal_dir / f"{task}.made_from"

    @property
    def metrics(self) -> Path:
        """data_exports/tick_export/metrics.prom"""
        return self.output_dir / "metrics.prom"

    @property
    def plots_dir(self) -> Path:
        """data_exports/tick_export/plots"""
        return self.output_dir / "plots"

    def plot(self, market_id: str, suffix: str = "html") -> Path:
        """data_exports/tick_export/plots/marketId=1.200806927.html, or .png"""
        return self.plots_dir / f"marketId={checked_market_id(market_id)}.{suffix}"

    @property
    def lock(self) -> Path:
        """data_exports/tick_export/.lock: held while a run with the local scheduler works in the directory"""
        return self.output_dir / ".lock"

    @property
    def journal_dir(self) -> Path:
        """data_exports/tick_export/.journal: what was written since index.csv was made"""
        return self.output_dir / ".journal"

    @property
    def ledger(self) -> Path:
        """data_exports/tick_export/.ledger: what was written for each market; confirms files if index.csv is missing"""
        return self.output_dir / ".ledger"

    @property
    def accepted_losses(self) -> Path:
        """data_exports/tick_export/accepted_losses.csv: losses that the operator has accepted"""
        return self.output_dir / "accepted_losses.csv"

    @property
    def index_checksum(self) -> Path:
        """data_exports/tick_export/.journal/index.sha256: of index.csv as it was written"""
        return self.journal_dir / "index.sha256"

    @property
    def described(self) -> Path:
        """data_exports/tick_export/.journal/metadata.states: from what the metadata files were made"""
        return self.journal_dir / "metadata.states"

    @property
    def statistics(self) -> Path:
        """data_exports/tick_export/.journal/statistics.zst: the statistics of each market file"""
        return self.journal_dir / "statistics.zst"

    @property
    def states_dir(self) -> Path:
        """data_exports/tick_export/states"""
        return self.output_dir / "states"

    def states_file(self, market_id: str) -> Path:
        """data_exports/tick_export/states/marketId=1.200806927.parquet"""
        return self.states_dir / f"marketId={checked_market_id(market_id)}.parquet"

    @property
    def catalogue(self) -> Path:
        """data_exports/tick_export/catalogue.sql"""
        return self.output_dir / "catalogue.sql"

    @property
    def results(self) -> Path:
        """data_exports/tick_export/states/results.parquet: who won"""
        return self.states_dir / "results.parquet"

    @property
    def stated(self) -> Path:
        """data_exports/tick_export/.journal/states.states: from what the files in states/ were made"""
        return self.journal_dir / "states.states"

    @property
    def streams_dir(self) -> Path:
        """data_exports/tick_export/streams"""
        return self.output_dir / "streams"

    def stream_file(self, market_id: str) -> Path:
        """data_exports/tick_export/streams/1.200806927.bz2"""
        return self.streams_dir / f"{checked_market_id(market_id)}.bz2"

    def stream_catalogue(self, market_id: str) -> Path:
        """data_exports/tick_export/streams/1.200806927.json"""
        return self.streams_dir / f"{checked_market_id(market_id)}.json"

    @property
    def runner_summary(self) -> Path:
        """data_exports/tick_export/runner_summary.parquet"""
        return self.output_dir / "runner_summary.parquet"

    @property
    def runner_summary_csv(self) -> Path:
        """data_exports/tick_export/runner_summary.csv"""
        return self.output_dir / "runner_summary.csv"

    def day_csv(self, date: datetime.date, suffix: str = "csv") -> Path:
        """data_exports/tick_export/consolidated_ticks_2022_07_11.csv, or .parquet"""
        return self.output_dir / f"consolidated_ticks_{_underlined(date)}.{suffix}"

    def day_report(self, date: datetime.date, suffix: str = "csv") -> Path:
        """data_exports/tick_export/consolidation_report_2022_07_11.txt, of Parquet .._2022_07_11_parquet.txt"""
        kind = "" if suffix == "csv" else f"_{suffix}"
        return self.output_dir / f"consolidation_report_{_underlined(date)}{kind}.txt"

    @property
    def day_parts_dir(self) -> Path:
        """data_exports/tick_export/.day_parts: parts of days that several hosts are making"""
        return self.output_dir / ".day_parts"

    def day_part(self, date: datetime.date, number: int) -> Path:
        """data_exports/tick_export/.day_parts/2022_07_11.0003.csv"""
        return self.day_parts_dir / f"{_underlined(date)}.{number:04}.csv"

    @property
    def full_csv(self) -> Path:
        """data_exports/tick_export/consolidated_ticks.csv"""
        return self.output_dir / "consolidated_ticks.csv"

    @property
    def full_report(self) -> Path:
        """data_exports/tick_export/consolidation_report.txt"""
        return self.output_dir / "consolidation_report.txt"

    def month_csv(self, month: str) -> Path:
        """data_exports/tick_export/consolidated_ticks_2022_07.csv, of 2022-07"""
        return self.output_dir / f"consolidated_ticks_{month.replace('-', '_')}.csv"

    def month_csvs(self) -> list[Path]:
        """Every month_csv that exists"""
        return sorted(
            path for path in self.output_dir.glob("consolidated_ticks_*.csv") if _MONTH_CSV.fullmatch(path.name)
        )

    def consolidated_csvs(self) -> list[Path]:
        """Every consolidated file that exists: of a day (also as Parquet), of all days, of a month"""
        return sorted(
            path for suffix in ("csv", "parquet") for path in self.output_dir.glob(f"consolidated_ticks*.{suffix}")
        )

    def consolidation_reports(self) -> list[Path]:
        """Every consolidation report that exists"""
        return sorted(self.output_dir.glob("consolidation_report*.txt"))

    def archive(self, date: datetime.date, kind: str) -> Path:
        """data_exports/tick_export_20240115.tar.gz. Raises UsageError if the output directory is a disk's root"""
        directory = Path(os.path.abspath(self.output_dir))
        if not directory.name:
            raise UsageError(
                f"{directory} cannot be archived, because an archive is written beside its directory. Choose another"
                " --output-dir."
            )
        return directory.with_name(f"{directory.name}_{date.isoformat().replace('-', '')}.{kind}")

    @staticmethod
    def archive_checksum(archive: Path) -> Path:
        """data_exports/tick_export_20240115.tar.gz.sha256, as sha256sum writes it"""
        return archive.with_name(f"{archive.name}.sha256")

    @staticmethod
    def aside(path: Path, number: int) -> Path:
        """data_exports/tick_export/markets/marketId=1.200806927.parquet.damaged, .damaged.2 and so on"""
        return path.with_name(f"{path.name}.damaged" + (f".{number}" if number > 1 else ""))
