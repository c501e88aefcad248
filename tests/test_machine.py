"""What the machine says of itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from classifold.machine import count_cores, peak_memory_mb

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores"
)


@needs_affinity
def test_only_the_cores_that_the_process_may_use_are_counted():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert count_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert count_cores() == len(allowed)


@pytest.mark.parametrize("where", ["in this process", "in a child that ended"])
def test_the_peak_of_memory_counts_megabytes_wherever_they_were_used(where):
    use = "block = b'x' * 300_000_000"
    code = (
        use
        if where == "in this process"
        else f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {use!r}])"
    )
    code += "\nfrom classifold.machine import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 300 < float(done.stdout) < 450


def test_the_peak_of_memory_never_falls():
    before = peak_memory_mb()
    assert peak_memory_mb() >= before > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone bounds the memory of a process")
def test_memory_is_bounded_in_the_block_and_free_after_it():
    code = (
        "from classifold.machine import limited_memory\n"
        "import resource\n"
        "before = resource.getrlimit(resource.RLIMIT_AS)\n"
        "with limited_memory(200 << 20):\n"
        "    bytes(100 << 20)\n"
        "    try:\n"
        "        bytes(300 << 20)\n"
        "    except MemoryError:\n"
        "        print('refused')\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == before\n"
        "print(len(bytes(300 << 20)) >> 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "300"]
