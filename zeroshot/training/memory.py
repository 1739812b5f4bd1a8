"""Memory that a step has freed, kept for the next one.

glibc hands large blocks back to the system at once, and the system hands out every new page filled with zeros. A step on a
CPU frees and takes hundreds of MB (the gradient of the word embeddings alone is as large as their table), so a visible
share of it went into pages it had held a moment before. Source: `mallopt(3)`; jemalloc or tcmalloc, preloaded, do alike.
"""

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST = 2**31 - 1
PADDING = 2**28  # bytes asked of the system at a time


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; whether that was possible. It holds for all of the process, and until its end.

    The peak of memory stays what it is: only its return between two steps is left out.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: LARGEST, M_TOP_PAD: PADDING}
    library = ctypes.CDLL(None)
    accepted = [library.mallopt(name, value) == 1 for name, value in settings.items()]
    return all(accepted)
