"""The section [tick_export] of luigi.cfg."""

import luigi

from tasks.workflow.parameters import CountParameter

_DAY_US = 86_400_000_000


class tick_export(luigi.Config):  # noqa: N801  (the section's name)
    """What an operator can set beyond the options of a task."""

    settle_minutes = CountParameter(
        default=15, description="a market file is complete only if it was written so many minutes after its newest tick"
    )
    warn_partition_days = CountParameter(
        default=25,
        description="warn of ticks that no file holds in partitions older than this; the platform drops them at 30",
    )

    market_nodes = CountParameter(
        default=2000,
        description="luigid shows markets one by one where at most so many wait to be exported, otherwise in groups",
    )
    recheck_days = CountParameter(
        default=3, description="nightly looks for rows that came late in so many days before yesterday, 0 for none"
    )
    output_url = luigi.Parameter(
        default="",
        description="where a web server shows the folder that the output directories are in, for luigid's links",
    )

    day_below_percent = CountParameter(
        default=50, description="a day with less of the ticks or markets of the days before is degraded; 0: none is"
    )
    condition_exit_code = CountParameter(
        default=0, description="exit code of nightly where all went well and yesterday's recording is not good"
    )
    ping_url = luigi.Parameter(
        default="", description="nightly asks <ping_url>/start when it begins and <ping_url>/<exit code> when it ends"
    )

    lock_timeout_s = luigi.IntParameter(
        default=600, description="a statement that waits so many seconds for a lock in the database fails"
    )
    answer_timeout_s = luigi.IntParameter(
        default=3600, description="a statement of which no byte comes for so many seconds is given up"
    )
    silence_timeout_s = luigi.IntParameter(
        default=30, description="a server that does not even answer a second connection for so many seconds is given up"
    )
    tables_in_two_schemas = luigi.Parameter(
        default="",
        description="which of two tables of one name counts where both have rows: a schema, or merge for both by key",
    )

    @property
    def settle_us(self) -> int:
        """settle_minutes in microseconds."""
        return int(self.settle_minutes) * 60_000_000

    @property
    def warn_partition_us(self) -> int:
        """warn_partition_days in microseconds."""
        return int(self.warn_partition_days) * _DAY_US
