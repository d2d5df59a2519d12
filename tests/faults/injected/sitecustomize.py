"""Failpoints: Python imports this before a program if this directory is in PYTHONPATH.

TICK_EXPORT_FAILPOINT is JSON: under, a directory; record, a file that gets every step of every process; and optionally
a strike: step, number (which occurrence), when ("before" or "after") and kind. A step is a call that changes or asks
the file system under the directory, with what the file is, or one to the database, with the function that makes it.
Without the variable nothing is changed. If it is {}, nothing happens until arm() is called.
"""

import builtins
import errno
import functools
import io
import json
import os
import re
import signal
import sys
import time

_FAILPOINT = json.loads(os.environ.get("TICK_EXPORT_FAILPOINT", "null"))
_ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}
_main = os.getpid()
_DELAY_S = 5
_open, _write, _close, _fstat, _readlink = os.open, os.write, os.close, os.fstat, os.readlink
#: What makes and begins a session with the database, and what many questions pass through.
_OF_A_SESSION = ("session.py", "waiting.py", "source_tables.py", "column_types.py")
_OF_MANY_QUESTIONS = ("query", "stream", "_transaction", "_next_rows", "_of_leaf", "__init__", "__enter__", "__exit__")
#: What differs from run to run in the name of a file.
_NAMES = [
    (re.compile(r"(^|/)\.([^/]+)\.[^./]+\.[0-9]+\.r[0-9a-f]+\.tmp$"), r"\1\2 (temporary)"),
    (re.compile(r"marketId=[0-9]+\.[0-9]+"), "marketId=M"),
    (re.compile(r"streams/[0-9]+\.[0-9]+"), "streams/M"),
    (re.compile(r"[0-9]{4}_?[0-9]{2}(_?[0-9]{2})?"), "D"),
    (re.compile(r"[^/ ]*[0-9]{3,}[^/ ]*"), "N"),
]


def _named(path):
    """Return what a file under the directory is; None for others."""
    if not _FAILPOINT:
        return None
    try:
        path = _readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(os.fspath(path))
    except (OSError, TypeError):
        return None
    path = os.fsdecode(path)
    under = _FAILPOINT["under"]
    if not (path == under or path.startswith(under + "/")):
        return None
    name = path[len(under) + 1 :] or "."
    for pattern, text in _NAMES:
        name = pattern.sub(text, name)
    return name


def _append(path, text):
    """Append to a file; return how long it is then."""
    descriptor = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        _write(descriptor, text.encode())
        return _fstat(descriptor).st_size
    finally:
        _close(descriptor)


class _Passed:
    """A step that is passed now; strikes if it is the one."""

    def __init__(self, call, what):
        step = f"{call} {what}"
        role = "parent" if os.getpid() == _main else "worker"
        _append(_FAILPOINT["record"], f"{role}\t{step}\n")
        is_meant = _FAILPOINT.get("step") == step and (role == "worker" or _FAILPOINT["kind"] != "kill worker")
        self._is_it = is_meant and (_append(_FAILPOINT["record"] + ".passed", ".") == _FAILPOINT["number"])

    def strike(self, when):
        """Do what is to be done before or after the step."""
        if not self._is_it or _FAILPOINT["when"] != when:
            return
        kind = _FAILPOINT["kind"]
        _append(_FAILPOINT["record"] + ".struck", ".")
        if kind in _ERRORS:
            raise OSError(_ERRORS[kind], os.strerror(_ERRORS[kind]))
        if kind == "error":
            import psycopg2

            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        if kind == "kill":
            os.killpg(0, signal.SIGKILL)
        if kind == "kill worker":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(_DELAY_S)


def _wrapped(call, original, named=_named):
    @functools.wraps(original)
    def wrapper(*arguments, **options):
        what = named(*arguments[:1]) if arguments else None
        if what is None:
            return original(*arguments, **options)
        passed = _Passed(call, what)
        passed.strike("before")
        result = original(*arguments, **options)
        passed.strike("after")
        return result

    return wrapper


class _Writer(io.BufferedWriter):
    """A file being written, each write of which is a step."""

    def write(self, data):
        """Write."""
        passed = _Passed("write", self.what)
        passed.strike("before")
        count = super().write(data)
        passed.strike("after")
        return count


def _opening(original):
    @functools.wraps(original)
    def opened(file, mode="r", *arguments, **options):
        what = _named(file) if not isinstance(file, int) else None
        if what is None:
            return original(file, mode, *arguments, **options)
        passed = _Passed("create" if set(mode) & set("xwa") else "read", what)
        passed.strike("before")
        result = original(file, mode, *arguments, **options)
        if type(result) is io.BufferedWriter:
            result = _Writer(result.detach())
            result.what = what
        passed.strike("after")
        return result

    return opened


def _asked():
    """Return the question that the pipeline asks the database, and the function that asks; None if it is no step."""
    if not _FAILPOINT:
        return None
    question, frame = "session", sys._getframe(2)
    while frame is not None:
        folder, name = os.path.split(frame.f_code.co_filename)
        function = f"{name[:-3]}.{frame.f_code.co_name}"
        if "<" in function or "/tasks" not in folder:  # a comprehension is a frame of its own up to Python 3.11
            pass
        elif not folder.endswith("/tasks/postgres"):
            return question, function
        elif question == "session" and name not in _OF_A_SESSION and frame.f_code.co_name not in _OF_MANY_QUESTIONS:
            question = function
        frame = frame.f_back
    return None


def _patch_database():
    import psycopg2
    import psycopg2.extensions as extensions

    def asking(name, original):
        @functools.wraps(original)
        def question(self, *arguments, **options):
            asked = _asked()
            what = asked and (asked[1] if name == "roll back" else "{} for {}".format(*asked))
            passed = _Passed(name, what) if what else None
            if passed:
                passed.strike("before")
            result = original(self, *arguments, **options)
            if passed:
                passed.strike("after")
            return result

        return question

    class Cursor(extensions.cursor):
        """A cursor whose questions are steps."""

        execute = asking("ask", extensions.cursor.execute)
        copy_expert = asking("copy", extensions.cursor.copy_expert)

    class Connection(extensions.connection):
        """A connection whose transactions' ends are steps."""

        commit = asking("commit", extensions.connection.commit)
        rollback = asking("roll back", extensions.connection.rollback)

        def cursor(self, *arguments, **options):
            """Return a cursor."""
            return super().cursor(*arguments, **({"cursor_factory": Cursor} | options))

    original = psycopg2.connect

    @functools.wraps(original)
    def connected(*arguments, **options):
        if not _FAILPOINT:
            return original(*arguments, **options)
        passed = _Passed("connect", (_asked() or ("", "other"))[1])
        passed.strike("before")
        connection = original(*arguments, **({"connection_factory": Connection} | options))
        passed.strike("after")
        return connection

    psycopg2.connect = connected


def arm(failpoint):
    """Set what TICK_EXPORT_FAILPOINT says, in a process that was forked from one that has it as {}."""
    global _main
    _main = os.getpid()
    _FAILPOINT.update(failpoint)


def _patch():
    import fcntl

    names = {"fsync": "flush", "unlink": "remove"}
    for call in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "utime", "stat", "scandir", "listdir"):
        setattr(os, call, _wrapped(names.get(call, call), getattr(os, call)))
    fcntl.flock = _wrapped("lock", fcntl.flock)
    builtins.open = io.open = _opening(io.open)
    _patch_database()


if _FAILPOINT is not None:
    _patch()
