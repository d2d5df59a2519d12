"""Runs command lines of the pipeline, each in a fork of this process, which has already imported it.

Usage: python -P warm_server.py SOCKET. A request is JSON with arguments, environment, directory and failpoint, and the
descriptor for standard error. The answers are the id of the process, which leads a session of its own, and when it has
ended its exit code.
"""

import functools
import json
import logging
import os
import signal
import socket
import sys

import sitecustomize
from luigi.cmdline_parser import CmdlineParser

from tasks.workflow.process_start import tuned_start


def accepted(path):
    """Serve; return in each run's process with its arguments."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return supervised(connection)
        connection.close()


def supervised(connection):
    """Fork a run and answer for it; return in its process."""
    request, (stderr,), *_ = socket.recv_fds(connection, 1 << 20, 1)
    pid = os.fork()
    if pid:
        os.close(stderr)
        connection.send(b"%d" % pid)
        connection.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    connection.close()
    request = json.loads(request)
    os.setsid()
    os.dup2(stderr, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.close(stderr)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["tasks", *request["arguments"]]
    sitecustomize.arm(request["failpoint"])
    run_context.begin()  # at this time, not when it was imported
    return request["arguments"]


def remember_parsers():
    """Let runs inherit Luigi's parser of the command line.

    Luigi builds it nine times in a run, from the options of all tasks. Here these are all loaded; elsewhere few are.
    """
    CmdlineParser._build_parser = staticmethod(functools.cache(CmdlineParser._build_parser))
    CmdlineParser._build_parser()
    for name in tasks.PUBLIC:
        CmdlineParser._build_parser(root_task=name, help_all=False)


if __name__ == "__main__":  # as tasks/__main__.py
    with tuned_start():
        import tasks.every_task  # noqa: F401
        from tasks.command_line.front_door import load, main
        from tasks.workflow import run_context

        remember_parsers()
        given = accepted(sys.argv[1])
        load(given)
    logging.captureWarnings(True)
    main(given)
