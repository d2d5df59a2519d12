"""Pings: a URL that nightly requests when it begins and ends, so that a service notices when it does not run."""

import logging

import urllib3

from tasks.workflow.settings import tick_export

_log = logging.getLogger("tick_export.ping")

_TIMEOUT_S = 5.0
_TRIES = urllib3.Retry(total=2, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504), raise_on_status=False)


def ping(what: str) -> None:
    """Request ping_url of [tick_export] with what has happened: "start", or an exit code. Errors are only logged.

    The addresses are those of healthchecks.io and similar services: <url>/start, <url>/0, <url>/30.
    """
    base = str(tick_export().ping_url).rstrip("/")
    if not base:
        return
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT_S, retries=_TRIES) as pool:
            status = pool.request("GET", f"{base}/{what}").status
            if status >= 400:
                _log.warning("The ping of ping_url (%s) was answered with %d.", what, status)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        _log.warning("The ping of ping_url (%s) failed: %s.", what, error)
