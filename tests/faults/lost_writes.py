"""A file system in memory that forgets what was not flushed when the power is cut.

What it forgets is what a disk may forget: the content of a file since its last fsync, and the names in a directory
since its last fsync. It keeps the order of changes to a directory, as journaling file systems do: with --some, a random
number of the first ones survive; otherwise none does.

It runs in a process of its own: python -m tests.faults.lost_writes MOUNTPOINT, see main().
"""

import argparse
import dataclasses
import errno
import itertools
import os
import pickle
import random
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mfusepy

#: Inode numbers that no earlier mount has given away.
_NUMBERS = itertools.count(time.time_ns() // 1000)


@dataclasses.dataclass(eq=False)
class Node:
    """A file or a directory. content, names: as programs see it; flushed, flushed_names: as it is on disk; changes:
    those of the names since then, each a dictionary of names and nodes (None: removed).
    """

    mode: int
    number: int = dataclasses.field(default_factory=lambda: next(_NUMBERS))
    times: tuple[int, int] = dataclasses.field(default_factory=lambda: (time.time_ns(), time.time_ns()))
    content: bytearray = dataclasses.field(default_factory=bytearray)
    flushed: bytes = b""
    flushed_times: tuple[int, int] = (0, 0)
    names: dict[str, "Node"] = dataclasses.field(default_factory=dict)
    flushed_names: dict[str, "Node"] = dataclasses.field(default_factory=dict)
    changes: list[dict[str, "Node | None"]] = dataclasses.field(default_factory=list)

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return stat.S_ISDIR(self.mode)

    def change(self, **names: "Node | None") -> None:
        """Change names, all or none of them after a power cut."""
        self.changes.append(names)
        _apply(self.names, names)

    def flush(self) -> None:
        """Bring it to disk: of a file the content and the times, of a directory the names."""
        self.flushed, self.flushed_times = bytes(self.content), self.times
        self.flushed_names, self.changes = dict(self.names), []

    def lose(self, chance: random.Random | None) -> None:
        """Forget what is not on disk, in it and below it. chance: keep a random part of it."""
        if self.is_directory:
            self.names = dict(self.flushed_names)
            for names in self.changes[: chance.randint(0, len(self.changes))] if chance else ():
                _apply(self.names, names)
            for node in self.names.values():
                node.lose(chance)
        elif self.content != self.flushed:
            kept = chance.randint(0, len(self.content)) if chance else 0
            begins_alike = self.content.startswith(self.flushed)
            self.content = bytearray(self.content[:kept] if begins_alike and kept > len(self.flushed) else self.flushed)
            self.times = self.flushed_times if not kept else self.times
        else:
            self.times = self.flushed_times
        self.flush()


def _apply(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class LosingFileSystem(mfusepy.Operations):
    """See above. cut_at: the number of the change at which the power is cut; from then on everything fails. ignored:
    what is not really flushed: "files", "directories" or "". at_the_cut: gets what survives, also at the end without a
    cut, and the number of changes until then.
    """

    use_ns = True

    def __init__(
        self,
        root: Node,
        cut_at: int,
        chance: random.Random | None,
        ignored: str,
        at_the_cut: Callable[[Node, int], None],
    ) -> None:
        self._root, self._cut_at, self._chance, self._ignored = root, cut_at, chance, ignored
        self._at_the_cut, self._done, self._is_dead = at_the_cut, 0, False
        self._open: dict[int, Node] = {}
        self._handles = itertools.count(1)

    def _changing(self) -> None:
        self._alive()
        if self._done == self._cut_at:
            self._cut()
            self._alive()
        self._done += 1

    def _alive(self) -> None:
        if self._is_dead:
            raise mfusepy.FuseOSError(errno.EIO)

    def _cut(self) -> None:
        self._is_dead = True
        self._root.lose(self._chance)
        self._at_the_cut(self._root, self._done)

    def _node(self, path: str, handle: int | None = None) -> Node:
        self._alive()
        if handle and handle in self._open:
            return self._open[handle]
        node = self._root
        for name in filter(None, path.split("/")):
            if name not in node.names:
                raise mfusepy.FuseOSError(errno.ENOENT)
            node = node.names[name]
        return node

    def _place(self, path: str) -> tuple[Node, str]:
        parent, _, name = path.rpartition("/")
        return self._node(parent), name

    def destroy(self, path: str) -> None:
        """Cut the power."""
        if not self._is_dead:
            self._cut()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return the stat of a file."""
        node = self._node(path, fh)
        accessed, modified = node.times
        return {
            "st_mode": node.mode,
            "st_ino": node.number,
            "st_nlink": 2 if node.is_directory else 1,
            "st_size": len(node.content),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_atime": accessed,
            "st_mtime": modified,
            "st_ctime": modified,
        }

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        """Return the names in a directory."""
        directory = self._node(path)
        nodes = {".": directory, "..": self._root} | directory.names
        return [(name, {"st_mode": node.mode, "st_ino": node.number}, 0) for name, node in nodes.items()]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """Create and open a file."""
        self._changing()
        parent, name = self._place(path)
        parent.change(**{name: Node(stat.S_IFREG | stat.S_IMODE(mode))})
        return self.open(path, 0)

    def open(self, path: str, flags: int) -> int:
        """Open a file."""
        handle = next(self._handles)
        self._open[handle] = self._node(path)
        return handle

    def release(self, path: str, fh: int) -> int:
        """Close a file."""
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Return a part of a file."""
        return bytes(self._node(path, fh).content[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Write a part of a file."""
        self._changing()
        node = self._node(path, fh)
        node.content.extend(bytes(max(0, offset - len(node.content))))
        node.content[offset : offset + len(data)] = data
        node.times = (node.times[0], time.time_ns())
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Cut a file, or fill it up with zeros."""
        self._changing()
        node = self._node(path, fh)
        node.content = bytearray(node.content[:length].ljust(length, b"\0"))
        node.times = (node.times[0], time.time_ns())
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Set the times of a file."""
        self._changing()
        self._node(path).times = times or (time.time_ns(), time.time_ns())
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Set the permissions of a file."""
        node = self._node(path)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """Bring the content of a file to disk."""
        self._changing()
        if self._ignored != "files":
            self._node(path, fh).flush()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        """Bring the names in a directory to disk."""
        self._changing()
        if self._ignored != "directories":
            self._node(path).flush()
        return 0

    def rename(self, old: str, new: str) -> int:
        """Rename a file, replacing another one."""
        self._changing()
        node = self._node(old)
        (source, name), (target, new_name) = self._place(old), self._place(new)
        if source is target:
            source.change(**{name: None, new_name: node})
        else:
            target.change(**{new_name: node})
            source.change(**{name: None})
        return 0

    def unlink(self, path: str) -> int:
        """Remove a file."""
        self._changing()
        self._node(path)
        parent, name = self._place(path)
        parent.change(**{name: None})
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        """Make a directory."""
        self._changing()
        parent, name = self._place(path)
        parent.change(**{name: Node(stat.S_IFDIR | stat.S_IMODE(mode))})
        return 0

    def rmdir(self, path: str) -> int:
        """Remove an empty directory."""
        if self._node(path).names:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        return self.unlink(path)

    def statfs(self, path: str) -> dict[str, int]:
        """Return that there is room."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20, "f_bfree": 1 << 20}


def main() -> None:
    """Mount it until it is unmounted; print how many changes there were until then, or until the cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mountpoint")
    parser.add_argument("--state", type=Path, help="file with what survived the last cut; replaced at the next one")
    parser.add_argument("--cut-at", type=int, default=-1, help="number of the change at which to cut the power")
    parser.add_argument("--some", type=int, help="seed: a random part of what was not flushed survives")
    parser.add_argument("--ignored", choices=["files", "directories"], default="", help="flushes that do nothing")
    options = parser.parse_args()
    root = pickle.loads(options.state.read_bytes()) if options.state.exists() else Node(stat.S_IFDIR | 0o755, 1)
    root.flush()

    def at_the_cut(survivors: Node, done: int) -> None:
        options.state.write_bytes(pickle.dumps(survivors))
        print(done, flush=True)

    chance = None if options.some is None else random.Random(options.some)
    mfusepy.FUSE(
        LosingFileSystem(root, options.cut_at, chance, options.ignored, at_the_cut),
        options.mountpoint,
        foreground=True,
        nothreads=True,
        use_ino=True,
        hard_remove=True,
        attr_timeout=0,
        entry_timeout=0,
    )


if __name__ == "__main__":
    main()
