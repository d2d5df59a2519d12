"""A Spark cluster on this machine for tests: a master and workers from pyspark's own package, each a process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Self

import psutil


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class SparkCluster:
    """A standalone master and workers of a core each.

    Each worker has an address of its own, for Spark starts no speculative copy on the host of the first attempt.
    """

    def __init__(self, workers: int = 2, memory: str = "512m", python: str = sys.executable) -> None:
        found = subprocess.run(
            [python, "-c", "import pyspark; print(pyspark.__path__[0])"], capture_output=True, text=True, check=True
        )
        self._home = Path(found.stdout.strip().splitlines()[-1])
        self._python, self._workers, self._memory = python, workers, memory
        self.port, self._page = free_port(), free_port()
        self.master = f"spark://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="spark-")
        port = "--port", str(self.port), "--webui-port", str(self._page)
        self._start("master.Master", "127.0.0.1", *port)
        for number in range(self._workers):
            options = ["--webui-port", "0", "-c", "1", "-m", self._memory, "-d", self._directory.name]
            self._start("worker.Worker", f"127.0.0.{2 + number}", *options, self.master)
        while self.status().count("ALIVE") < self._workers:  # the page that a browser sees has no promise; JSON does
            if any(process.poll() is not None for process in self._processes):
                raise RuntimeError(Path(self._directory.name, "log").read_text())
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()
        self._directory.cleanup()

    def status(self) -> str:
        """Return what the master says of its workers, empty as long as it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/json/") as answer:
                return answer.read().decode().partition('"aliveworkers"')[0]
        except OSError:
            return ""

    def executors(self) -> list[psutil.Process]:
        """Return the Java processes of the executors that run now."""
        found = []
        for process in self._processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it has just ended
                    if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    @staticmethod
    def settings(folder: Path) -> dict[str, str]:
        """Return the variable that turns on speculation, after a moment already, and the log that copies_in reads."""
        (folder / "events").mkdir(parents=True)
        (folder / "spark-defaults.conf").write_text(
            "spark.speculation true\nspark.speculation.interval 20ms\nspark.speculation.minTaskRuntime 20ms\n"
            "spark.speculation.task.duration.threshold 100ms\n"
            f"spark.eventLog.enabled true\nspark.eventLog.compress false\nspark.eventLog.dir file:{folder}/events\n"
        )
        return {"SPARK_CONF_DIR": str(folder)}

    @staticmethod
    def copies_in(folder: Path) -> int:
        """Return how many speculative copies were started, according to Spark's log below a folder of settings."""
        logs = (folder / "events").rglob("events_*")  # beside them are hidden files of checksums
        lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
        assert lines
        starts = [line["Task Info"] for line in lines if line["Event"] == "SparkListenerTaskStart"]
        return sum(start["Speculative"] for start in starts)

    def _start(self, name: str, host: str, *options: str) -> None:
        with open(Path(self._directory.name, "log"), "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [
                        str(self._home / "bin" / "spark-class"),
                        f"org.apache.spark.deploy.{name}",
                        "--host",
                        host,
                        *options,
                    ],
                    env=os.environ | {
                        "SPARK_HOME": str(self._home),
                        "PYSPARK_PYTHON": self._python,
                        "SPARK_LOCAL_IP": host,
                    },
                    stdout=log,
                    stderr=log,
                )
            )
