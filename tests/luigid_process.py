"""A luigid of its own, for tests."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def running_luigid(directory: Path, settings: Path | None = None, listen_on: str = "127.0.0.1") -> Iterator[str]:
    """Run a luigid on a free port and give its address; its log goes to luigid.log, its state is kept when it ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--state-path", str(directory / "state")] if settings is None else []
    environment = os.environ | ({} if settings is None else {"LUIGI_CONFIG_PATH": str(settings)})
    with open(directory / "luigid.log", "a") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("luigid")), "--port", str(port), "--address", listen_on, *options],
            stdout=log,
            stderr=log,
            cwd=directory,
            env=environment,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, "luigid has ended"
            with contextlib.suppress(OSError):
                answer(url, "task_list")
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def answer(url: str, call: str, **values: object) -> Any:
    """Return what luigid's API answers."""
    with urllib.request.urlopen(f"{url}/api/{call}?data={urllib.parse.quote(json.dumps(values))}") as response:
        return json.load(response)["response"]
