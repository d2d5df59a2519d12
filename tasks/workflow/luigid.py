"""luigid, Luigi's central scheduler: check that it is there before a run begins, and call it."""

import contextlib
import os
import queue
import threading
import urllib.error
import urllib.parse
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import luigi.configuration
import luigi.interface
from luigi.rpc import RemoteScheduler, RPCError

from tasks.errors import NoScheduler
from tasks.workflow.exit_codes import EXIT_USAGE, stop

#: A running luigid answers within milliseconds. rpc-connect-timeout in [core], Luigi's own limit, overrides this.
_WITHIN_S = 5.0


class Luigid(RemoteScheduler):
    """The calls to a luigid. Luigi tries each several times over a minute; then NoScheduler says why in one line."""

    def _request(self, url: str, data: Any, attempts: int = 3, allow_null: bool = True) -> Any:
        with _told_apart(self._url):
            return super()._request(url, data, attempts, allow_null)


def connect(url: str) -> Luigid:
    """Return a luigid that has just answered. Raises NoScheduler within seconds if there is none; stops with one line
    if the address is invalid.
    """
    _require_address(url)
    limit_s = luigi.configuration.get_config().getfloat("core", "rpc-connect-timeout", _WITHIN_S)
    answer: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            _ask(url, limit_s)
            answer.put(None)
        except Exception as error:
            answer.put(error)

    # in a thread: a name lookup has no time limit of its own, and a peer may send a byte now and then forever
    threading.Thread(target=ask, name="luigid", daemon=True).start()
    try:
        error = answer.get(timeout=limit_s + 1)
    except queue.Empty:
        error = NoScheduler(_text(url, f"no answer within {limit_s:g} s"))
    if error is not None:
        raise error
    return Luigid(url)


def require() -> None:
    """Raise NoScheduler if this run is to use a luigid, and there is none."""
    if not luigi.interface.core().local_scheduler:
        connect(_url())


def is_working_in(output_dir: str) -> bool:
    """Return whether luigid counts on a worker for a task in an output directory. Raises NoScheduler.

    It forgets a worker that has been silent for worker_disconnect_delay (60 s), and then hands out its tasks again.
    """
    with contextlib.closing(connect(_url())) as scheduler:
        workers = scheduler._request("/api/worker_list", {})
    with _told_apart(_url()):
        return any(
            task["params"].get("output_dir") == output_dir for worker in workers for task in worker["running"].values()
        )


def _url() -> str:
    core = luigi.interface.core()
    return str(core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}/")


def _ask(url: str, limit_s: float) -> None:
    scheduler = Luigid(url, limit_s)
    scheduler._rpc_retry_attempts, scheduler._rpc_log_retries = 1, False
    with contextlib.closing(scheduler):
        found = scheduler._request("/api/is_pause_enabled", {})
    if not isinstance(found, dict) or "enabled" not in found:
        raise NoScheduler(_text(url, "the server there is not a luigid"))


def _require_address(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        is_good = parts.scheme in ("http", "https", "http+unix") and bool(parts.netloc) and parts.port != 0
    except ValueError:  # a port that is not a number
        is_good = False
    if not is_good:
        stop(
            f"--scheduler-url is {_without_user(url)}, expected an address such as http://luigid.example:8082.",
            EXIT_USAGE,
        )


@contextlib.contextmanager
def _told_apart(url: str) -> Iterator[None]:
    """Turn every error of a call to luigid, or to whatever answers at its address, into NoScheduler."""
    try:
        yield
    except (RPCError, OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise NoScheduler(_text(url, _reason(error))) from error


def _text(url: str, reason: str) -> str:
    return (
        f"No luigid at {_without_user(url)}: {reason}. Start luigid, correct --scheduler-url (scheduler_url in [core]"
        " of luigi.cfg), or leave it out: Luigi then schedules by itself."
    )


def _without_user(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _reason(error: BaseException) -> str:
    """Return what went wrong, from the innermost of the errors that HTTP libraries wrap."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, urllib.error.HTTPError):  # it is an open response, too
            cause.close()
        status = getattr(getattr(cause, "response", None), "status_code", None) or getattr(cause, "code", None)
        if isinstance(status, int):
            return f"it answered with HTTP status {status}"
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes):
        return "no answer in time"
    for cause in causes:
        if isinstance(cause, OSError) and isinstance(cause.errno, int):
            return cause.strerror or os.strerror(cause.errno)
    if isinstance(causes[-1], OSError) and not isinstance(causes[-1], ValueError):
        return " ".join(str(causes[-1]).split()) or "the connection was lost"
    return "the server there is not a luigid"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes, each once, the innermost last."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        found = waiting.pop(0)
        if found in seen:
            continue
        seen.append(found)
        within = (found.__cause__, found.__context__, getattr(found, "reason", None), *found.args)
        waiting += [each for each in within if isinstance(each, BaseException)]
    yield from seen
