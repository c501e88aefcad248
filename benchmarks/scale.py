"""How time and memory of `train` and `predict` grow with the number of pictures.

    python benchmarks/scale.py [--sizes 1000,5000,20000] [--pictures FOLDER] [--folder DIR] [--rounds 1]
                               [--cache-gb 0.1] [--image-size 64] [--set NAME=VALUE ...] [--output FILE]

For each size a divided folder is made: so many training pictures, 200 of validation and 100 of evaluation,
in five classes. They are 300 drawn JPEGs of 320 x 240 (or those below FOLDER) under ever new names: hard
links where the file system allows, else copies. Links are read and decoded one by one as any file is, but
the bytes of 300 files stay in the page cache, so this is the cost of the work, not of a disk. `classifold
train` (two epochs of the head, one of fine-tuning, one augmented version, a cache that is too small for the
larger sizes) and `classifold predict` over the training pictures then run as processes of their own, size
after size, round after round.

For every phase, as environment.json and history.csv tell it, a line is fitted: seconds = start + pictures x
cost. "features" is what the head's stage takes beside its epochs: every picture augmented and put through
the frozen backbone. "around" is the rest of the process: imports, and listing the files. Memory is the
largest sum of proportional set sizes over the process and its children; "own" is its anonymous part,
without mapped files: the cache that found no room in memory is a mapped scratch file, whose pages the
system takes back when it needs them. Writes benchmarks/results/scale.json. --sizes 1000,10000,50000,200000
is the full run, more than an hour.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from classifold.machine import count_cores

RESULTS = Path(__file__).parent / "results" / "scale.json"
PACKAGES = ("classifold", "keras", "tensorflow", "onnxruntime", "numpy", "simplejpeg")
NUM_SOURCES, NUM_VALIDATION, NUM_EVALUATION = 300, 200, 100
NUM_CLASSES = 5
SETTINGS = {"EPOCHS": 1, "HEAD_EPOCHS": 2, "AUGMENTATION_VARIANTS": 1, "CHECKPOINT_MINUTES": 0.2}
SAMPLE_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,5000,20000", help="training pictures, separated by commas")
    parser.add_argument("--pictures", type=Path, help="JPEGs to repeat (default: drawn ones)")
    parser.add_argument("--folder", type=Path, help="where everything goes (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cache-gb", type=float, default=0.1)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="NAME=VALUE")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    settings = {**SETTINGS, "CACHE_GB": args.cache_gb, "IMAGE_SIZE": args.image_size}
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/scale.py", *sys.argv[1:]]),
        "settings": {**settings, "overrides": args.overrides},
        **describe_machine(),
        "runs": [],
    }
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        sources = find_sources(Path(scratch), args.pictures)
        for _ in range(args.rounds):
            for size in map(int, args.sizes.split(",")):
                run = run_once(Path(scratch) / "work", sources, size, settings, args.overrides)
                report["runs"].append(run)
                print(json.dumps(run), flush=True)
                save(report, args.output)
    print_table(report)


def save(report: dict[str, Any], path: Path) -> None:
    report["lines"] = fit_lines(report["runs"])
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


# The pictures


def find_sources(scratch: Path, folder: Path | None) -> list[Path]:
    """Return the JPEGs that are repeated, on the disk of `scratch` so that they can be linked."""
    target = scratch / "sources"
    target.mkdir()
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        return [shutil.copyfile(path, target / f"{n}.jpg") for n, path in enumerate(found[:NUM_SOURCES])]
    noise = np.random.default_rng(0)
    for number in range(NUM_SOURCES):
        # Smooth colours with fine noise: about 25 kB each, as a photograph of this size has.
        coarse = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        coarse[..., number % NUM_CLASSES % 3] //= 1 + number % NUM_CLASSES
        picture = np.kron(coarse, np.ones((20, 20, 1), np.uint8))
        picture ^= noise.integers(0, 16, picture.shape, dtype=np.uint8)
        (target / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(picture, quality=85))
    return [target / f"{number}.jpg" for number in range(NUM_SOURCES)]


def make_split(folder: Path, sources: list[Path], size: int) -> None:
    for name, count in (("training", size), ("validation", NUM_VALIDATION), ("evaluation", NUM_EVALUATION)):
        for number in range(NUM_CLASSES):
            (folder / name / f"class {number}").mkdir(parents=True)
        for number in range(count):
            source = sources[number % len(sources)]
            link(source, folder / name / f"class {number % NUM_CLASSES}" / f"{number:07}.jpg")


def link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or no more links to this file
        shutil.copyfile(source, target)


# One size


def run_once(
    work: Path, sources: list[Path], size: int, settings: dict[str, Any], overrides: list[str]
) -> dict[str, Any]:
    make_split(work / "split", sources, size)
    config = work / "config.py"
    values = {**settings, "SPLIT_LOCAL_DIR": str(work / "split"), "RUNS_DIR": str(work / "runs")}
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    options = ["--config", str(config), *(word for text in overrides for word in ("--set", text))]
    train = measure("train", *options)
    (run_dir,) = (path for path in (work / "runs").iterdir() if path.is_dir())
    phases = read_phases(run_dir)
    phases["around"] = train["seconds"] - sum(phases.values())
    phases |= {"epoch of the head": read_epoch(run_dir, "head"), "the whole command": train["seconds"]}
    training, output = work / "split" / "training", work / "answers.csv"
    predict = measure("predict", str(run_dir), str(training), "--format", "csv", "--output", str(output))
    with output.open(encoding="utf-8") as file:
        num_answers = sum(1 for _ in file) - 1
    shutil.rmtree(work)
    if num_answers != size:
        raise SystemExit(f"predict gave {num_answers} answers for {size} pictures")
    rounded = {name: round(seconds, 3) for name, seconds in phases.items()}
    return {"size": size, "train": {**train, "phases": rounded}, "predict": predict}


def read_phases(run_dir: Path) -> dict[str, float]:
    """Return the seconds of the phases of a run, the head's stage as its features and its epochs."""
    phases: dict[str, float] = json.loads((run_dir / "environment.json").read_text())["seconds"]
    epochs = sum(read_seconds(run_dir, "head"))
    return {
        "start": phases["start"],
        "reading": phases["reading"],
        "features": phases["head"] - epochs,
        "head's epochs": epochs,
        "fine-tuning": phases["fine_tune"],
        "formats, evaluation, check": sum(phases[name] for name in ("export", "evaluate", "verify"))
        + phases.get("report", 0.0),
    }


def read_epoch(run_dir: Path, stage: str) -> float:
    return statistics.median(read_seconds(run_dir, stage))


def read_seconds(run_dir: Path, stage: str) -> list[float]:
    with (run_dir / "history.csv").open(encoding="utf-8") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file) if row["stage"] == stage]


def measure(*words: str) -> dict[str, float]:
    """Run a command of ours; return its seconds and the largest memory of it and its children together."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-P", "-m", "classifold", *words]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        peak = {"peak_mb": 0.0, "own_peak_mb": 0.0}
        watcher = threading.Thread(target=watch, args=(process, peak))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - started
        watcher.join()
        if code:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {code}:\n{log.read()[-3000:].decode()}")
    return {"seconds": round(seconds, 2), **{name: round(value) for name, value in peak.items()}}


def watch(process: subprocess.Popen[bytes], peak: dict[str, float]) -> None:
    while process.poll() is None:
        sizes = [read_sizes(pid) for pid in family(process.pid)]
        peak["peak_mb"] = max(peak["peak_mb"], sum(one.get("Pss", 0) for one in sizes))
        peak["own_peak_mb"] = max(peak["own_peak_mb"], sum(one.get("Pss_Anon", 0) for one in sizes))
        time.sleep(SAMPLE_SECONDS)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it started, by Linux's /proc."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def read_sizes(pid: int) -> dict[str, float]:
    """Return the proportional sizes (MB) of a process: what it shares with others is counted once in all."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    words = [row.split() for row in rows if row.startswith("Pss")]
    return {name.rstrip(":"): int(value) * 1024 / 1e6 for name, value, *_ in words}


# The lines


def fit_lines(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return seconds = start + cost x pictures for each phase and for predict; memory likewise."""
    if len({run["size"] for run in runs}) < 2:
        return {}
    sizes = [run["size"] for run in runs]
    columns = {
        f"train: {name}": [run["train"]["phases"][name] for run in runs]
        for name in runs[0]["train"]["phases"]
    }
    columns["predict: the whole command"] = [run["predict"]["seconds"] for run in runs]
    lines = {name: fit_line(sizes, values, "seconds", 1e3, "ms") for name, values in columns.items()}
    for command in ("train", "predict"):
        for name in ("peak_mb", "own_peak_mb"):
            values = [run[command][name] for run in runs]
            lines[f"{command}: {name}"] = fit_line(sizes, values, "mb", 1e3, "kb")
    return lines


def fit_line(sizes: list[int], values: list[float], unit: str, factor: float, small: str) -> dict[str, Any]:
    x, y = np.array(sizes, float), np.array(values, float)
    cost, start = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    unexplained = ((y - start - cost * x) ** 2).sum()
    return {
        f"start_{unit}": round(float(start), 2),
        f"{small}_per_picture": round(float(cost * factor), 4),
        "r_squared": round(float(1 - unexplained / spread), 4) if spread else None,
    }


def print_table(report: dict[str, Any]) -> None:
    for name, line in report["lines"].items():
        start, cost, fit = line.values()
        small, unit = ("ms", "s") if "start_seconds" in line else ("kB", "MB")
        print(f"{name:40} {start:9.2f} {unit} + {cost:8.3f} {small} a picture   R2 {fit}")


def describe_machine() -> dict[str, Any]:
    rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return {
        "machine": {
            "when": time.strftime("%Y-%m-%d"),
            "cores": count_cores(),
            "processor": models[0] if models else platform.machine(),
            "python": platform.python_version(),
            "load_average": [round(value, 1) for value in os.getloadavg()],
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    main()
