"""What this machine has for the work: cores and memory."""

from __future__ import annotations

import os
import resource
import sys


def count_cores() -> int:
    """Return the number of cores this process may use, which in a container can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process or of a child that ended, in MB (1e6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak * unit / 1e6
