"""What a process needs of memory: arrays give back theirs for the next ones, and what is not used is not loaded."""

import ctypes
import importlib.abc
import sys

import pyarrow as pa

#: From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, and let Arrow take its memory from malloc as NumPy does.

    Ticks come and go in arrays of megabytes. Given back each time, they cost a tenth of the processor time of an
    export: the kernel zeroes every page again.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # only glibc has it, and only glibc needs it
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that it takes
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_ARENA_MAX, 1)  # what one thread has freed the next one takes


class _WithoutPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}: left out", name=name)


def leave_pandas_out() -> None:
    """Have pyarrow do without pandas where that is not loaded yet.

    pyarrow loads it with the first array, to know its objects when it is given one: 0.25 s and 35 MB of every run,
    which gives it none. What does need pandas (to_pandas) loads it then.
    """
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    pa.array([])
    sys.meta_path.remove(finder)
