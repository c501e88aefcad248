"""Gives the memory of large pictures back to the system once they are answered."""

from __future__ import annotations

import ctypes

# glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK = 4 * 2**20
_KEPT_AT_THE_END = 16 * 2**20


def return_large_blocks() -> None:
    """Let the C library return every block of 4 MB or more as soon as it is freed.

    By itself glibc raises that size to 32 MB when such blocks are freed. Pillow's blocks of 16 MB then stay
    with the process: such blocks are most of what a picture of 80 megapixels takes. Smaller blocks,
    such as a model's pixels, are kept and reused as before. Other C libraries have no such call.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    set_option(_MMAP_THRESHOLD, _LARGE_BLOCK)
    set_option(_TRIM_THRESHOLD, _KEPT_AT_THE_END)
