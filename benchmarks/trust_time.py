"""What calibration, distances and class maps cost: seconds of `train`, and milliseconds of a prediction.

    python benchmarks/trust_time.py FOLDER --before CHECKOUT [--rounds 3] [--set NAME=VALUE]

Trains on the same split with the code of this checkout and, in turn, with that of CHECKOUT, a worktree of
the release before (`git worktree add CHECKOUT v0.1.0`). Then one process asks the models of both about one
picture at a time, in turn: as `classifold predict` opens them, and as a program does that opens model.onnx
by itself with ONNX Runtime, which computes every output that a model has.

Medians. Processor time, of all cores, is told beside the time on the clock: other work on the machine changes
it little. Writes benchmarks/results/trust_time.json; some eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from decode import describe_machine

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "trust_time.json"
PACKAGES = ("onnxruntime", "numpy", "keras", "tensorflow")
BEFORE, NOW = "before", "now"
# Asks every model about the same picture in turn; prints the milliseconds of this thread's processor time.
ASK = """
import json, statistics, sys, time
from pathlib import Path
import numpy as np, onnxruntime
from classifold.inference import open_session
before, now, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
alone = onnxruntime.InferenceSession(str(now), options, providers=["CPUExecutionProvider"])
ways = {
    "before": (open_session(before), ["probabilities"]),
    "now": (open_session(now, without=("class_maps",)), ["probabilities", "distance"]),
    "now, opened by itself": (alone, ["probabilities", "distance"]),
}
size = alone.get_inputs()[0].shape[1]
pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.float32)
spent = {name: [] for name in ways}
for turn in range(count + 10):
    for name, (session, outputs) in ways.items():
        started = time.thread_time()
        session.run(outputs, {"pixels": pixels})
        if turn >= 10:
            spent[name].append(1000 * (time.thread_time() - started))
print(json.dumps({name: statistics.median(values) for name, values in spent.items()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="pictures, one folder per class")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the code to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--asked", type=int, default=200, help="how often each model is asked")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="settings of train")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    output, sources = args.output.absolute(), {BEFORE: args.before.absolute() / "src", NOW: ROOT / "src"}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        given = [f"DATA_LOCAL_DIR={args.folder.absolute()}", f"SPLIT_LOCAL_DIR={place / 'split'}", *args.set]
        # Away from this checkout, whose settings file names settings that CHECKOUT does not know.
        os.chdir(place)
        run_command(sources[NOW], ["split", *as_options(given)])
        trained: dict[str, list[dict[str, Any]]] = {BEFORE: [], NOW: []}
        for turn in range(args.rounds):
            for name in (BEFORE, NOW) if turn % 2 == 0 else (NOW, BEFORE):
                trained[name].append(train(sources[name], place / f"{name}{turn}", given))
                print(f"{name:8}{trained[name][-1]}", flush=True)
        models = [str(next((place / f"{name}0").glob("*/model.onnx"))) for name in (BEFORE, NOW)]
        words = [sys.executable, "-P", "-c", ASK, *models, str(args.asked)]
        asked = json.loads(
            subprocess.run(words, check=True, capture_output=True, env=environment(sources[NOW])).stdout
        )
    report = {
        "command": f"python benchmarks/trust_time.py {args.folder.name} --before CHECKOUT",
        "settings": {"rounds": args.rounds, "asked": args.asked, "set": args.set},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "train": {name: summarise(rounds) for name, rounds in trained.items()},
        "train_takes_more": {
            unit: round(compare(trained, unit), 4) for unit in ("seconds", "processor_seconds")
        },
        "prediction_milliseconds": {name: round(value, 3) for name, value in asked.items()},
        "prediction_takes_more": {
            name: round(value / asked[BEFORE] - 1, 4) for name, value in asked.items() if name != BEFORE
        },
    }
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: report[key] for key in ("train_takes_more", "prediction_takes_more")}, indent=2))


def as_options(settings: list[str]) -> list[str]:
    return [word for one in settings for word in ("--set", one)]


def environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "TF_CPP_MIN_LOG_LEVEL": "3"}


def run_command(source: Path, words: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "classifold", *words]
    subprocess.run(command, check=True, capture_output=True, env=environment(source))


def train(source: Path, runs_dir: Path, settings: list[str]) -> dict[str, Any]:
    """Return the seconds of a run: on the clock, of the processor, and of every phase."""
    started, used = time.perf_counter(), used_by_children()
    run_command(source, ["train", *as_options([*settings, f"RUNS_DIR={runs_dir}"])])
    seconds, processor = time.perf_counter() - started, used_by_children() - used
    (path,) = runs_dir.glob("*/environment.json")
    phases = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    return {"seconds": round(seconds, 2), "processor_seconds": round(processor, 2), "phases": phases}


def used_by_children() -> float:
    """Return the processor seconds of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def summarise(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    phases = {name: statistics.median(one["phases"][name] for one in rounds) for name in rounds[0]["phases"]}
    medians = {
        unit: statistics.median(one[unit] for one in rounds) for unit in ("seconds", "processor_seconds")
    }
    return {**medians, "phases": phases, "rounds": rounds}


def compare(trained: dict[str, list[dict[str, Any]]], unit: str) -> float:
    """Return by which share the runs of now take more, the median over the rounds."""
    pairs = zip(trained[BEFORE], trained[NOW], strict=True)
    return statistics.median(now[unit] / before[unit] - 1 for before, now in pairs)


if __name__ == "__main__":
    main()
