"""Save memory and time: arrays reuse freed memory, and modules that are not used are not loaded."""

import ctypes
import importlib.abc
import sys

import pyarrow as pa

#: From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, and let Arrow take its memory from malloc as NumPy does.

    Ticks come and go in arrays of megabytes. Returning their memory to the kernel each time costs a tenth of an
    export's processor time, because the kernel clears every page again.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # only glibc has it, and only glibc needs it
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that it takes
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_ARENA_MAX, 1)  # so that one thread reuses what another has freed


class _WithoutPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}: left out", name=name)


def leave_pandas_out() -> None:
    """Have pyarrow do without pandas if that is not loaded yet.

    pyarrow loads pandas with the first array, to recognise its objects. That costs every run 0.25 s and 35 MB for
    nothing. Whatever does need pandas (to_pandas) loads it later.
    """
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    pa.array([])
    sys.meta_path.remove(finder)
