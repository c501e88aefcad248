"""How fast JPEG files become 224-pixel arrays: ours, the bare decoder, Keras, tf.data, OpenCV and PyTorch.

    python benchmarks/decode.py [FOLDER] [--torch-python PYTHON] [--rounds 5] [--small 300] [--large 12]

Makes three sets of JPEGs, quality 90, 4:2:0: 320x240, 500x375 and 4000x3000. They are resized from the
pictures of FOLDER; without one they are drawn: noise whose amplitude falls with its frequency, as in
photographs. The large ones get a camera's grain, without which they would be a quarter of a photo's size; the
mean sizes of a file are printed. Each way is a process of its own that stays alive, warmed up on the set, and
is asked in turn, round after round, first on one core, then on all:

    full        simplejpeg's decode in its fastest settings, bytes already in memory, nothing resized
    scaled      the same with DCT scaling to the smallest size from 224; the faster of both is the limit
    with resize the settings of ours and Pillow's resize and nothing else: the floor for the same pixels
    ours        training's PictureReader: from files to one array, by threads
    keras       keras.utils.image_dataset_from_directory, as its guide has it
    tf.data     by hand: decode_jpeg and resize in one parallel map
    opencv      imread and INTER_AREA in as many threads as cores
    torch       Pillow with draft in PyTorch's DataLoader, a worker process a core; only with --torch-python

Keras and tf.data resize without antialiasing, which is less work. Ratios are medians of the rounds' ratios.
Writes benchmarks/results/decode.json. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "decode.json"
PACKAGES = ("classifold", "simplejpeg", "pillow", "numpy", "keras", "tensorflow", "opencv-python-headless")
TORCH_PACKAGES = ("torch", "torchvision", "pillow")
SIZE = 224
BATCH = 32
SETS = {"small": (320, 240), "middle": (500, 375), "large": (4000, 3000)}
QUALITY = 90
NUM_TEXTURES = 20
GRAIN = 4.0  # standard deviation of the noise in a large picture, in grey levels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="photographs to make the sets from")
    parser.add_argument("--torch-python", help="a Python with torch, torchvision and Pillow")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=300, help="pictures in each of the two small sets")
    parser.add_argument("--large", type=int, default=12, help="pictures of 4000x3000")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="only these (default: all)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", choices=list(WAYS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        answer_rounds(WAYS[args.worker])
        return
    ways = [way for way in args.way or WAYS if way != "torch" or args.torch_python]
    report: dict[str, Any] = {
        "command": "python benchmarks/decode.py" + (f" {args.folder.name}" if args.folder else ""),
        "settings": {"rounds": args.rounds, "small": args.small, "large": args.large, "size": SIZE},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    if args.torch_python:
        report["torch_versions"] = ask_versions(args.torch_python, TORCH_PACKAGES)
    with tempfile.TemporaryDirectory() as scratch:
        counts = {"small": args.small, "middle": args.small, "large": args.large}
        folders = {name: make_set(Path(scratch) / name, count, args.folder) for name, count in counts.items()}
        report["mean_file_kb"] = {name: mean_kb(folder) for name, folder in folders.items()}
        print("mean size of a file, kB:", report["mean_file_kb"], flush=True)
        for cores in sorted({1, count_cores()}):
            rates = measure(ways, folders, cores, args)
            report[f"{cores} cores" if cores > 1 else "1 core"] = summarise(rates)
            print_table(rates, cores)
            args.output.parent.mkdir(exist_ok=True)
            args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


# The sets


def make_set(folder: Path, count: int, source: Path | None) -> Path:
    """Write `count` JPEGs of the set that the folder is named after, in two class folders."""
    import numpy as np

    width, height = SETS[folder.name]
    noise = np.random.default_rng(0)
    originals = iter_originals(source) if source else draw_textures(noise)
    for number in range(count):
        picture = next(originals).resize((width, height))
        if folder.name == "large":
            pixels = np.asarray(picture, np.float32)
            grain = noise.standard_normal((height, width, 1), np.float32) * GRAIN
            picture = to_image((pixels + grain).clip(0, 255).astype(np.uint8))
        place = folder / f"class{number % 2}" / f"{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place, quality=QUALITY, subsampling="4:2:0")
    return folder


def to_image(pixels: Any) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def iter_originals(source: Path) -> Iterator[Any]:
    """Yield the photographs of a folder, spread over all of it, again and again."""
    from PIL import Image

    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise SystemExit(f"{source} holds no .jpg or .png")
    step = next(step for step in (97, 89, 83) if len(paths) % step)  # meets every one of them
    number = 0
    while True:
        with Image.open(paths[number * step % len(paths)]) as image:
            yield image.convert("RGB")
        number += 1


def draw_textures(noise: Any) -> Iterator[Any]:
    """Yield pictures of 1000x750: noise in octaves, each 1.6 times weaker than the next coarser one."""
    import numpy as np
    from PIL import Image

    textures: list[Any] = []
    for _ in range(NUM_TEXTURES):
        total = np.zeros((750, 1000, 3), np.float32)
        for octave in range(2, 10):
            side = 2**octave
            coarse = noise.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
            smooth = Image.fromarray(coarse).resize((1000, 750), Image.Resampling.BICUBIC)
            total += (np.asarray(smooth, np.float32) - 128) / 1.6 ** (octave - 2)
        textures.append(to_image((total * 0.7 + 128).clip(0, 255).astype(np.uint8)))
    yield from itertools.cycle(textures)


def list_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


def mean_kb(folder: Path) -> float:
    return round(statistics.mean(path.stat().st_size for path in list_files(folder)) / 1000, 1)


# The ways: each is given a folder and returns the function to be timed, which returns how many it made


def prepare_bare(min_side: int) -> Callable[[Path], Callable[[], int]]:
    def prepare(folder: Path) -> Callable[[], int]:
        import simplejpeg

        def decode(content: bytes) -> None:
            simplejpeg.decode_jpeg(
                content, fastdct=True, fastupsample=True, min_width=min_side, min_height=min_side
            )

        return prepare_threads([path.read_bytes() for path in list_files(folder)], decode)

    return prepare


def prepare_with_resize(folder: Path) -> Callable[[], int]:
    import numpy as np
    import simplejpeg
    from PIL import Image

    def decode(content: bytes) -> None:
        pixels = simplejpeg.decode_jpeg(content, min_width=SIZE, min_height=SIZE, min_factor=1.3)
        np.array(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    return prepare_threads([path.read_bytes() for path in list_files(folder)], decode)


def prepare_ours(folder: Path) -> Callable[[], int]:
    from classifold.dataset.scan import scan_folder
    from classifold.settings.loader import build_config
    from classifold.training.array_cache import ArrayCache
    from classifold.training.pipeline import PictureReader

    pictures, config = scan_folder(folder).pictures, build_config({"IMAGE_SIZE": SIZE})

    def decode() -> int:
        reader = PictureReader(pictures, config, cache=ArrayCache(8e9, None), name=folder.name)
        reader.close()
        return len(reader)

    return decode


def prepare_keras(folder: Path) -> Callable[[], int]:
    import keras
    import tensorflow as tf

    options: dict[str, Any] = {"image_size": (SIZE, SIZE), "batch_size": BATCH, "shuffle": False}
    dataset = keras.utils.image_dataset_from_directory(folder, verbose=False, **options)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda: sum(len(pictures) for pictures, _ in dataset)


def prepare_tf_data(folder: Path) -> Callable[[], int]:
    import tensorflow as tf

    def decode(path: Any) -> Any:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(pixels, (SIZE, SIZE))

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in list_files(folder)])
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda: sum(len(pictures) for pictures in dataset)


def prepare_opencv(folder: Path) -> Callable[[], int]:
    import cv2

    cv2.setNumThreads(1)  # the pool below has a thread a core

    def decode(path: Path) -> None:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    return prepare_threads(list_files(folder), decode)


def prepare_torch(folder: Path) -> Callable[[], int]:
    count = len(list_files(folder))
    # A few large photos: each worker process has some.
    loader = prepare_torch_loader(folder, batch=min(BATCH, max(1, count // (4 * count_cores()))))
    return lambda: sum(len(pictures) for pictures, _ in loader)


def prepare_torch_loader(folder: Path, *, batch: int) -> Any:
    """Return a DataLoader of (n, 3, size, size) uint8 over Pillow, with a worker process a core."""
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    def load(path: str) -> Any:
        with Image.open(path) as image:
            image.draft("RGB", (SIZE, SIZE))
            return image.convert("RGB")

    def transform(image: Any) -> Any:
        small = functional.resize(image, [SIZE, SIZE], interpolation=InterpolationMode.BILINEAR)
        return functional.pil_to_tensor(small)

    cores = count_cores()
    # One core decodes by itself; more have a process each that lives on, as PyTorch's guide advises.
    workers = 0 if cores == 1 else cores
    dataset = ImageFolder(str(folder), transform=transform, loader=load)
    return DataLoader(dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


def prepare_threads(items: list[Any], work: Callable[[Any], None]) -> Callable[[], int]:
    """Return a function that does `work` on every item, each thread on an equal share in one go."""
    cores = count_cores()
    shares = [items[start::cores] for start in range(cores)]

    def do_share(share: list[Any]) -> None:
        for item in share:
            work(item)

    def run() -> int:
        if cores == 1:
            do_share(items)
        else:
            with ThreadPoolExecutor(cores) as pool:
                list(pool.map(do_share, shares))
        return len(items)

    return run


WAYS: dict[str, Callable[[Path], Callable[[], int]]] = {
    "full": prepare_bare(0),
    "scaled": prepare_bare(SIZE),
    "with resize": prepare_with_resize,
    "ours": prepare_ours,
    "keras": prepare_keras,
    "tf.data": prepare_tf_data,
    "opencv": prepare_opencv,
    "torch": prepare_torch,
}


# Asking them


def answer_rounds(prepare: Callable[[Path], Callable[[], int]]) -> None:
    """Be one way: for each folder on standard input, decode all of it and print the pictures a second."""
    runs: dict[str, Callable[[], int]] = {}
    for line in sys.stdin:
        folder = line.strip()
        if folder not in runs:
            runs[folder] = prepare(Path(folder))
            runs[folder]()  # warm
        started = time.perf_counter()
        count = runs[folder]()
        print(f"rate {count / (time.perf_counter() - started)}", flush=True)


def measure(
    ways: list[str], folders: dict[str, Path], cores: int, args: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Return the pictures a second of every set, way and round."""
    pythons = {"torch": args.torch_python}
    workers = {
        way: start_worker([pythons.get(way, sys.executable), __file__, "--worker", way], cores)
        for way in ways
    }
    rates: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name in folders}
    try:
        for _ in range(args.rounds):
            for name, folder in folders.items():
                for way, worker in workers.items():
                    rates[name][way].append(ask(worker, folder))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return rates


def start_worker(command: list[str], cores: int) -> subprocess.Popen[str]:
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )


def ask(worker: subprocess.Popen[str], question: object) -> float:
    """Send a worker one line; return the rate that it answers with."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{question}\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("rate "):
            return float(line.split()[1])
    raise SystemExit(f"{' '.join(map(str, worker.args))} ended without an answer")


# What is reported


def summarise(rates: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    return {
        name: {
            "median": {way: round(statistics.median(values), 1) for way, values in of_set.items()},
            "ours_of": compare(of_set),
            "rounds": {way: [round(value, 1) for value in values] for way, values in of_set.items()},
        }
        for name, of_set in rates.items()
    }


def compare(of_set: dict[str, list[float]]) -> dict[str, float]:
    """Return ours as a multiple of every other way, and of the limit: medians of the rounds' ratios."""
    if "ours" not in of_set:
        return {}
    others = {way: values for way, values in of_set.items() if way != "ours"}
    if "full" in others and "scaled" in others:
        others["the limit"] = max(others["full"], others["scaled"], key=statistics.median)
    return {
        way: round(statistics.median(a / b for a, b in zip(of_set["ours"], values, strict=True)), 2)
        for way, values in others.items()
    }


def print_table(rates: dict[str, dict[str, list[float]]], cores: int) -> None:
    print(f"\npictures a second on {cores} core{'s' if cores > 1 else ''}, ours as a multiple of each")
    titles = [f"{name} {SETS[name][0]}x{SETS[name][1]}" for name in rates]
    print(f"{'':14}" + "".join(f"{title:>24}" for title in titles))
    ratios = {name: compare(of_set) for name, of_set in rates.items()}
    ways = [*next(iter(rates.values())), "the limit"]
    for way in ways:
        cells = []
        for name, of_set in rates.items():
            rate = f"{statistics.median(of_set[way]):.1f}" if way in of_set else ""
            ratio = f"{ratios[name][way]:.2f}" if way in ratios[name] else ""
            cells.append(f"{rate:>16}{ratio:>8}")
        print(f"{way:14}" + "".join(cells), flush=True)


def count_cores() -> int:
    return len(os.sched_getaffinity(0))


def describe_machine() -> dict[str, Any]:
    rows = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), "")
    return {"cores": count_cores(), "processor": model, "python": platform.python_version()}


def ask_versions(python: str, names: tuple[str, ...]) -> dict[str, str]:
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    answer = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    versions: dict[str, str] = json.loads(answer)
    return versions


if __name__ == "__main__":
    main()
