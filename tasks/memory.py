"""How a process gets its memory: what arrays give back is kept for the next ones."""

import ctypes

import pyarrow as pa

#: From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, and let Arrow take its memory from malloc as NumPy does.

    Ticks come and go in arrays of megabytes. Given back each time, they cost a tenth of the processor time of an export:
    the kernel zeroes every page anew.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # only glibc has it, and only glibc needs it
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that it takes
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_ARENA_MAX, 1)  # what one thread has freed the next one takes
