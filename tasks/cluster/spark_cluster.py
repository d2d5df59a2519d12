"""The connection to a Spark cluster: made within a bounded time, silent on the terminal, and closed at the end."""

import contextlib
import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import ClusterError, UsageError

#: How long to wait for a master to accept a connection, and for the first executor to come.
_CONNECT_S = 10
_EXECUTOR_S = 60

#: What we set; spark-defaults.conf and SPARK_CONF_DIR of the operator are read before, and SPARK_SUBMIT_OPTS count too.
_SETTINGS = {
    "spark.app.name": "ConsolidateRange",
    "spark.ui.showConsoleProgress": "false",
    # a day or a part is one task: it is worth trying again on another machine
    "spark.task.maxFailures": "4",
    "spark.executorEnv.PYTHONUNBUFFERED": "1",
}
#: What executors get of our environment: where the object store is. Credentials are the machines' own.
_FOR_EXECUTORS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "STORAGE_EMULATOR_HOST")
_SILENT_LOG = "rootLogger.level = off\n"
_FIRST_REASON = re.compile(r"^(?:[\w.]+(?:Exception|Error)): (.*)", re.MULTILINE)


def require(master: str) -> None:
    """Raise UsageError without pyspark, and ClusterError without Java or if the master does not answer."""
    if importlib.util.find_spec("pyspark") is None:
        raise UsageError("--spark-master needs pyspark: pip install 'betfair-tick-export[spark]'.")
    _require_java()
    _require_master(master)


@contextlib.contextmanager
def connected(master: str) -> Iterator[Any]:
    """Open the SparkContext of a master, and stop it at the end, whatever happens.

    Raises as require() does, and ClusterError if the cluster gives us no executor.
    """
    require(master)
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it tells of each connection that it closes
    logging.getLogger().addFilter(_is_no_interrupt)
    # pyspark warns of every pandas that is newer than itself; no pandas is used here
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"pyspark\.")
    import pyspark
    from pyspark.java_gateway import launch_gateway

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # executors import the pipeline with the same Python
    conf = pyspark.SparkConf().setMaster(master)
    for key, value in _SETTINGS.items():
        conf.setIfMissing(key, value)
    for name in _FOR_EXECUTORS:
        if name in os.environ:
            conf.setIfMissing(f"spark.executorEnv.{name}", os.environ[name])
    interrupts = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory(prefix="tick-export-spark-") as directory:
        log = Path(directory, "log4j2.properties")
        log.write_text(_SILENT_LOG)
        conf.set("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={log}")
        java = context = None
        try:
            try:
                java = launch_gateway(conf, {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL})
                context = pyspark.SparkContext(conf=conf, gateway=java)
            except Exception as error:  # py4j's and pyspark's have no common base
                raise ClusterError(f"{master}: Spark does not start: {reason(error)}.") from None
            if threading.current_thread() is threading.main_thread():
                for number, handler in interrupts.items():  # pyspark has set its own
                    signal.signal(number, handler)
            _require_executor(context, master)
            yield context
        finally:
            _end(context, java)


def _end(context: Any, java: Any) -> None:
    """Stop the context and its Java process, which would otherwise end only with this process."""
    if context is not None:
        with contextlib.suppress(Exception):
            context.cancelAllJobs()
        with contextlib.suppress(Exception):
            context.stop()
    logging.getLogger().removeFilter(_is_no_interrupt)
    if java is not None:
        with contextlib.suppress(Exception):
            java.shutdown()
        with contextlib.suppress(Exception):
            java.proc.stdin.close()
            java.proc.wait(10)


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    """Return whether a record is not the traceback that py4j logs at Ctrl-C, before it passes the interrupt on."""
    return not record.getMessage().startswith("KeyboardInterrupt while sending command")


def reason(error: BaseException) -> str:
    """Return the first line of an error of Spark's, without the name of its class."""
    text = str(getattr(error, "java_exception", None) or error)
    found = _FIRST_REASON.search(text)
    return (
        " ".join((found[1] if found else text.strip().partition("\n")[0]).split())[:300].rstrip(".")
        or type(error).__name__
    )


def _require_java() -> None:
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else shutil.which("java")
    if java is None or not Path(java).exists():
        raise ClusterError(
            "--spark-master needs Java 17 or later, and there is none. Install it (on Debian: apt install"
            " openjdk-17-jre-headless), or set JAVA_HOME."
        )


def _require_master(master: str) -> None:
    """Raise ClusterError if no standalone master accepts a connection: Spark itself would try for a minute."""
    if not master.startswith("spark://"):
        return
    problems = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
            return
        except OSError as error:
            problems.append(error.strerror or str(error))
    raise ClusterError(f"{master}: no connection ({problems[0]}). Start the master, or correct --spark-master.")


def _require_executor(context: Any, master: str) -> None:
    watch = ExecutorWatch(context, master)
    while not watch():
        time.sleep(0.2)


class ExecutorWatch:
    """Looks whether a context has executors. Raises ClusterError after a minute without one."""

    def __init__(self, context: Any, master: str) -> None:
        self._context, self._master = context, master
        self._seen_s = time.monotonic()

    def __call__(self) -> bool:
        # the driver is one; a local one has no others
        is_there = self._master.startswith("local") or self._context._jsc.sc().getExecutorMemoryStatus().size() > 1
        if is_there:
            self._seen_s = time.monotonic()
        elif time.monotonic() - self._seen_s > _EXECUTOR_S:
            raise ClusterError(
                f"{self._master}: we have had no executor for {_EXECUTOR_S} s. Start workers there, or wait until other"
                " applications have released theirs (see the master's page). What is finished stays."
            )
        return bool(is_there)
