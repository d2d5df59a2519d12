"""Allow one run at a time in an output directory, and remove what killed or interrupted processes left there."""

import atexit
import contextlib
import datetime
import errno
import logging
import multiprocessing
import os
import time
from pathlib import Path
from typing import NoReturn

import filelock
import luigi.interface
import psutil

from tasks.errors import is_full_disk
from tasks.export_directory.journal import Journal
from tasks.storage.atomic_files import make_directory, remove_leftovers
from tasks.storage.layout import Layout
from tasks.ticks.value_text import counted
from tasks.workflow import run_context
from tasks.workflow.exit_codes import EXIT_FAILED, stop

_log = logging.getLogger("tick_export.run")

#: The directories that this process, or the one that it was forked from, has locked. Locks are held until it ends.
_claimed: dict[Path, tuple[Layout, filelock.BaseFileLock | None]] = {}
#: The directories that this process created for its lock: they are removed if nothing else is written there.
_made: dict[Path, list[Path]] = {}
_TRIES = 5
#: Seconds that the workers of an interrupted run have to end by themselves.
_GRACE_S = 1.0


def claim(layout: Layout, make: bool = True) -> None:
    """Create the output directory, and keep other runs out of it until this process ends; exit 10 if one is there.

    Workers of one luigid share a directory without a lock: luigid assigns no task twice. make: create it for them, too.
    """
    if layout.output_dir in _claimed:
        return
    alone = luigi.interface.core().local_scheduler
    if not alone and not make and not layout.output_dir.is_dir():
        _require_place(layout)
        return
    lock = filelock.FileLock(layout.lock)
    try:
        for attempt in range(_TRIES):
            if _is_taken(layout, lock if alone else None, is_last=attempt == _TRIES - 1):
                break
    except filelock.Timeout:
        _log.error(
            "Another run works in %s%s. Wait until it has ended, then start again.", layout.output_dir, _holder(layout)
        )
        raise luigi.interface.PidLockAlreadyTakenExit() from None
    except OSError as error:
        _refuse(layout, error.errno or errno.EIO)
    if alone:
        Journal(layout.journal_dir).forget_before(run_context.current().started_s)
    _claimed[layout.output_dir] = layout, lock if alone else None
    for directory in layout.directories:
        if removed := remove_leftovers(directory):
            _log.info(
                "Removed what a killed process left behind in %s: %s (%s ...).",
                directory,
                counted(len(removed), "file"),
                removed[0],
            )


def _is_taken(layout: Layout, lock: filelock.BaseFileLock | None, is_last: bool) -> bool:
    """Create the directory and take its lock. Return whether to try again, because another run has just removed the
    directory, which it had created and not used.
    """
    new = [path for path in (layout.output_dir, *layout.output_dir.parents) if not os.path.lexists(path)]
    try:
        make_directory(layout.output_dir)
        if lock is not None:
            lock.acquire(timeout=0)
    except (filelock.Timeout, FileNotFoundError):
        if is_last or layout.lock.exists():
            raise
        return False
    if new:
        _made[layout.output_dir] = new
        atexit.register(_remove_unused, layout, os.getpid())
    return True


def is_for_lock_alone(layout: Layout) -> bool:
    """Return whether this run created the directory for its lock, and has not written anything else there."""
    try:
        return layout.output_dir in _made and set(os.listdir(layout.output_dir)) <= {layout.lock.name}
    except OSError:
        return False


def _remove_unused(layout: Layout, pid: int) -> None:
    """Remove a directory that was created only for the lock, so that a run that did nothing leaves nothing behind."""
    if pid != os.getpid() or not is_for_lock_alone(layout):
        return
    with contextlib.suppress(OSError):
        layout.lock.unlink(missing_ok=True)
        for path in _made[layout.output_dir]:
            path.rmdir()


def _holder(layout: Layout) -> str:
    """Return which process of this host holds the lock, and since when; an empty text if the system does not say."""
    try:
        inode = os.stat(layout.lock).st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                process = psutil.Process(int(fields[4]))
                since = datetime.datetime.fromtimestamp(process.create_time(), datetime.UTC)
                command = " ".join(process.cmdline())[-120:]
                return f" since {since:%Y-%m-%d %H:%M:%S} UTC: process {process.pid} ({command})"
    except (OSError, ValueError, IndexError, psutil.Error):
        pass
    return ""


def _require_place(layout: Layout) -> None:
    """Stop with one line if the output directory does not exist and could not be created."""
    place = next(parent for parent in layout.output_dir.parents if os.path.lexists(parent))
    if not place.is_dir():
        _refuse(layout, errno.ENOTDIR)
    if not os.access(place, os.W_OK | os.X_OK):
        _refuse(layout, errno.EACCES)


def _refuse(layout: Layout, number: int) -> NoReturn:
    path = layout.output_dir
    leads_nowhere = path.is_symlink() and not path.exists()
    reason = "it is a dangling link" if leads_nowhere else os.strerror(number)
    if leads_nowhere:
        advice = "Correct it"
    elif is_full_disk(OSError(number, "")):
        advice = "Make room there"
    else:
        advice = "Correct its permissions" if number in (errno.EACCES, errno.EPERM) else "Fix the cause"
    stop(f"Cannot write to {path}: {reason}. {advice} or choose another --output-dir.", EXIT_FAILED)


def clear_up() -> None:
    """End the workers of this interrupted process and remove what all of them leave unfinished.

    Most have heard the signal themselves. One that was being forked when it came has not, or ignores it. Killing it
    loses nothing.
    """
    workers, until_s = multiprocessing.active_children(), time.monotonic() + _GRACE_S
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(max(0.0, until_s - time.monotonic()))
        worker.kill()
        worker.join()
    for layout, _ in _claimed.values():
        for directory in layout.directories:
            remove_leftovers(directory, finished_here=True)
