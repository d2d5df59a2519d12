"""The section [tick_export] of luigi.cfg."""

import luigi

from tasks.workflow.parameters import CountParameter

_DAY_US = 86_400_000_000


class tick_export(luigi.Config):  # noqa: N801  (the section's name)
    """An operator's settings, in addition to the options of a task."""

    settle_minutes = CountParameter(
        default=15,
        description="a market file is complete only if it was read at least this many minutes after its newest tick",
    )
    warn_partition_days = CountParameter(
        default=25,
        description=(
            "warn of ticks that are in no file and in partitions older than this; the platform drops partitions"
            " after 30"
        ),
    )

    market_nodes = CountParameter(
        default=2000,
        description="luigid shows markets one by one if at most this many wait to be exported, otherwise in groups",
    )
    recheck_days = CountParameter(
        default=3, description="nightly looks for late rows in this many days before yesterday; 0 for none"
    )
    output_url = luigi.Parameter(
        default="",
        description="address at which a web server shows the folder of the output directories, for luigid's links",
    )

    day_below_percent = CountParameter(
        default=50,
        description="a day with less than this share of the usual ticks or markets is degraded; 0 switches this off",
    )
    condition_exit_code = CountParameter(
        default=0, description="exit code of nightly if all went well but yesterday's recording is not good"
    )
    ping_url = luigi.Parameter(
        default="",
        description="nightly requests <ping_url>/start when it begins and <ping_url>/<exit code> when it ends",
    )

    lock_timeout_s = luigi.IntParameter(
        default=600, description="a statement that waits this many seconds for a lock in the database fails"
    )
    answer_timeout_s = luigi.IntParameter(
        default=3600, description="a statement that sends no byte for this many seconds is abandoned"
    )
    silence_timeout_s = luigi.IntParameter(
        default=30,
        description="a server that does not even answer a second connection for this many seconds is abandoned",
    )
    tables_in_two_schemas = luigi.Parameter(
        default="",
        description=(
            "which of two tables with the same name counts if both have rows: a schema, or merge for both by key"
        ),
    )

    @property
    def settle_us(self) -> int:
        """settle_minutes in microseconds."""
        return int(self.settle_minutes) * 60_000_000

    @property
    def warn_partition_us(self) -> int:
        """warn_partition_days in microseconds."""
        return int(self.warn_partition_days) * _DAY_US
