"""Telling glibc to keep what is freed: images are made of large temporaries, and mapping each anew costs as much as gridding.

glibc hands blocks beyond a threshold straight back to the kernel, and trims its heaps. A temporary of the same size is then
mapped again, page by page, and zeroed: up to half of a task's time where pages are costly (on virtual machines). Dask's nanny
makes it worse: it starts workers with MALLOC_TRIM_THRESHOLD_, and any explicit value stops the thresholds from growing.
"""

import ctypes
import functools
import platform

# mallopt(3); the numbers are glibc's interface.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 1 << 30  # blocks and free heap ends below this stay with the process


@functools.cache
def keep_freed_memory() -> bool:
    """Set this process's allocator once; says whether it could be (elsewhere than on glibc nothing is done)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One arena, because each thread of input and output would otherwise keep a heap of its own.
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_THRESHOLD, KEPT_BYTES), mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)])
