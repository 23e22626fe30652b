"""Where the C library keeps freed memory: the pages of large tensors cost more than many operations on them."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt(3)
DEFAULT_MMAP_MAX = 65536
DEFAULT_TRIM_THRESHOLD = 1 << 26  # what glibc's dynamic threshold grows to


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep the memory of freed tensors and use it again, instead of giving it back at once.

    glibc asks the kernel for every allocation of more than 32 MB anew, and the kernel hands it out page by page,
    each cleared at the first touch. With `keep=False` what is free goes back, and so does what is freed later once
    it is much; what fits into the heap as it has grown is still made there. Call it before threads are started: it
    makes them share one heap. Returns whether the C library is glibc; with another one nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    libc.mallopt(ARENA_MAX, 1)
    libc.mallopt(MMAP_MAX, 0 if keep else DEFAULT_MMAP_MAX)
    libc.mallopt(TRIM_THRESHOLD, -1 if keep else DEFAULT_TRIM_THRESHOLD)
    if not keep:
        libc.malloc_trim(0)
    return True
