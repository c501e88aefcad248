"""What this process may use of the machine: cores, memory and GPUs."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal


def count_cores() -> int:
    """Return the number of cores that this process may use; a container can have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(setting: int | Literal["auto"]) -> int:
    """Return how many processes or threads NUM_WORKERS means: "auto" is one for each core."""
    return count_cores() if setting == "auto" else setting


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process or of a child that ended, in MB (1e6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return max(_own_peak_bytes(unit), children) / 1e6


def _own_peak_bytes(unit: int) -> int:
    """Return this process's peak memory in bytes; on Linux ru_maxrss would start at the parent's peak."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_bytes() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or the container's if less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    # The limit of this process's control group, version 2 and version 1.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text(encoding="ascii")))
    return min(limits)


@contextlib.contextmanager
def limited_memory(room: int) -> Iterator[None]:
    """Let this process take at most `room` more bytes of memory within the block; works on Linux only.

    A request for more fails with an error, and the machine stays usable.
    """
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used * resource.getpagesize() + room
    limits = [limit for limit in (soft, hard, wanted) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def list_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that this process can use, without running nvidia-smi."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    devices = list(Path("/dev").glob("nvidia[0-9]*"))
    # A container may see the machine's list and have fewer of its devices.
    return found[: len(devices)] if found else ["NVIDIA GPU"] * len(devices)
