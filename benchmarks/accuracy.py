"""How good a default run is and how long it takes, beside a classifier on frozen features.

    python benchmarks/accuracy.py FOLDER [FOLDER ...] [--seeds 3] [--set NAME=VALUE ...] [--output FILE]

For each folder of pictures (one sub-folder a class) and each seed (SPLIT_SEED and RANDOM_SEED alike) it
divides the folder, trains with default settings in a process of its own, and reads metrics.json. Beside it,
in the same division: a logistic regression on the features of the same frozen backbone, its strength by
the validation set. Time is of the whole `classifold train` process, memory the largest sum over it
and its children. Writes benchmarks/results/accuracy.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from classifold.machine import count_cores

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
PACKAGES = ("classifold", "keras", "tensorflow", "onnxruntime", "numpy")
STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="NAME=VALUE")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/accuracy.py", *(folder.name for folder in args.folders)]),
        "settings": args.overrides,
        "folders": {},
        "machine": f"{platform.machine()}, {count_cores()} cores, Python {platform.python_version()}",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    for folder in args.folders:
        runs = [run_once(folder, seed, args.overrides) for seed in range(args.seeds)]
        report["folders"][folder.name] = summarise(runs)
        print(json.dumps({folder.name: report["folders"][folder.name]}, indent=2), flush=True)
        args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def run_once(folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.py"
        config.write_text(
            f"DATA_LOCAL_DIR = {str(folder.resolve())!r}\nSPLIT_LOCAL_DIR = {scratch + '/split'!r}\n"
            f"RUNS_DIR = {scratch + '/runs'!r}\nSPLIT_SEED = {seed}\nRANDOM_SEED = {seed}\n"
        )
        settings = ["--config", str(config), *(word for text in overrides for word in ("--set", text))]
        subprocess.run([sys.executable, "-P", "-m", "classifold", "split", *settings], check=True, stdout=2)
        seconds, memory = measure([sys.executable, "-P", "-m", "classifold", "train", *settings])
        (run_dir,) = (path for path in (Path(scratch) / "runs").iterdir() if path.is_dir())
        metrics = json.loads((run_dir / "metrics.json").read_text())
        environment = json.loads((run_dir / "environment.json").read_text())
        floor = measure_floor(Path(scratch) / "split")
    result = {
        "seed": seed,
        "accuracy": metrics["scores"]["accuracy"]["value"],
        "macro_f1": metrics["scores"]["macro_f1"]["value"],
        "frozen_features_accuracy": floor,
        "num_evaluation": metrics["num_pictures"],
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(memory),
        "phases": environment["seconds"],
    }
    print(json.dumps(result), flush=True)
    return result


def measure(command: list[str]) -> tuple[float, float]:
    """Return the seconds of a command, and the largest memory (MB) of it and its children together."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=2)
    peak = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peak))
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return time.perf_counter() - started, peak[0]


def watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(resident_mb(pid) for pid in family(process.pid)))
        time.sleep(0.5)


def family(pid: int) -> list[int]:
    """Return a process and all that it started, by Linux's /proc."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def resident_mb(pid: int) -> float:
    """Return the proportional memory of a process: what it shares with others is counted once in all."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) * 1024 / 1e6 for row in rows if row.startswith("Pss:")), 0.0)


FLOOR = """
import sys, json, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import numpy as np
from classifold.settings.loader import build_config
from classifold.dataset.scan import load_sets
from classifold.training.backend import start_keras
start_keras("tensorflow", seed=0)
from classifold.training.frozen import compile_frozen, compute_plain
from classifold.training.model import build_classifier, split_parts
from classifold.training.pipeline import PictureReader
from classifold.training.array_cache import ArrayCache, blocks
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sets, cache = load_sets(Path(sys.argv[1])), ArrayCache(4e9, None)
config = build_config({"HEAD_FEATURES": "top"})
frozen = split_parts(build_classifier(config, sets.class_names), 0).frozen
compute = compile_frozen(frozen, Path(sys.argv[1]).parent)
x, y = {}, {}
for name, pictures in sets.pictures.items():
    reader = PictureReader(pictures, config, cache=cache, name=name)
    x[name] = np.concatenate([compute(reader.read(indices)) for indices in blocks(len(reader))])
    y[name] = np.array([sets.class_names.index(picture.class_name) for picture in reader.pictures])
    reader.close()
models = [
    make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(x["training"], y["training"])
    for c in json.loads(sys.argv[2])
]
best = max(models, key=lambda model: model.score(x["validation"], y["validation"]))
print(best.score(x["evaluation"], y["evaluation"]))
"""


def measure_floor(split_dir: Path) -> float:
    command = [sys.executable, "-P", "-c", FLOOR, str(split_dir), json.dumps(STRENGTHS)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    return float(done.stdout.splitlines()[-1])


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "mean_accuracy": round(statistics.mean(run["accuracy"] for run in runs), 4),
        "mean_macro_f1": round(statistics.mean(run["macro_f1"] for run in runs), 4),
        "mean_frozen_features_accuracy": round(
            statistics.mean(run["frozen_features_accuracy"] for run in runs), 4
        ),
        "median_seconds": statistics.median(run["seconds"] for run in runs),
        "median_peak_memory_mb": statistics.median(run["peak_memory_mb"] for run in runs),
        "runs": runs,
    }


if __name__ == "__main__":
    main()
