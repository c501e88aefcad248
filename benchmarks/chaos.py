"""How exactly a killed run goes on: SIGKILL at random moments, `train --resume`, the same bits every time.

    python benchmarks/chaos.py [--kills 100] [--seed 0] [--output FILE]

Trains a tiny network straight through, once with a head that is learned in epochs and then all layers, and
once with a head that is found and some layers frozen, whose outputs are kept; then both again and again with
kills spread over the whole of that time, the export included. Exits with 1 where any run ends otherwise than
its straight one: weights, history but for the seconds, predictions and metrics are compared bit for bit.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from classifold.example.make import draw_example
from classifold.machine import count_cores

BACKBONE = """
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    for index, channels in enumerate((8, 12, 16)):
        x = keras.layers.Conv2D(channels, 3, 2, padding="same", use_bias=False, name=f"conv{index}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{index}")(x)
        x = keras.layers.ReLU(name=f"relu{index}")(x)
    return keras.Model(pixels, x, name="tiny")
"""
SETTINGS = {
    "DATA_LOCAL_DIR": "flowers",
    "ALGORITHM_NAME": "tiny",
    "BACKBONE": "my_model.py:build",
    "BACKBONE_WEIGHTS": None,
    "IMAGE_SIZE": 64,
    "BATCH_SIZE": 8,
    "EARLY_STOPPING_PATIENCE": 0,
    "DROPOUT": 0.3,
    "BACKEND": "tensorflow",
    "CHECKPOINT_MINUTES": 0.001,
}
# Beside these, for each way to a head.
HEADS = {
    "learned": ("HEAD_PENALTIES=()", "FINE_TUNE_SHARE=1.0", "AUGMENTATION_VARIANTS=0"),
    "found": ("HEAD_PENALTIES=(1.0, 0.3, 0.1, 0.03, 0.01)", "FINE_TUNE_SHARE=0.5", "AUGMENTATION_VARIANTS=3"),
}


@dataclass
class Tally:
    """What was done to the runs, and how they ended.

    Attributes:
        phases: How many kills fell in each.
        resumed: How many runs went on from each kind of place.
        runs: How many came to their end.
        different: What differed, run by run.
    """

    phases: Counter[str] = field(default_factory=Counter)
    resumed: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    different: list[str] = field(default_factory=list)


def prepare(folder: Path, *, num_epochs: int, pictures_per_class: int) -> None:
    """Make pictures, network and settings."""
    settings = {**SETTINGS, "HEAD_EPOCHS": num_epochs, "EPOCHS": num_epochs}
    draw_example(folder / "flowers", pictures_per_class=pictures_per_class)
    (folder / "my_model.py").write_text(BACKBONE)
    (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    subprocess.run([*command("split", folder / "unused")], cwd=folder, check=True, capture_output=True)


def command(name: str, runs_dir: Path, *options: str, head: str = "learned") -> list[str]:
    """Return the words of a command."""
    words = [sys.executable, "-P", "-m", "classifold", name, "--config", "config.py", *options]
    return [*words, *(f"--set={one}" for one in (f"RUNS_DIR={runs_dir}", *HEADS[head]))]


def train_straight(folder: Path, head: str) -> tuple[Path, float]:
    """Train without an interruption; return the run and the seconds it took."""
    started, runs_dir = time.perf_counter(), folder / f"straight-{head}"
    words = command("train", runs_dir, head=head)
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    (run_dir,) = runs_dir.iterdir()
    return run_dir, time.perf_counter() - started


def train_with_kills(
    folder: Path,
    runs_dir: Path,
    *,
    head: str,
    left: int,
    longest: float,
    generator: random.Random,
    tally: Tally,
) -> Path:
    """Train one run, killed up to `left` times and resumed each time; return its folder."""
    while True:
        options = ("--resume",) if list(runs_dir.glob(".*.checkpoint")) else ()
        seconds = generator.uniform(0, longest) if left else None
        code, log = start(command("train", runs_dir, *options, head=head), folder, seconds)
        if code > 0:
            raise SystemExit(f"train {' '.join(options)} failed:\n{log}")
        if "note: resumed from " in log or "from the pictures is used again" in log:
            tally.resumed[find_place(log)] += 1
        # One that is killed when it is whole, before it says so, is whole all the same.
        whole = [path for path in runs_dir.glob("*") if not path.name.startswith(".")]
        if code < 0:
            left -= 1
            phase = "ending" if whole else find_phase(log, runs_dir)
            tally.phases[phase] += 1
            print(f"  killed after {seconds:5.1f} s, {phase}", flush=True)
        if whole:
            (run_dir,) = whole
            return run_dir


def start(words: list[str], folder: Path, seconds: float | None) -> tuple[int, str]:
    """Run a command, killed after some seconds where it runs so long; return its exit code and log."""
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode, (folder / "log.txt").read_text()


def find_phase(log: str, runs_dir: Path) -> str:
    """Return where a run was when it was killed, as far as its traces tell."""
    working = list(runs_dir.glob(".*.partial"))
    if working and (working[0] / "model.keras").exists():
        if not (working[0] / "reference.npz").exists():
            return "calibrating"
        return "evaluating" if (working[0] / "checkpoint").exists() else "exporting"
    stages = re.findall(r"^(fine-tuning|head) (?:epoch )?[0-9]+(?: of |/)[0-9]+: ", log, re.MULTILINE)
    return f"training {stages[-1]}" if stages else "starting"


def find_place(log: str) -> str:
    """Return the kind of place where a run went on: inside an epoch, between two, or before the first."""
    if "note: resumed from " not in log:
        return "within what is computed of the pictures"
    place = log.partition("note: resumed from ")[2].partition(" (checkpoint")[0]
    stage = "fine-tuning" if place.endswith("fine-tuning") else "the head"
    return f"inside an epoch of {stage}" if "batch" in place else f"after one of {stage}"


def compare(one: Path, other: Path) -> list[str]:
    """Return what differs between two runs but for their times and names."""
    same = {name: (one / name).read_bytes() == (other / name).read_bytes() for name in _FILES}
    same["history.csv"] = read_history(one) == read_history(other)
    same["weights"] = read_weights(one) == read_weights(other)
    same["reference.npz"] = read_reference(one) == read_reference(other)
    return [name for name, is_same in same.items() if not is_same]


_FILES = ("predictions.csv", "metrics.json")


def read_history(run_dir: Path) -> list[dict[str, str]]:
    """Return the rows of history.csv without their seconds."""
    with (run_dir / "history.csv").open(encoding="utf-8", newline="") as file:
        return [{name: x for name, x in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def read_weights(run_dir: Path) -> dict[str, bytes]:
    """Return every array of model.keras as its bytes."""
    import h5py

    arrays: dict[str, bytes] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()].tobytes()

    with (
        zipfile.ZipFile(run_dir / "model.keras") as archive,
        archive.open("model.weights.h5") as file,
        h5py.File(file) as weights,
    ):
        weights.visititems(keep)
    return arrays


def read_reference(run_dir: Path) -> dict[str, bytes]:
    """Return every array of reference.npz as its bytes; the file itself holds times."""
    with np.load(run_dir / "reference.npz", allow_pickle=False) as file:
        return {name: array.tobytes() for name, array in file.items()}


def main() -> int:
    """Kill, resume, compare; print what came of it and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-run", type=int, default=4, help="kills a run, at most")
    parser.add_argument("--epochs", type=int, default=25, help="of each stage")
    parser.add_argument("--pictures-per-class", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    generator, tally = random.Random(options.seed), Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, num_epochs=options.epochs, pictures_per_class=options.pictures_per_class)
        straight: dict[str, tuple[Path, float]] = {}
        while (done := tally.phases.total()) < options.kills:
            runs_dir, head = folder / f"runs{tally.runs}", list(HEADS)[tally.runs % len(HEADS)]
            if head not in straight:
                straight[head] = train_straight(folder, head)
                print(f"straight, head {head}: {straight[head][1]:.1f} s", flush=True)
            left = min(options.per_run, options.kills - done)
            run_dir = train_with_kills(
                folder, runs_dir, head=head, left=left, longest=straight[head][1],
                generator=generator, tally=tally,
            )  # fmt: skip
            tally.runs += 1
            different = compare(run_dir, straight[head][0])
            print(f"run {tally.runs}: {', '.join(different) or 'the same'}", flush=True)
            tally.different += [f"run {tally.runs}: {one}" for one in different]
    answer = {
        "kills": tally.phases.total(),
        "kills_by_phase": dict(sorted(tally.phases.items())),
        "resumed_from": dict(sorted(tally.resumed.items())),
        "runs": tally.runs,
        "different": tally.different,
        "straight_seconds": {head: round(seconds, 1) for head, (_, seconds) in straight.items()},
        "seed": options.seed,
        "cores": count_cores(),
    }
    print(json.dumps(answer, indent=2))
    if options.output:
        options.output.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    return 1 if tally.different else 0


if __name__ == "__main__":
    sys.exit(main())
