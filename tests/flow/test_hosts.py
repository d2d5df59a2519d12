"""Several hosts: network namespaces with a name of their own each, one luigid, one shared folder, one killed."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.demo.load import load
from tasks.demo.recording import Recording
from tests.conftest import Pipeline, new_source
from tests.luigid_process import running_luigid

# another number for each test run at the same time
_NET = f"10.213.{os.getpid() % 250}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Host:
    """A host: a network namespace with an address, a host name, and process ids that no other host sees."""

    def __init__(self, number: int) -> None:
        self.name = f"ticks{os.getpid() % 100000}-{number}"
        self.link = f"tv{os.getpid() % 100000}-{number}"
        self.number = number

    def __enter__(self) -> "Host":
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("addr", "add", f"{_NET}.{4 * self.number + 1}/30", "dev", self.link)
            _ip("link", "set", self.link, "up")
            _ip("-n", self.name, "addr", "add", f"{_NET}.{4 * self.number + 2}/30", "dev", "eth0")
            _ip("-n", self.name, "link", "set", "eth0", "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
            _ip("-n", self.name, "route", "add", "default", "via", f"{_NET}.{4 * self.number + 1}")
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self.link)
        _ip("netns", "del", self.name)

    def start(self, pipeline: Pipeline, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a task there, in a session of its own."""
        there = [
            "ip",
            "netns",
            "exec",
            self.name,
            "unshare",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        return subprocess.Popen(
            [*there, "sh", "-c", f'hostname {self.name} && exec "$@"', "sh", *pipeline.command(*arguments)],
            env=pipeline.full_environment(**environment),
            cwd=pipeline.output_dir.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Two hosts that reach this one."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("hosts need root, ip and unshare")
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(2):
            host = Host(number)
            try:
                stack.enter_context(host)
            except subprocess.CalledProcessError as error:
                if b"not permitted" not in error.stderr:
                    raise
                pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
            made.append(host)
        yield made


@pytest.fixture
def luigid(hosts: list[Host], tmp_path: Path) -> Iterator[str]:
    """A luigid that both hosts reach, which takes the tasks of a silent worker away after a few seconds."""
    settings = tmp_path / "luigid.cfg"
    settings.write_text("[scheduler]\nworker_disconnect_delay = 4\nretry_delay = 1\n")
    with running_luigid(tmp_path, settings, "0.0.0.0") as url:
        yield url.replace("127.0.0.1", f"{_NET}.1")


def finished(pipeline: Pipeline) -> dict[str, int]:
    """Return each market file that is there, with its inode."""
    found = {}
    for path in pipeline.output_dir.glob("markets/*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.stat().st_ino
    return found


@pytest.mark.parametrize("is_killed", [False, True])
def test_two_hosts_share_an_export_and_one_that_is_killed_leaves_its_work_to_the_other(
    server, hosts, luigid, tmp_path, is_killed
):
    source = new_source(server)
    load(Recording(ticks=400_000, markets=200, days=2, skew=0.5), server.conninfo(source.name))
    # a socket in the file system is reached from every network namespace
    environment = source.environment | {"POSTGRES_HOST": str(server.socket_dir)}
    pipeline = Pipeline(tmp_path / "out", environment)
    options = "ExportAll", "--debug", "--scheduler-url", luigid
    processes = [host.start(pipeline, *options) for host in hosts]
    seen: set[tuple[str, int]] = set()
    was_killed = False
    while any(process.poll() is None for process in processes):
        seen |= {*finished(pipeline).items()}
        if is_killed and not was_killed and len(seen) > 10:
            os.killpg(processes[0].pid, 9)
            was_killed = True
        time.sleep(0.01)
    errors = [process.communicate()[1] for process in processes]
    assert processes[1].returncode == 0 and processes[0].returncode == (-9 if is_killed else 0), "\n".join(errors)
    assert len(seen) == len({name for name, _ in seen}), "a market file was replaced: exported twice"
    if not is_killed:
        assert all("done      ExportMarket" in error for error in errors), errors
    alone = Pipeline(tmp_path / "alone", environment)
    assert alone.run("ExportAll").returncode == 0
    assert pipeline.files() == alone.files()
    left = [path.name for path in pipeline.output_dir.rglob(".*.tmp")]
    assert all(hosts[0].name in name for name in left) and (is_killed or not left)
    again = subprocess.run(
        [sys.executable, "-P", "-m", "tasks", "VerifyExport", "--output-dir", str(pipeline.output_dir)],
        env=pipeline.full_environment(),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
