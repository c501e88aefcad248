"""How long `classifold split` takes for many small files, and that its memory does not grow with them.

    python benchmarks/split.py [10000 50000] [--folder DIR]

Makes that many different JPEGs of 2 to 4 kB in ten classes, splits them in a process of its own, splits them
again (as after a few pictures were added), and reads the sets as training does. The disk's cache is warm: the
files were just written. Writes benchmarks/results/split.json. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from classifold.machine import count_cores

RESULTS = Path(__file__).parent / "results" / "split.json"
PACKAGES = ("classifold", "numpy", "pillow", "simplejpeg")
NUM_CLASSES, SIDE = 10, 96
# Reports its own peak: this process's children would report the largest of them all.
MEASURED = """
import json, resource, sys, time
start = time.perf_counter()
{work}
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
print(json.dumps(dict(seconds=round(time.perf_counter() - start, 2), peak_memory_mb=round(peak, 1))))
"""
SPLIT = """
from classifold.cli.main import main
sys.argv = ["classifold", "split", "--config", sys.argv[1]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
LOAD = """
from pathlib import Path
from classifold.dataset.scan import load_sets
load_sets(Path(sys.argv[2]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", nargs="*", type=int, default=[10_000, 50_000])
    parser.add_argument("--folder", type=Path, help="where the pictures go (default: a temporary folder)")
    args = parser.parse_args()
    runs = []
    for count in args.counts:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            runs.append(measure(Path(scratch), count))
            print(json.dumps(runs[-1]), flush=True)
    report = {"command": "python benchmarks/split.py", "runs": runs, **describe_machine()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(scratch: Path, count: int) -> dict[str, Any]:
    pictures, split_dir, config = scratch / "pictures", scratch / "split", scratch / "config.py"
    make_pictures(pictures, count)
    config.write_text(f"DATA_LOCAL_DIR = {str(pictures)!r}\nSPLIT_LOCAL_DIR = {str(split_dir)!r}\n")
    steps = {"split": SPLIT, "split_again": SPLIT, "load_sets": LOAD}
    return {
        "files": count,
        **{name: run(work, str(config), str(split_dir)) for name, work in steps.items()},
    }


def make_pictures(folder: Path, count: int) -> None:
    """Write `count` JPEGs that differ: smooth random colours and a little noise."""
    noise = np.random.default_rng(0)
    for number in range(count):
        coarse = noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((SIDE // 6, SIDE // 6, 1), np.uint8))
        picture ^= noise.integers(0, 16, picture.shape, dtype=np.uint8)
        place = folder / f"class {number % NUM_CLASSES}" / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=60))


def run(work: str, *arguments: str) -> dict[str, float]:
    """Run a piece of Python as a whole process; its seconds include starting and ending."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURED.format(work=work), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": round(time.perf_counter() - start, 2), "peak_memory_mb": measured["peak_memory_mb"]}


def describe_machine() -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "cores": count_cores(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    main()
