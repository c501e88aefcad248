"""What checkpoints cost: the same run with none and with the default ones, in turn, and the seconds inside.

    python benchmarks/checkpoint.py [FOLDER] [--runs 3] [--output FILE]

FOLDER holds pictures, a sub-folder a class; without it the made flowers are drawn. Each run is a process of
its own with the default settings but for CHECKPOINT_MINUTES; with 0 the outputs of frozen layers are not kept
for a later part of the run either. `training` is what reading and both stages take.
The runs vary by more than checkpoints cost, so the time that taking states holds the training up and the time
that the writing thread is busy are counted inside as well, as shares of `training`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from classifold.example.make import draw_example
from classifold.machine import count_cores

MINUTES = {"none": 0.0, "default": 0.2}


def main() -> int:
    """Train in turn with and without checkpoints; print the medians and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train_once(json.loads(options.one))))
        return 0
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in MINUTES}
    with tempfile.TemporaryDirectory() as name:
        settings = prepare(Path(name), options.folder)
        for number in range(options.runs):
            for kind, minutes in MINUTES.items():
                runs_dir = f"{name}/runs-{kind}-{number}"
                told = {**settings, "CHECKPOINT_MINUTES": minutes, "RUNS_DIR": runs_dir}
                words = [sys.executable, __file__, "--one", json.dumps(told)]
                done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
                found[kind].append(json.loads(done.stdout.splitlines()[-1]))
                print(kind, found[kind][-1], flush=True)
    answer = {
        "command": "python benchmarks/checkpoint.py",
        "runs": options.runs,
        "cores": count_cores(),
        **{kind: describe(runs) for kind, runs in found.items()},
    }
    print(json.dumps(answer, indent=2))
    if options.output:
        options.output.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    return 0


def prepare(folder: Path, pictures: Path | None) -> dict[str, Any]:
    """Split the pictures; return the settings that say where they are."""
    from classifold.dataset.split import split_dataset
    from classifold.settings.loader import build_config

    if pictures is None:
        draw_example(folder / "flowers", pictures_per_class=100)
    places = {
        "DATA_LOCAL_DIR": str(pictures or folder / "flowers"),
        "SPLIT_LOCAL_DIR": str(folder / "sets"),
    }
    split_dataset(build_config(places))
    return places


def train_once(settings: dict[str, Any]) -> dict[str, Any]:
    """Train one run, and return its seconds and those that went into checkpoints."""
    from classifold.settings.loader import build_config
    from classifold.training import checkpoints as resume
    from classifold.training import fit, run

    taken: list[float] = []
    written: list[float] = []
    fit.StageTraining.take_state = time_calls(fit.StageTraining.take_state, taken)
    resume.Checkpoints.save = time_calls(resume.Checkpoints.save, written)
    summary = run.train_model(build_config(settings), is_resumable=True)
    training = sum(summary.seconds.get(name, 0.0) for name in ("reading", "head", "fine_tune"))
    return {
        "training": round(training, 2),
        "states": len(taken),
        "taking_share": round(sum(taken) / training, 5),
        "checkpoints": len(written),
        "writing_share": round(sum(written) / training, 5),
    }


def time_calls(function: Callable[..., Any], seconds: list[float]) -> Any:
    """Return a function that does the same, and whose seconds are kept."""

    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - started)

    return timed


def describe(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


if __name__ == "__main__":
    sys.exit(main())
