"""How long a command takes before it works: medians of fresh processes, beside Python's own start.

    python benchmarks/startup.py [--runs 20]

Exits with 1 where `classifold --help` takes half a second or more.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMIT = 0.5
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "classifold --help": ["-m", "classifold", "--help"],
    "classifold train --help": ["-m", "classifold", "train", "--help"],
    "a misspelt command": ["-m", "classifold", "trian"],
    "a misspelt setting": ["-m", "classifold", "example", "x", "--set", "EPOCH=3"],
    "a folder that is no run": ["-m", "classifold", "predict", "/nonexistent", "x.jpg"],
}


def measure(words: list[str]) -> float:
    """Return the seconds from start to end of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-P", *words], capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> int:
    """Print a median a command and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    # In turn, so that a busy moment of the machine falls on all of them.
    rounds = [{name: measure(words) for name, words in COMMANDS.items()} for _ in range(runs)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in COMMANDS}
    for name, seconds in medians.items():
        print(f"{name:26} {1000 * seconds:6.0f} ms")
    return 1 if medians["classifold --help"] >= LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
