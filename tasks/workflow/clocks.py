"""The clocks of this machine and of the database server: compared once per run, and the earlier of the two counts.

A file that is dated too late, or a day that counts as over too early, would hide ticks that come afterwards.
"""

import logging
import time

from tasks.postgres.database import Database
from tasks.workflow import findings, run_context
from tasks.workflow.exit_codes import determining

_log = logging.getLogger("tick_export.run")

#: The difference, in seconds, above which it is logged.
_TELL_S = 60


def now_us() -> int:
    """Return the time now by the earlier of both clocks, microseconds since 1970. Asks the database, once per run."""
    return time.time_ns() // 1000 + min(0, run_context.current().once(_server_ahead_us))


def compare() -> None:
    """Say so if the two clocks differ by more than a minute."""
    run_context.current().once(_server_ahead_us)


def _server_ahead_us() -> int:
    """Return how far the server's clock is ahead of this machine's, microseconds."""
    with determining(), Database(findings.server()) as database:
        before_ns = time.time_ns()
        server_us = database.now_us()
        ahead_us = server_us - (before_ns + time.time_ns()) // 2000
    if abs(ahead_us) > _TELL_S * 1_000_000:
        _log.warning(
            "The clock of the database server is %.0f s %s that of this machine. The earlier clock counts, so nothing"
            " is taken for complete too soon. Correct the clock that is wrong (NTP).",
            abs(ahead_us) / 1e6,
            "ahead of" if ahead_us > 0 else "behind",
        )
    return ahead_us
