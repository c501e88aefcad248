"""How long a check without features takes, beside decoding each picture once, cleanvision and imagededup.

    python benchmarks/check_speed.py FOLDER [FOLDER ...] [--repeats 5] [--peers PYTHON] [--large 120]
        [--million]

Copies the photographs of the folders into one folder, and makes another one of mosaics of them with 12
million pixels each, as phones take. In each, these run in turn, each as a process of its own, timed from
start to end with the disk's cache warm:

- threads: each picture is decoded once in full, in threads, which is the least that any check does;
- processes: the same in the processes that classifold decodes in, where a broken file ends nothing;
- ours: all pictures read, hashed and measured, what is odd about them found, the sets compared;
- cleanvision: `Imagelab(...).find_issues()`; imagededup: `PHash().find_duplicates(...)`.

Medians of the repeats, and of the ratios to decoding in the same repeat, by the clock and in processor time,
which other work on the machine disturbs less. The peers run in the Python that --peers names, with both
packages, once. --million measures what follows the reading for 1,000,000 made-up pictures: seconds, and peak
memory. Writes benchmarks/results/check_speed.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from classifold.datacheck.kinds import find_odd_pictures
from classifold.datacheck.measures import TABLES, StoredPhotos, read_and_measure
from classifold.datacheck.sets import find_drift
from classifold.dataset.index import Row, add_pictures, open_index
from classifold.machine import count_cores, peak_memory_mb
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
    parser.add_argument(
        "--million", action="store_true", help="what follows the reading of 1,000,000 pictures"
    )
    parser.add_argument("--run", choices=tuple(RUNS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        RUNS[args.run](args.folders[0])
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
    if args.million:
        done = subprocess.run(
            [sys.executable, "-P", __file__, "-", "--run", "million"],
            capture_output=True,
            text=True,
            check=True,
        )
        report["million"] = json.loads(done.stdout)
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
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    decode_in_threads(folder)  # warms the disk's cache
    for repeat in range(repeats):
        for name, command in commands.items():
            if name in PEERS and repeat:
                continue
            start, before = time.perf_counter(), count_processor_seconds()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            taken[name].append((time.perf_counter() - start, count_processor_seconds() - before))
    files = list_pictures(folder)
    return {
        "pictures": len(files),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "seconds": {name: median(one[0] for one in values) for name, values in taken.items()},
        "processor_seconds": {name: median(one[1] for one in values) for name, values in taken.items()},
        "ratios": {
            f"{name} to {base}, {unit}": median(
                one[at] / least[at] for one, least in zip(values, taken[base], strict=False)
            )
            for at, unit in enumerate(("seconds", "processor seconds"))
            for base in ("threads", "processes")
            for name, values in taken.items()
            if name != base
        },
    }


def count_processor_seconds() -> float:
    """Return the processor time of finished child processes and their children, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


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


def examine_million() -> None:
    """Print how long everything after the reading takes for a million pictures, and the peak memory."""
    total = 1_000_000
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch, open_index(Path(scratch) / "index.sqlite") as index:
        index.executescript(TABLES)
        index.execute("BEGIN")
        for start in range(0, total, 10_000):
            numbers = chance.gamma(4, 12, (10_000, 14)).astype(np.float32)
            numbers[:, -1] = chance.gamma(4, 0.25, 10_000)  # sharpness
            index.executemany(
                "INSERT INTO picture (id, class_name, key, path, given, size, shape, is_plain) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    (at, f"class {at % 10}", f"class {at % 10}/{at}.jpg", b"", at % 7 % 3, 50_000, "640x480")
                    for at in range(start, start + 10_000)
                ),
            )
            index.executemany(
                "INSERT INTO photo VALUES (?, 'jpeg', 'RGB', 90, '', NULL, '', ?, x'00', NULL)",
                ((start + at, row.tobytes()) for at, row in enumerate(numbers)),
            )
        index.execute("COMMIT")
        before = time.perf_counter()
        found = find_odd_pictures(StoredPhotos(index), image_size=224)
        between = time.perf_counter()
        find_drift(StoredPhotos(index))
        after = time.perf_counter()
    report = {
        "pictures": total,
        "told": len(found),
        "seconds_for_odd_pictures": round(between - before, 1),
        "seconds_for_drift": round(after - between, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(report))


RUNS: dict[str, Callable[[Path], None]] = {
    "threads": decode_in_threads,
    "processes": decode_in_processes,
    "ours": check,
    "million": lambda _: examine_million(),
}


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
