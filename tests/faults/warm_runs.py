"""Runs that start in a moment: forks of a process that has imported the pipeline (injected/warm_server.py)."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, Pipeline

INJECTED = Path(__file__).with_name("injected")


class WarmRun:
    """A run in a session of its own, with what subprocess.Popen would have."""

    def __init__(self, connection: socket.socket, stderr: int) -> None:
        self.pid = int(connection.recv(100))
        self.returncode: int | None = None
        self._connection, self._stderr = connection, stderr
        self._waiting = threading.Thread(target=self._wait, daemon=True)
        self._waiting.start()

    def _wait(self) -> None:
        with self._connection:
            self.returncode = int(self._connection.recv(100))

    def poll(self) -> int | None:
        """Return the exit code; None as long as it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended. Raises TimeoutExpired."""
        self._waiting.join(timeout)
        if self._waiting.is_alive():
            raise subprocess.TimeoutExpired("run", timeout or 0)

    def said(self) -> str:
        """Wait until it has ended; return what it wrote to standard error."""
        with open(self._stderr, errors="replace") as file:
            text = file.read()
        self.wait()
        return text


class WarmRuns:
    """What starts them."""

    def __init__(self, address: str) -> None:
        self._address = address

    def start(self, pipeline: Pipeline, arguments: Sequence[str], failpoint: Mapping[str, Any] = {}) -> WarmRun:
        """Start a task."""
        request = {
            "arguments": [*arguments, "--output-dir", str(pipeline.output_dir)],
            "environment": pipeline.full_environment(),
            "directory": str(pipeline.output_dir.parent),
            "failpoint": dict(failpoint),
        }
        ours, theirs = os.pipe()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._address)
        socket.send_fds(connection, [json.dumps(request).encode()], [theirs])
        os.close(theirs)
        return WarmRun(connection, ours)


@contextlib.contextmanager
def warm_runs() -> Iterator[WarmRuns]:
    """Start the process from which runs are forked; end it at the end."""
    path = [str(INJECTED), str(ROOT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "TICK_EXPORT_FAILPOINT": "{}"}
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        address = os.path.join(folder, "socket")
        command = [sys.executable, "-P", str(INJECTED / "warm_server.py"), address]
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "ready\n"
                yield WarmRuns(address)
            finally:
                process.kill()
