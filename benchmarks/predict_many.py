"""Whether `classifold predict` needs no more memory for 100,000 pictures: every format, sorting, watching.

    python benchmarks/predict_many.py [--count 1000 10000 100000] [--ways csv jsonl parquet sort link watch
                                      look arrive] [--busy] [--output FILE]

Draws a hundred JPEGs of 320 x 240 and makes folders of hard links to them under ever new names, a thousand in
each. The model is the tests' own of 16 pixels, which costs next to nothing, so that what is measured is the
rest: listing, reading, writing, sorting. Each way is a whole process:

    csv, jsonl, parquet   classifold predict RUN FOLDER --output FILE
    sort, link            the same into a CSV file with --sort-into DIR, copying or with --link
    watch                 classifold predict RUN --watch FOLDER --output FILE.jsonl, ended by SIGTERM once
                          everything is answered
    look                  how long one look of `--watch` takes when nothing is new: the median of five
    arrive                how long 20 pictures, moved one by one into a watched folder of that size,
                          wait for their answers

Memory is the resident set, sampled five times a second: its largest value, and the one halfway, beside which
the end shows whether it grows. `watch` remembers the size and time of each file, as it must. Writes
benchmarks/results/predict_many.json. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from decode import describe_machine

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "predict_many.json"
PACKAGES = ("classifold", "onnxruntime", "numpy", "simplejpeg", "pyarrow")
Way = Callable[[Path, Path, int], dict[str, Any]]
NUM_PICTURES, PER_FOLDER, SECONDS = 100, 1000, 0.2


def main() -> None:
    run_ways(__doc__, WAYS, packages=PACKAGES, results=RESULTS)


def run_ways(
    description: str | None, ways: Mapping[str, Way], *, packages: Sequence[str], results: Path
) -> None:
    """Measure the ways that the command line names, for every number of pictures, and write the figures.

    Args:
        description: What `--help` says.
        ways: For each name a function of run folder, folder of pictures and their number, that returns the
            figures.
        packages: Whose versions are recorded.
        results: The file, unless `--output` names another; its stem is that of the benchmark.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", nargs="+", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--ways", nargs="+", choices=list(ways), default=list(ways), help="default: all")
    parser.add_argument(
        "--busy", action="store_true", help="say in the results that the machine did other work"
    )
    parser.add_argument("--output", type=Path, default=results)
    args = parser.parse_args()
    report: dict[str, Any] = {
        "command": " ".join([f"python benchmarks/{results.stem}.py", *sys.argv[1:]]),
        "machine": describe_machine(),
        "is_busy": args.busy,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "ways": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = make_run(Path(scratch) / "run")
        pictures, photos = draw_pictures(Path(scratch) / "drawn"), Path(scratch) / "photos"
        for count in args.count:
            link_pictures(pictures, photos, count)
            for way in args.ways:
                figures = ways[way](run_dir, photos, count)
                report["ways"].setdefault(way, []).append(figures)
                print(way, json.dumps(figures), flush=True)
            shutil.rmtree(photos)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def make_run(folder: Path) -> Path:
    """Save the tests' model that measures distances and has a rule."""
    sys.path.insert(0, str(ROOT / "tests"))
    from made_models import save_judging_model

    folder.mkdir()
    save_judging_model(folder / "model.onnx")
    return folder


def draw_pictures(folder: Path) -> list[Path]:
    """Draw smooth noise, as hard to decode as a photograph of that size."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(NUM_PICTURES):
        small = Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8))
        file = io.BytesIO()
        small.resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
    return sorted(folder.iterdir())


def link_pictures(pictures: list[Path], folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"{number // PER_FOLDER:03}"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"{number:07}.jpg").hardlink_to(pictures[number % len(pictures)])


def measure(run_dir: Path, photos: Path, count: int, *, way: str) -> dict[str, Any]:
    """Run one way over all pictures; return its seconds and memory in MB."""
    output, goal = photos.with_name("answers"), photos.with_name("sorted")
    ending = {"parquet": "parquet", "jsonl": "jsonl", "watch": "jsonl"}.get(way, "csv")
    words = ["--watch" if way == "watch" else "", str(photos), "--output", str(output), "--format", ending]
    if way in ("sort", "link"):
        words += ["--sort-into", str(goal), *(["--link"] if way == "link" else [])]
    command = [sys.executable, "-P", "-m", "classifold", "predict", str(run_dir), *filter(None, words)]
    started, sizes = time.perf_counter(), []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            sizes.append(read_mb(process.pid, "VmRSS"))
            if way == "watch" and count_lines(output) == count:
                process.send_signal(signal.SIGTERM)
                process.wait()
            time.sleep(SECONDS)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{way} ended with {process.returncode}")
    answered = count_answers(output, ending)
    if answered != count:
        raise SystemExit(f"{way} answered {answered} of {count} pictures")
    result = {
        "pictures": count,
        "seconds": round(seconds, 1),
        "pictures_per_second": round(count / seconds),
        "megabytes_halfway": round(sizes[len(sizes) // 2]),
        "megabytes_most": round(max(sizes)),
        "output_megabytes": round(output.stat().st_size / 1e6, 1),
    }
    if goal.exists():
        result["sorted"] = sum(len(files) for _, _, files in os.walk(goal))
        shutil.rmtree(goal)
    output.unlink()
    return result


def measure_look(_run_dir: Path, photos: Path, count: int) -> dict[str, Any]:
    """Return the seconds of a look at a folder whose pictures are all known."""
    from classifold.predict.watching import Watcher

    watcher, seconds = Watcher(photos), []
    found = len(watcher.look()) + len(watcher.look())
    if found != count:
        raise SystemExit(f"{found} of {count} pictures were found")
    for _ in range(5):
        started = time.perf_counter()
        watcher.look()
        seconds.append(time.perf_counter() - started)
    return {"pictures": count, "seconds": round(statistics.median(seconds), 3)}


def measure_arrival(run_dir: Path, photos: Path, count: int) -> dict[str, Any]:
    """Return how long pictures wait for their answers; the others in the folder are passed over."""
    waits, picture = [], next(photos.with_name("drawn").iterdir())
    words = ["predict", str(run_dir), "--watch", str(photos), "--new-only", "--format", "jsonl"]
    command = [sys.executable, "-P", "-m", "classifold", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(2 + count / 10_000)  # the first look
        for number in range(20):
            waiting = photos.with_name("waiting")
            shutil.copy(picture, waiting)
            started = time.perf_counter()
            waiting.rename(photos / f"new{number}.jpg")
            process.stdout.readline()
            waits.append(time.perf_counter() - started)
            time.sleep(0.37)  # not in step with the looks
        process.send_signal(signal.SIGTERM)
    for path in photos.glob("new*.jpg"):
        path.unlink()
    return {
        "pictures": count,
        "seconds_median": round(statistics.median(waits), 2),
        "seconds_most": round(max(waits), 2),
    }


WAYS: dict[str, Way] = {
    **{
        way: functools.partial(measure, way=way)
        for way in ("csv", "jsonl", "parquet", "sort", "link", "watch")
    },
    "look": measure_look,
    "arrive": measure_arrival,
}


def read_mb(pid: int, name: str) -> float:
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) * 1024 / 1e6 for row in rows if row.startswith(f"{name}:")), 0.0)


def count_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def count_answers(path: Path, ending: str) -> int:
    if ending == "parquet":
        from pyarrow.parquet import ParquetFile

        return int(ParquetFile(path).metadata.num_rows)
    return count_lines(path) - (ending == "csv")


if __name__ == "__main__":
    main()
