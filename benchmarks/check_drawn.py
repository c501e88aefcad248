"""How many pairs of different pictures are taken for near copies where all of a folder look much alike, and
how long the comparison takes then.

    python benchmarks/check_drawn.py [KIND ...] [--count 300] [--seed 14]
    python benchmarks/check_drawn.py --time [CASE ...] [--folder DIR]

Draws --count pictures of each kind in `KINDS`, no two the same: coloured blocks, example flowers, charts,
pages of text, digits, X-rays, icons, products on white, and noise. Every pair that is claimed is wrong.
--time measures the folders in `CASES`: reading, comparing, and the memory at the peak, each in a process of
its own. Adds to benchmarks/results/check_drawn.json. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from classifold.dataset.index import fail_to_read, read_one
from classifold.example.photograph import draw_flower_picture
from classifold.likeness.agreement import VIEW_SIDE
from classifold.likeness.description import join_descriptions
from classifold.likeness.pairs import Pairs, find_pairs
from classifold.machine import count_cores
from classifold.pictures.decode import read_picture
from classifold.pictures.workers import start_workers

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "check_drawn.json"
DATA = HERE.parents[1] / "shared" / "data"
FOLDERS = [DATA / name for name in ("flowers5_500", "trashnet_600", "clothing10_713")]
MAX_PIXELS = 100_000_000
WORDS = ("the", "of", "and", "picture", "class", "is", "to", "in", "model", "for", "with", "data", "each")
Random = np.random.Generator


def draw_blocks(chance: Random) -> Image.Image:
    """Six by six blocks of one colour each, as benchmarks/split.py makes."""
    coarse = chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    return Image.fromarray(pixels ^ chance.integers(0, 16, pixels.shape, dtype=np.uint8))


def draw_flower(chance: Random) -> Image.Image:
    kind = str(chance.choice(("daisy", "dandelion", "roses", "sunflowers", "tulips")))
    return Image.open(io.BytesIO(draw_flower_picture(kind, chance)))


def draw_chart(chance: Random) -> Image.Image:
    """Bars in one frame with one title and one grid."""
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    draw.text((120, 8), "Sales by quarter", fill="black", font_size=18)
    for line in range(6):
        draw.line((40, 40 + 44 * line, 390, 40 + 44 * line), fill="#ccc")
        draw.text((8, 34 + 44 * line), str(100 - 20 * line), fill="black", font_size=11)
    for bar, height in enumerate(chance.integers(10, 215, 8).tolist()):
        draw.rectangle((52 + 42 * bar, 260 - height, 80 + 42 * bar, 260), fill="#1f77b4", outline="black")
        draw.text((58 + 42 * bar, 266), f"Q{bar + 1}", fill="black", font_size=11)
    return image


def draw_curve(chance: Random) -> Image.Image:
    """One noisy curve in one frame."""
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 30, 390, 270), outline="black")
    walk = np.cumsum(chance.normal(0, 9, 88))
    heights = np.clip(150 + walk - walk.mean(), 35, 265)
    draw.line([(40 + 4 * at, float(y)) for at, y in enumerate(heights)], fill="red", width=2)
    for line in range(5):
        draw.text((6, 30 + 55 * line), f"{1 - 0.2 * line:.1f}", fill="black", font_size=12)
    return image


def draw_page(chance: Random) -> Image.Image:
    """A page of text below one heading and one menu, as a screen shows it."""
    image = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 480, 28), fill="#2b3a55")
    draw.text((10, 6), "File  Edit  View  Window  Help", fill="white", font_size=14)
    draw.rectangle((0, 28, 90, 360), fill="#eeeeee")
    for entry in range(8):
        draw.text((8, 44 + 30 * entry), f"Section {entry + 1}", fill="#333", font_size=12)
    for line in range(17):
        text = " ".join(str(chance.choice(WORDS)) for _ in range(int(chance.integers(5, 12))))
        draw.text((104, 40 + 18 * line), text, fill="black", font_size=12)
    return image


def draw_digit(chance: Random) -> Image.Image:
    """A digit of uneven strokes, white on black."""
    image = Image.new("L", (112, 112))
    digit = str(chance.integers(0, 10))
    ImageDraw.Draw(image).text((30, 8), digit, fill=255, font_size=int(chance.integers(75, 96)))
    pixels = np.asarray(image.rotate(float(chance.uniform(-20, 20)), Image.Resampling.BICUBIC))
    # Each point moves with its neighbours, as no hand writes a digit twice.
    moves = chance.normal(0, 5, (2, 5, 5)).astype(np.float32)
    moves = [np.asarray(Image.fromarray(one).resize((112, 112), Image.Resampling.BICUBIC)) for one in moves]
    rows, columns = np.mgrid[:112, :112]
    found = pixels[
        np.clip(rows + moves[0], 0, 111).astype(int), np.clip(columns + moves[1], 0, 111).astype(int)
    ]
    return Image.fromarray(found).filter(ImageFilter.GaussianBlur(0.8)).convert("RGB")


def draw_xray(chance: Random) -> Image.Image:
    """Two dark fields with bright ribs, smooth, a little different in every picture, and grain."""
    rows, columns = np.mgrid[0:1:256j, 0:1:256j]
    field = np.full((256, 256), 170.0)
    for centre in (0.3, 0.7):
        x, y = centre + chance.normal(0, 0.02), 0.5 + chance.normal(0, 0.03)
        wide, high = chance.normal(0.16, 0.015), chance.normal(0.34, 0.03)
        field -= 110 * np.exp(-((((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2) ** 2))
    tilt, offset = chance.normal(0.3, 0.05), chance.uniform(0, 1)
    field += 12 * np.sin(2 * np.pi * (9 * rows + tilt * 9 * np.abs(columns - 0.5) + offset))
    for _ in range(12):
        x, y, size = chance.uniform(0.1, 0.9), chance.uniform(0.1, 0.9), chance.uniform(0.02, 0.12)
        field += chance.normal(0, 14) * np.exp(-(((columns - x) ** 2 + (rows - y) ** 2) / size**2))
    field += chance.normal(0, 2, field.shape)
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).convert("RGB")


def draw_icon(chance: Random) -> Image.Image:
    """Two to four plain shapes on a round plate."""
    image = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((16, 16, 240, 240), fill=draw_colour(chance))
    for _ in range(int(chance.integers(2, 5))):
        x, y = chance.uniform(50, 150, 2).tolist()
        size = chance.uniform(30, 80)
        shape = (draw.rectangle, draw.ellipse, draw.regular_polygon)[int(chance.integers(0, 3))]
        if shape == draw.regular_polygon:
            draw.regular_polygon((x + 20, y + 20, size / 2), 3, fill=draw_colour(chance))
        else:
            shape((x, y, x + size, y + size), fill=draw_colour(chance))  # type: ignore[operator]
    return image


def draw_colour(chance: Random) -> tuple[int, int, int]:
    red, green, blue = chance.integers(0, 256, 3).tolist()
    return red, green, blue


def draw_product(chance: Random) -> Image.Image:
    """A bottle on white with one label, of its own width, height, colour and text."""
    image = Image.new("RGB", (300, 400), "white")
    draw = ImageDraw.Draw(image)
    wide, high = chance.integers(60, 100), chance.integers(180, 260)
    body = (150 - wide, 380 - high, 150 + wide, 380)
    draw.rounded_rectangle(tuple(map(int, body)), 20, fill=draw_colour(chance))
    neck = int(chance.integers(12, 35))
    draw.rectangle((150 - neck, 380 - int(high) - 70, 150 + neck, 380 - int(high)), fill=draw_colour(chance))
    top = 380 - int(high * chance.uniform(0.5, 0.8))
    draw.rectangle((150 - int(wide), top, 150 + int(wide), top + 80), fill="white", outline="black")
    for line in range(3):
        text = str(chance.choice(WORDS)) + f" {chance.integers(0, 1000)}"
        draw.text((165 - int(wide), top + 6 + 24 * line), text, fill="black", font_size=18)
    return image.filter(ImageFilter.GaussianBlur(0.7))


def draw_noise(chance: Random) -> Image.Image:
    """Noise in stripes, as the tests of this project draw their classes."""
    pixels = chance.integers(0, 90, (96, 112, 3)) + chance.choice((20, 40, 150), 3)
    pixels = pixels + (60 if chance.random() < 0.5 else 0) * (np.arange(96) // 8 % 2 == 0)[:, None, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[Random], Image.Image]] = {
    "blocks": draw_blocks,
    "example flowers": draw_flower,
    "bar charts": draw_chart,
    "curves": draw_curve,
    "pages of text": draw_page,
    "digits": draw_digit,
    "X-rays": draw_xray,
    "icons": draw_icon,
    "products": draw_product,
    "noise": draw_noise,
}


def draw_kind(folder: Path, kind: str, *, count: int, seed: int) -> None:
    """Save that many pictures of a kind, each other one as JPEG of quality 60 to 92, the rest as PNG."""
    for number in range(count):
        chance = np.random.default_rng([seed, number, *kind.encode()])
        image = KINDS[kind](chance)
        if number % 2 or kind == "blocks":
            image.save(folder / f"{number:06}.jpg", quality=60 if kind == "blocks" else 60 + number % 33)
        else:
            image.save(folder / f"{number:06}.png", compress_level=1)


def crop_photographs(folder: Path, _: str, *, count: int, seed: int) -> None:
    """Save parts of half the width and height of photographs, from random places, mirrored or not."""
    files = sorted(path for one in FOLDERS for path in one.rglob("*.jpg"))
    number = 0
    for at, path in enumerate(files):
        chance = np.random.default_rng([seed, at])
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        while number * len(files) < (at + 1) * count and number < count:
            width, height = (max(80, int(side * 0.5)) for side in image.size)
            left, top = (
                int(chance.integers(0, max(side - part, 0) + 1))
                for side, part in zip(image.size, (width, height), strict=True)
            )
            part = image.crop((left, top, left + width, top + height))
            part.transpose(Image.Transpose(int(chance.integers(0, 2)))).save(
                folder / f"{number:06}.jpg", quality=int(chance.integers(60, 90))
            )
            number += 1


def film(folder: Path, _: str, *, count: int, seed: int) -> None:
    """Save the frames of one scene in which the light changes and things move slowly."""
    chance = np.random.default_rng(seed)
    grain = chance.normal(0, 20, (48, 64)).astype(np.float32)
    scene = np.asarray(Image.fromarray(grain).resize((320, 240), Image.Resampling.BICUBIC)) + 120
    balls = chance.uniform(40, 200, (6, 2))
    speeds = chance.normal(0, 0.4, (6, 2))
    for number in range(count):
        image = Image.fromarray(np.clip(scene + 20 * np.sin(number / 400), 0, 255).astype(np.uint8)).convert(
            "RGB"
        )
        draw = ImageDraw.Draw(image)
        for ball, (x, y) in enumerate((balls + speeds * number) % (320, 240)):
            draw.ellipse((x - 18, y - 18, x + 18, y + 18), fill=(40 * ball, 200 - 30 * ball, 120))
        image.save(folder / f"{number:06}.jpg", quality=80)


CASES: dict[str, tuple[Callable[..., None], str, int]] = {
    "1,500 blocks": (draw_kind, "blocks", 1_500),
    "10,000 blocks": (draw_kind, "blocks", 10_000),
    "50,000 blocks": (draw_kind, "blocks", 50_000),
    "20,000 parts of photographs": (crop_photographs, "", 20_000),
    "5,000 frames": (film, "", 5_000),
    "5,000 digits": (draw_kind, "digits", 5_000),
    "5,000 bar charts": (draw_kind, "bar charts", 5_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="of kinds or cases; all if none is named")
    parser.add_argument("--count", type=int, default=300, help="pictures of each kind")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the pictures go (default: a temporary folder)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    for name in args.names or (CASES if args.time else KINDS):
        draw, kind, count = CASES[name] if args.time else (draw_kind, name, args.count)
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            draw(Path(scratch), kind, count=count, seed=args.seed)
            keep(
                "time" if args.time else f"wrong pairs, seed {args.seed}", name, measure_apart(Path(scratch))
            )


def measure_apart(folder: Path) -> dict[str, Any]:
    """Return what `measure` says in a process of its own, so that the memory is that of this folder alone."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Read the pictures of a folder and compare them; return seconds, pairs and the memory at the peak."""
    start = time.perf_counter()
    files = sorted(folder.iterdir())
    readings = list(iter_readings(files))
    read, working = time.perf_counter(), time.process_time()
    found = find(files, readings)
    done, worked = time.perf_counter(), time.process_time()
    same = [pair for pair in found.pairs if pair.is_same]
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "pictures": len(files),
        "pairs": len(same),
        "examples": [f"{files[one.first].name} {files[one.second].name}" for one in same[:5]],
        "alike": len(found.pairs) - len(same),
        "cut": found.num_cut,
        "reading_seconds": round(read - start, 1),
        "comparing_seconds": round(done - read, 1),
        "comparing_processor_seconds": round(worked - working, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6),
    }


def iter_readings(files: list[Path]) -> Iterator[bytes]:
    numbered = [(number, str(path)) for number, path in enumerate(files)]
    batches = (numbered[at : at + 16] for at in range(0, len(numbered), 16))
    read = functools.partial(read_one, max_pixels=MAX_PIXELS, described=True)
    with start_workers(count_cores()) as workers:
        for batch in workers.map(batches, read, failed=fail_to_read):
            yield from (one.description or b"" for one in batch)


def find(files: list[Path], descriptions: list[bytes]) -> Pairs:
    def look_again(number: int) -> NDArray[np.uint8]:
        return read_picture(files[number], max_pixels=MAX_PIXELS, min_side=VIEW_SIDE)

    return find_pairs(join_descriptions(descriptions), read=look_again, num_workers=count_cores())


def keep(part: str, name: str, result: dict[str, Any]) -> None:
    """Print a result, and write it beside the others."""
    print(json.dumps({name: result}), flush=True)
    report = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    report["command"] = "python benchmarks/check_drawn.py"
    report.setdefault(part, {})[name] = result
    report |= describe_machine()
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "cores": count_cores(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "classifold": importlib.metadata.version("classifold"),
    }


if __name__ == "__main__":
    main()
