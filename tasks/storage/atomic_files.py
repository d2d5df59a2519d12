"""Files that appear under their final name only when they are whole."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import re
import secrets
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tasks.storage.file_identity import FileStat, file_checksum

_LEFTOVER = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>[0-9]+)(\.r[0-9a-f]+)?\.tmp", re.DOTALL)
_DAY_S = 86_400
_CLOCK_SLACK_S = 60.0  # start times of processes are kept relative to a boot time of whole seconds
_FLUSHES_AT_ONCE = 32


@functools.cache
def _host() -> str:
    """Return a name for the scope in which process ids are unique: this host since its start, or this container.

    Two containers can have the same host name and the same process ids. The kernel's boot id and the namespace of
    process ids tell them apart.
    """
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"
    try:
        apart = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        apart = f"{uuid.getnode()} {psutil.boot_time():.0f}"
    return f"{name}-{hashlib.sha256(apart.encode()).hexdigest()[:8]}"


def process_name() -> str:
    """Return host and process as in temporary names: netbet-1-3fc82a0e.4711."""
    return f"{_host()}.{os.getpid()}"


def without_following(path: str, flags: int) -> int:
    """Open a file without following symbolic links. For the opener of open()."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


class NewFile:
    """A binary file being written beside its final place and hashed on the way.

    finish() ends it, flush_to_disk() makes it durable, publish() gives it its name. Until then its path is temporary.
    Without publish() it is removed. pyarrow can write into it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        # A new file with a name that nobody can guess: otherwise anybody who may write into the directory could use a
        # link to make us write elsewhere.
        self.temporary = path.with_name(f".{path.name}.{process_name()}.r{secrets.token_hex(6)}.tmp")
        self._file = open(self.temporary, "xb", opener=without_following)

    def write(self, data: Any) -> int:
        """Append bytes or an Arrow buffer; return how many bytes."""
        self._sha256.update(data)
        self._file.write(data)
        count = memoryview(data).nbytes
        self.size_bytes += count
        return count

    def flush(self) -> None:
        """Do nothing (pyarrow asks for it): finish() flushes to disk, once."""

    @property
    def closed(self) -> bool:
        """Whether the file is closed for writing."""
        return self._file.closed

    @property
    def checksum(self) -> str:
        """The SHA-256 of what has been written, in hex."""
        return self._sha256.hexdigest()

    def finish(self, modified_us: int | None = None) -> FileStat:
        """Close the file, still under its temporary name, and return its stat.

        modified_us: the modification time it should have, microseconds since 1970 (now if None).
        """
        self._file.flush()
        if modified_us is not None:
            os.utime(self._file.fileno(), ns=(modified_us * 1000, modified_us * 1000))
        stat = FileStat.of(os.fstat(self._file.fileno()))
        self._file.close()
        return stat

    def flush_to_disk(self) -> None:
        """Wait until the finished file is on disk."""
        _flush_to_disk(self.temporary)

    def finish_and_read_back(self) -> str:
        """Close the file, wait until it is on disk, read it back, and return the SHA-256 of that, in hex."""
        self.finish()
        self.flush_to_disk()
        return file_checksum(self.temporary)

    def publish(self) -> None:
        """Give the file its final name, replacing any file with that name. flush_directory makes this durable."""
        os.replace(self.temporary, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # on a full disk the last flush fails again, but the file is removed anyway
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.temporary)


@contextlib.contextmanager
def replacing(path: Path, modified_us: int | None = None) -> Iterator[NewFile]:
    """Open a file that replaces path when the block ends without an error.

    modified_us: as in NewFile.finish.
    """
    with NewFile(path) as file:
        yield file
        file.finish(modified_us)
        file.flush_to_disk()
        file.publish()
    flush_directory(path.parent)


def flush_all_to_disk(files: Iterable[NewFile]) -> None:
    """Wait until all these finished files are on disk. Many flushes at once take hardly longer than a few."""
    with concurrent.futures.ThreadPoolExecutor(_FLUSHES_AT_ONCE, "flush") as pool:
        for _ in pool.map(NewFile.flush_to_disk, files):
            pass


def make_directory(directory: Path) -> None:
    """Create a directory, and those above it, so that they survive a power cut, as what is in them then does."""
    new = [path for path in (directory, *directory.parents) if not os.path.lexists(path)]
    directory.mkdir(parents=True, exist_ok=True)
    for path in new:
        with contextlib.suppress(PermissionError):  # one may create names in a directory that one may not read
            flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Flush a directory's names to disk, so that a rename survives a power cut."""
    _flush_to_disk(directory)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path, finished_here: bool = False) -> list[str]:
    """Remove temporary files whose process is dead on this host (in this container), or that are a day old; return
    their names.

    finished_here: this process no longer writes any, so its own are removed too.
    """
    removed = []
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            match = _LEFTOVER.fullmatch(entry.name)
            if match is None:
                continue
            is_own = match["host"] == _host() and int(match["pid"]) == os.getpid()
            if finished_here and is_own or _is_abandoned(match["host"], int(match["pid"]), entry):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
                    removed.append(entry.name)
    return removed


def _is_abandoned(host: str, pid: int, entry: os.DirEntry[str]) -> bool:
    try:
        changed_s = entry.stat(follow_symlinks=False).st_ctime
    except FileNotFoundError:
        return False
    return time.time() - changed_s > _DAY_S or host == _host() and not _is_alive(pid, changed_s)


def _is_alive(pid: int, at_s: float) -> bool:
    """Return whether the process that had this id at a time is still running: it is not dead, not a zombie, and not a
    later process with the same id.
    """
    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < at_s + _CLOCK_SLACK_S)
    except psutil.Error:
        return psutil.pid_exists(pid)
