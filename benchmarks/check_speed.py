"""How long a check without features takes, beside decoding each picture once, cleanvision and imagededup.

    python benchmarks/check_speed.py FOLDER [FOLDER ...] [--repeats 5] [--peers PYTHON] [--large 120]

Copies the photographs of the folders into one folder, and makes another one of mosaics of them with 12
million pixels each, as phones take. In each, these run in turn, each as a process of its own, timed from
start to end with the disk's cache warm:

- threads: each picture is decoded once in full, in threads, which is the least that any check does;
- processes: the same in the processes that classifold decodes in, where a broken file ends nothing;
- ours: all pictures read, hashed and measured, what is odd about them found, the sets compared;
- cleanvision: `Imagelab(...).find_issues()`; imagededup: `PHash().find_duplicates(...)`.

Medians of the repeats, and of the ratios to decoding in the same repeat. The peers run in the
Python that --peers names, with both packages. Writes benchmarks/results/check_speed.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from classifold.datacheck.kinds import find_odd_pictures
from classifold.datacheck.measures import StoredPhotos, read_and_measure
from classifold.datacheck.sets import find_drift
from classifold.dataset.index import Row, add_pictures, open_index
from classifold.machine import count_cores
from classifold.pictures.decode import read_picture
from classifold.pictures.workers import start_workers

RESULTS = Path(__file__).parent / "results" / "check_speed.json"
PACKAGES = ("classifold", "numpy", "pillow", "simplejpeg")
LIMIT = 100_000_000
WIDTH, HEIGHT = 4000, 3000
PEERS = {
    "cleanvision": """
import sys
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1])
lab.find_issues(verbose=False)
""",
    "imagededup": """
import sys
from imagededup.methods import PHash
PHash(verbose=False).find_duplicates(image_dir=sys.argv[1], recursive=True)
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", type=int, default=120, help="how many large pictures")
    parser.add_argument("--peers", type=Path, help="a Python with cleanvision and imagededup")
    parser.add_argument("--run", choices=("threads", "processes", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        {"threads": decode_in_threads, "processes": decode_in_processes, "ours": check}[args.run](
            args.folders[0]
        )
        return
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            "small pictures": copy_pictures(args.folders, Path(scratch) / "small"),
            "12 million pixels": make_mosaics(args.folders, Path(scratch) / "large", count=args.large),
        }
        measured = {
            name: measure(folder, repeats=args.repeats, peers=args.peers) for name, folder in folders.items()
        }
    report = {"command": "python benchmarks/check_speed.py", "folders": measured, **describe_machine()}
    print(json.dumps(report, indent=2))
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def copy_pictures(folders: list[Path], place: Path) -> Path:
    for folder in folders:
        shutil.copytree(folder, place / folder.name)
    return place


def make_mosaics(folders: list[Path], place: Path, *, count: int) -> Path:
    """Write JPEGs of 4000 x 3000 pixels, each of photographs side by side: they decode as photographs do."""
    sources = [path for folder in folders for path in list_pictures(folder)]
    chance = np.random.default_rng(0)
    for number in range(count):
        mosaic = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        top = 0
        while top < HEIGHT:
            left = 0
            while left < WIDTH:
                tile = read_picture(sources[chance.integers(len(sources))], max_pixels=LIMIT)
                tile = tile[: min(500, HEIGHT - top), : WIDTH - left]
                mosaic[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
                left += tile.shape[1]
            top += 500
        path = place / f"class {number % 2}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(mosaic, quality=92, colorsubsampling="420"))
    return place


def list_pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.*") if path.is_file())


def measure(folder: Path, *, repeats: int, peers: Path | None) -> dict[str, Any]:
    """Time every contender several times, in turn."""
    own = [sys.executable, "-P", __file__, str(folder), "--run"]
    commands = {name: [*own, name] for name in ("threads", "processes", "ours")}
    if peers:
        commands |= {name: [str(peers), "-c", program, str(folder)] for name, program in PEERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            if repeat:  # the first time warms the disk's cache
                seconds[name].append(time.perf_counter() - start)
    files = list_pictures(folder)
    bare = seconds["threads"]
    return {
        "pictures": len(files),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "seconds": {name: round(statistics.median(values), 2) for name, values in seconds.items()},
        "times_as_long_as_threads": {
            name: round(statistics.median(one / least for one, least in zip(values, bare, strict=True)), 2)
            for name, values in seconds.items()
        },
        "times_as_long_as_processes": {
            name: round(
                statistics.median(
                    one / least for one, least in zip(values, seconds["processes"], strict=True)
                ),
                2,
            )
            for name, values in seconds.items()
        },
    }


def decode_in_threads(folder: Path) -> None:
    with ThreadPoolExecutor(count_cores()) as threads:
        for _ in threads.map(lambda path: decode(0, str(path)), list_pictures(folder)):
            pass


def decode_in_processes(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from check_speed import decode as work  # the processes import it by this name

    files = [(number, str(path)) for number, path in enumerate(list_pictures(folder))]
    batches = [files[at : at + 16] for at in range(0, len(files), 16)]
    with start_workers(count_cores()) as workers:
        for _ in workers.map(batches, work, failed=decode):
            pass


def decode(_number: int, path: str) -> None:
    read_picture(Path(path), max_pixels=LIMIT)


def check(folder: Path) -> None:
    files = list_pictures(folder)
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch, open_index(Path(scratch) / "index.sqlite") as index:
        rows = (
            Row(
                path.parent.name,
                str(path.relative_to(folder)),
                os.fsencode(path),
                int(chance.integers(3)),
                None,
            )
            for path in files
        )
        add_pictures(index, rows)
        read_and_measure(index, total=len(files), num_workers=count_cores(), max_pixels=LIMIT)
        find_odd_pictures(StoredPhotos(index), image_size=224)
        find_drift(StoredPhotos(index))


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
