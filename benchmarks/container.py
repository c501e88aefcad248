"""How long the image's `train` takes from `docker run` until it reads the first picture, and to its stop.

    python benchmarks/container.py flowers-classification:cpu-0123456789abcdef [--runs 5] [--cpus 2]

Draws a few pictures, starts the image as `classifold train --docker` does, and reads what it prints.
Once it trains it is asked to stop, and the time until it is gone is measured too: SageMaker allows 120 s.
Writes benchmarks/results/container.json. Exits with 1 where reading starts after 10 seconds or more, or a
stop takes 60 or more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from classifold.docker.engine import run_docker, start_docker
from classifold.docker.start import Start, build_command
from classifold.machine import count_cores
from classifold.sagemaker.ml_folder import MlFolder
from classifold.settings.loader import build_config, to_hyperparameters

RESULTS = Path(__file__).parent / "results" / "container.json"
READING_LIMIT, STOP_LIMIT = 10.0, 60.0
STEPS = {
    "first line": "classifold ",
    "pictures counted": "job ",
    "reading": "reading ",
    "first epoch": "head 1/5: regularization ",
}
SETTINGS = {"HEAD_EPOCHS": 1, "EPOCHS": 1000, "EARLY_STOPPING_PATIENCE": 0}


def draw_sets(folder: Path) -> None:
    """Save a few pictures in two classes for each set."""
    number = 0
    for set_name, count in (("training", 20), ("validation", 6), ("evaluation", 6)):
        for class_name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
            (folder / set_name / class_name).mkdir(parents=True)
            for _ in range(count):
                number += 1
                picture = Image.new("RGB", (320, 240), colour)
                picture.putpixel((number, number), (0, 0, 0))
                picture.save(folder / set_name / class_name / f"{number}.jpg")


def lay_out(folder: Path, image: str, number: int) -> Start:
    """Return a container's start, its folders made."""
    ml = MlFolder(folder / "ml")
    texts = to_hyperparameters(build_config(SETTINGS))
    ml.write(
        hyperparameters={name: texts[name] for name in SETTINGS},
        channels={"pictures": {"TrainingInputMode": "File"}},
        checkpoint_uri="s3://bucket/checkpoints/",
    )
    (folder / "tmp").mkdir()
    draw_sets(folder / "data")
    return Start(
        name=f"benchmark-{folder.name}-{number}",
        image=image,
        ml_dir=ml.root,
        scratch_dir=folder / "tmp",
        data_dir=folder / "data",
        channel="pictures",
    )


def measure(image: str, number: int, cpus: float) -> dict[str, float]:
    """Return the seconds to each step of one job, and those of its stop."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        start = lay_out(Path(name), image, number)
        command = build_command(start)
        command[1:1] = ["--cpus", str(cpus)]
        began, seconds, lines = time.perf_counter(), {}, []
        process = start_docker(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process, contextlib.ExitStack() as ending:
            ending.callback(run_docker, ["kill", start.name], doing="end it", check=False)
            for line in process.stdout or ():
                lines.append(line)
                for step, words in STEPS.items():
                    if step not in seconds and line.startswith(words):
                        seconds[step] = time.perf_counter() - began
                if "first epoch" in seconds:
                    break
            else:
                raise SystemExit("".join(lines))
            began = time.perf_counter()
            run_docker(["stop", "--time", "120", start.name], doing="stop it")
            seconds["stop"] = time.perf_counter() - began
    return seconds


def main() -> int:
    """Print medians and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cpus", type=float, default=2)
    given = parser.parse_args()
    rounds = [measure(given.image, number, given.cpus) for number in range(given.runs)]
    medians = {}
    for step in rounds[0]:
        times = [one[step] for one in rounds]
        medians[step] = statistics.median(times)
        print(f"{step:18} {medians[step]:6.2f} s   ({min(times):.2f} to {max(times):.2f})", flush=True)
    result = {
        "command": "python benchmarks/container.py IMAGE",
        "machine": f"{platform.machine()}, {count_cores()} cores, the container with {given.cpus:g}",
        "image": given.image.rpartition(":")[2],
        "seconds": {step: round(value, 2) for step, value in medians.items()},
        "all_seconds": {step: [round(one[step], 2) for one in rounds] for step in medians},
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if medians["reading"] >= READING_LIMIT or medians["stop"] >= STOP_LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
