"""Whether `classifold compare` keeps its 95 %: false alarms, found differences, intervals; and its time.

    python benchmarks/compare.py [--samples 20000] [--rows 1000000] [--without-time]

Draws evaluation sets for two models of known quality, which differ on a known share of the pictures. Told:

    ours       McNemar's exact test on the pictures on which the two differ, p < 0.05
    z test     of two accuracies as if they came from different pictures, p < 0.05
    overlap    whether the 95 % intervals (Wilson) of the two accuracies do not overlap, as one does by eye

A false alarm is a difference reported between two equally good models; the rate should be at most 5 %. Then
how often the 95 % interval of the difference contains the true difference: ours (Bonett and Price), the
bootstrap (percentiles of resampled pictures) and Wald's. Then two runs with --rows pictures of ten classes
are made and compared by the command, as a whole process, beside reading both files with Python's csv module.
Writes benchmarks/results/compare.json. Two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from classifold.intervals import wilson_interval
from classifold.paired import find_interval, find_p_value
from decode import describe_machine

RESULTS = Path(__file__).parent / "results" / "compare.json"
SIZES = (75, 118, 500)
# Shares of pictures that only the second and only the first model names correctly.
EQUAL = ((0.02, 0.02), (0.05, 0.05), (0.1, 0.1))
UNEQUAL = ((0.01, 0.0), (0.08, 0.03), (0.15, 0.05))
BOTH_RIGHT = 0.78
BARE = """
import csv, sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8", newline="") as lines:
        print(sum(row[4] == "true" for row in csv.reader(lines)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--without-time", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    cases = [
        measure_case(size, *shares, num_samples=args.samples, seed=number)
        for number, (size, shares) in enumerate((n, one) for n in SIZES for one in (*EQUAL, *UNEQUAL))
    ]
    report: dict[str, Any] = {
        "command": "python benchmarks/compare.py",
        "settings": {"samples": args.samples, "rows": args.rows},
        "machine": describe_machine(),
        "cases": cases,
        "worst": summarise(cases),
    }
    if not args.without_time:
        report["time"] = measure_time(args.rows)
    print(json.dumps({name: report.get(name) for name in ("worst", "time")}, indent=2))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure_case(size: int, gained: float, lost: float, *, num_samples: int, seed: int) -> dict[str, Any]:
    """Return how often each test tells of a difference, and each interval holds the true one."""
    generator = np.random.default_rng(seed)
    shares = [BOTH_RIGHT, gained, lost, 1 - BOTH_RIGHT - gained - lost]
    drawn, counts = np.unique(generator.multinomial(size, shares, num_samples), axis=0, return_counts=True)
    told = dict.fromkeys(("ours", "z test", "overlap"), 0)
    held = dict.fromkeys(("ours", "bootstrap", "wald"), 0)
    for (both, better, worse, _), count in zip(drawn.tolist(), counts.tolist(), strict=True):
        first, second = (both + worse) / size, (both + better) / size
        told["ours"] += count * (find_p_value(better, worse) < 0.05)
        told["z test"] += count * tells_z_test(first, second, size)
        told["overlap"] += count * tells_overlap(first, second, size)
        ends = {
            "ours": find_interval(better, worse, size),
            "bootstrap": bootstrap(better, worse, size, generator),
            "wald": find_wald(better, worse, size),
        }
        for name, (low, high) in ends.items():
            held[name] += count * (low - 1e-12 <= gained - lost <= high + 1e-12)
    return {
        "pictures": size,
        "better": gained,
        "worse": lost,
        "told": {name: round(number / num_samples, 4) for name, number in told.items()},
        "interval_holds": {name: round(number / num_samples, 4) for name, number in held.items()},
    }


def tells_z_test(first: float, second: float, size: int) -> bool:
    pooled = (first + second) / 2
    spread = np.sqrt(2 * pooled * (1 - pooled) / size)
    return bool(spread > 0 and abs(first - second) / spread > 1.96)


def tells_overlap(first: float, second: float, size: int) -> bool:
    lower, upper = sorted((first, second))
    return wilson_interval(lower, size)[1] < wilson_interval(upper, size)[0]


def bootstrap(better: int, worse: int, size: int, generator: np.random.Generator) -> tuple[float, float]:
    shares = [better / size, worse / size, 1 - (better + worse) / size]
    resampled = generator.multinomial(size, shares, 1000)
    low, high = np.percentile((resampled[:, 0] - resampled[:, 1]) / size, [2.5, 97.5])
    return float(low), float(high)


def find_wald(better: int, worse: int, size: int) -> tuple[float, float]:
    difference = (better - worse) / size
    half = 1.96 * np.sqrt(max(0.0, (better + worse) / size - difference**2) / size)
    return difference - half, difference + half


def summarise(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the most false alarms, the found differences on average, and the worst interval of each way."""
    equal = [one for one in cases if one["better"] == one["worse"]]
    unequal = [one for one in cases if one["better"] != one["worse"]]
    return {
        "most_false_alarms": {way: max(one["told"][way] for one in equal) for way in cases[0]["told"]},
        "found_on_average": {
            way: round(float(np.mean([one["told"][way] for one in unequal])), 3) for way in cases[0]["told"]
        },
        "interval_holds_at_least": {
            way: min(one["interval_holds"][way] for one in cases) for way in cases[0]["interval_holds"]
        },
    }


def measure_time(num_rows: int) -> dict[str, Any]:
    """Return seconds and memory of comparing two runs, and of reading their files with csv alone."""
    with tempfile.TemporaryDirectory() as scratch:
        runs = [write_run(Path(scratch) / name, num_rows, seed) for seed, name in enumerate(("a", "b"))]
        tables = [str(run / "predictions.csv") for run in runs]
        ways = {
            "ours": ["-P", "-m", "classifold", "compare", "--json", *map(str, runs)],
            "csv module alone": ["-c", BARE, *tables],
        }
        return {name: measure_process(words) for name, words in ways.items()}


def measure_process(words: list[str]) -> dict[str, float]:
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    start = time.perf_counter()
    _, status, usage = wait(process)
    if status:
        raise SystemExit(f"{words[:4]} failed")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1000, 1),
    }


def wait(process: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    found = os.wait4(process.pid, 0)
    process.returncode = found[1]
    return found


def write_run(folder: Path, num_rows: int, seed: int) -> Path:
    """Write the files of a run that a comparison reads, for ten classes, nine of ten pictures right."""
    folder.mkdir()
    names = [f"class{place}" for place in range(10)]
    right = np.random.default_rng(seed).random(num_rows) < 0.9
    matrix = [[0] * 10 for _ in names]
    with (folder / "predictions.csv").open("w", encoding="utf-8") as lines:
        columns = ",".join(f"p:{name}" for name in names)
        lines.write(f"path,true_class,predicted_class,confidence,correct,{columns}\n")
        for row, is_right in enumerate(right.tolist()):
            true, said = row % 10, (row + 1 - is_right) % 10
            matrix[true][said] += 1
            shares = ",".join("0.910000" if place == said else "0.010000" for place in range(10))
            start = f"{names[true]}/IMG_{row:08}.jpg,{names[true]},{names[said]},0.910000"
            lines.write(f"{start},{str(is_right).lower()},{shares}\n")
    score = {"precision": 0.9, "recall": 0.9, "f1": 0.9, "support": num_rows // 10}
    metrics = {
        "format": 1,
        "num_pictures": num_rows,
        "class_names": names,
        "top_k": 3,
        "scores": {"accuracy": {"value": float(right.mean())}},
        "per_class": [{"class_name": name, **score} for name in names],
        "confusion_matrix": matrix,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text("{}")
    (folder / "environment.json").write_text('{"format": 1}')
    (folder / "history.csv").write_text("stage,epoch,loss,accuracy,val_loss,val_accuracy,best\n")
    return folder


if __name__ == "__main__":
    main()
