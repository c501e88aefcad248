"""Which changed copies of photographs are found, and how many pairs are wrong; beside other tools.

    python benchmarks/check_copies.py [FOLDER ...] [--seed 14] [--each 60] [--peers PYTHON] [--sheet DIR]
    python benchmarks/check_copies.py --million [COUNT]

Copies the pictures of the folders (classes of photographs), adds --each changed copies of every kind in
`KINDS`, and looks for the pairs. A copy counts as found if it is in a group with its original; a wrong pair
is one of different photographs. Pairs of the folders themselves that were looked at and are one photograph
stand in `KNOWN`. `--peers` names a Python with cleanvision, imagededup or fastdup, which then get the same
files; benchmarks/peers/near_copies.py says how each is asked. `--sheet` saves the pairs of different
photographs side by side, to be looked at. `--million` compares the hashes of that many made descriptions, of
which 1 in 1,000 is a noisy, turned copy of another. Adds to benchmarks/results/check_copies.json. About three
minutes on two cores without the peers.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import json
import os
import platform
import random
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
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from classifold.dataset.index import fail_to_read, read_one
from classifold.likeness.agreement import VIEW_SIDE
from classifold.likeness.candidates import find_candidates, hash_pictures
from classifold.likeness.description import DESCRIPTION, SIDE, join_descriptions
from classifold.likeness.grouping import group_pairs
from classifold.likeness.pairs import Pair, find_pairs
from classifold.machine import count_cores
from classifold.pictures.decode import read_picture
from classifold.pictures.workers import start_workers

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "check_copies.json"
DATA = HERE.parents[1] / "shared" / "data"
FOLDERS = [DATA / name for name in ("flowers5_500", "trashnet_600", "clothing10_713")]
MAX_PIXELS = 100_000_000
PEERS = ("cleanvision", "imagededup_phash", "imagededup_cnn", "fastdup")
# Looked at: two files of the folders that do show one photograph.
KNOWN = {"paper549.jpg": "paper176.jpg"}
Changed = tuple[Image.Image, dict[str, Any]]


def resize(image: Image.Image, chance: random.Random) -> Changed:
    factor = chance.uniform(0.4, 0.75)
    return image.resize((round(image.width * factor), round(image.height * factor))), {}


def recompress(image: Image.Image, _: random.Random) -> Changed:
    return image, {"quality": 40}


def crop(image: Image.Image, chance: random.Random) -> Changed:
    """Cut up to a tenth off each side, each by itself; one side in five stays."""
    left, top, right, bottom = (chance.uniform(0.02, 0.1) * (chance.random() < 0.8) for _ in range(4))
    width, height = image.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return image.crop(tuple(map(round, box))), {}  # type: ignore[arg-type]


def mirror(image: Image.Image, chance: random.Random) -> Changed:
    return (ImageOps.mirror if chance.random() < 0.7 else ImageOps.flip)(image), {}


def turn(image: Image.Image, chance: random.Random) -> Changed:
    way = chance.choice((Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270))
    return image.transpose(way), {}


def turn_by_exif(image: Image.Image, chance: random.Random) -> Changed:
    exif = Image.Exif()
    exif[0x0112] = chance.choice((3, 6, 8))
    return image, {"exif": exif}


def change_brightness(image: Image.Image, chance: random.Random) -> Changed:
    factor = chance.uniform(0.55, 0.8) if chance.random() < 0.5 else chance.uniform(1.2, 1.5)
    return ImageEnhance.Brightness(image).enhance(factor), {}


def make_grey(image: Image.Image, _: random.Random) -> Changed:
    return image.convert("L"), {}


def add_border(image: Image.Image, chance: random.Random) -> Changed:
    width = round(min(image.size) * chance.uniform(0.02, 0.08))
    return ImageOps.expand(image, width, chance.choice(("white", "black", "grey", "red"))), {}


def add_caption(image: Image.Image, chance: random.Random) -> Changed:
    """Write over the upper or lower edge or the middle; half the time on a bar."""
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    height = max(10, round(image.height * 0.07))
    top = chance.choice((2, image.height // 2, image.height - height - 2))
    if chance.random() < 0.5:
        bar = (0, top, round(image.width * chance.uniform(0.4, 1)), top + height)
        draw.rectangle(bar, fill=chance.choice(("black", "white")))
    colour = chance.choice(("yellow", "red"))
    draw.text((5, top), "Holiday 2019 - my garden", fill=colour, font_size=height)
    return drawn, {}


KINDS: dict[str, Callable[[Image.Image, random.Random], Changed]] = {
    "resized": resize,
    "quality 40": recompress,
    "cropped": crop,
    "mirrored": mirror,
    "turned": turn,
    "turned by EXIF": turn_by_exif,
    "brighter or darker": change_brightness,
    "grey": make_grey,
    "border": add_border,
    "caption": add_caption,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=FOLDERS)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--each", type=int, default=60, help="changed copies of every kind")
    parser.add_argument("--peers", help="a Python in which the others are installed")
    parser.add_argument("--sheet", type=Path, help="folder for pictures of pairs to be looked at")
    parser.add_argument("--million", nargs="?", type=int, const=1_000_000, metavar="COUNT")
    args = parser.parse_args()
    if args.million:
        keep("hashes", measure_hashes(args.million))
        return
    with tempfile.TemporaryDirectory() as scratch:
        truth, kinds = build(Path(scratch), args.folders, seed=args.seed, each=args.each)
        keep("ours", {"seed": args.seed, **judge(*find_ours(Path(scratch), args.sheet, truth), truth, kinds)})
        for peer in PEERS if args.peers else ():
            found = ask_peer(args.peers, peer, Path(scratch))
            keep(peer, found if "failed" in found else judge(found["pairs"], found["seconds"], truth, kinds))


def build(
    scratch: Path, folders: list[Path], *, seed: int, each: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Write originals and copies side by side; return each file's original, and each copy's kind."""
    chance = random.Random(seed)
    originals = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    truth, kinds = {}, {}
    for path in originals:
        (scratch / path.name).write_bytes(path.read_bytes())
        truth[path.name] = KNOWN.get(path.name, path.name)
    for kind, change in KINDS.items():
        for number, path in enumerate(chance.sample(originals, each)):
            with Image.open(path) as image:
                changed, options = change(ImageOps.exif_transpose(image).convert("RGB"), chance)
            name = f"copy-{kind.replace(' ', '-')}-{number:02}.jpg"
            stream = io.BytesIO()
            changed.save(stream, "JPEG", **{"quality": 92, **options})
            (scratch / name).write_bytes(stream.getvalue())
            truth[name], kinds[name] = truth[path.name], kind
    return truth, kinds


def find_ours(
    folder: Path, sheet: Path | None, truth: dict[str, str]
) -> tuple[list[tuple[str, str]], float, dict[str, Any]]:
    """Return the pairs that are found, the seconds from files to pairs, and what they consist of."""
    start = time.perf_counter()
    files = sorted(folder.iterdir())
    numbered = [(number, str(path)) for number, path in enumerate(files)]
    batches = (numbered[at : at + 16] for at in range(0, len(numbered), 16))
    read = functools.partial(read_one, max_pixels=MAX_PIXELS, described=True)
    with start_workers(count_cores()) as workers:
        readings = [one for done in workers.map(batches, read, failed=fail_to_read) for one in done]
    reading = time.perf_counter() - start

    def look_again(number: int) -> NDArray[np.uint8]:
        return read_picture(files[number], max_pixels=MAX_PIXELS, min_side=VIEW_SIDE)

    table = join_descriptions(one.description or b"" for one in readings)
    found = find_pairs(table, read=look_again, num_workers=count_cores())
    seconds = time.perf_counter() - start
    same = [pair for pair in found.pairs if pair.is_same]
    if sheet is not None:
        save_sheets(sheet, files, found.pairs, truth)
    alike = [
        tuple(sorted((files[one.first].name, files[one.second].name)))
        for one in found.pairs
        if not one.is_same and truth[files[one.first].name] != truth[files[one.second].name]
    ]
    names = [(files[one.first].name, files[one.second].name) for one in same]
    return names, seconds, {"reading_seconds": round(reading, 1), "alike_only": sorted(alike)}


def judge(
    pairs: list[tuple[str, str]],
    seconds: float,
    *more: Any,
) -> dict[str, Any]:
    """Return how many copies of each kind are in a group with their original, and the wrong pairs."""
    *extra, truth, kinds = more
    names = sorted(truth)
    place = {name: number for number, name in enumerate(names)}
    right = [pair for pair in pairs if truth[pair[0]] == truth[pair[1]]]
    group_of: dict[str, int] = {}
    for number, group in enumerate(group_pairs((place[one], place[other]) for one, other in right)):
        group_of |= {names[member]: number for member in group}
    found = dict.fromkeys(KINDS, 0)
    for name, kind in kinds.items():
        found[kind] += name in group_of and group_of[name] == group_of.get(truth[name])
    wrong = {tuple(sorted((truth[one], truth[other]))) for one, other in pairs if truth[one] != truth[other]}
    result: dict[str, Any] = {"found": found, "wrong_pairs": len(wrong), "seconds": round(seconds, 1)}
    result["wrong_examples"] = sorted(wrong)[:5]
    for one in extra:
        result |= one
    return result


def ask_peer(python: str, peer: str, folder: Path) -> dict[str, Any]:
    """Return the pairs that another tool finds and its seconds, or why it gave none."""
    script = HERE / "peers" / "near_copies.py"
    try:
        done = subprocess.run(
            [python, str(script), peer, str(folder)], capture_output=True, text=True, timeout=1800
        )
    except subprocess.TimeoutExpired:
        return {"failed": "not done after half an hour"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:300]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def save_sheets(folder: Path, files: list[Path], pairs: list[Pair], truth: dict[str, str]) -> None:
    """Save the pairs of different photographs side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        one, other = files[pair.first], files[pair.second]
        if truth[one.name] == truth[other.name]:
            continue
        sheet = Image.new("RGB", (820, 400), "white")
        for at, path in ((0, one), (410, other)):
            with Image.open(path) as image:
                shown = ImageOps.exif_transpose(image).convert("RGB")
            shown.thumbnail((400, 400))
            sheet.paste(shown, (at, 0))
        kind = "same" if pair.is_same else "alike"
        sheet.save(folder / f"{kind}-{one.stem}-{other.stem}.png")


def measure_hashes(count: int) -> dict[str, Any]:
    """Compare the hashes of made pictures; return times, the planted copies found, and the peak of memory."""
    noise = np.random.default_rng(0)
    start = time.perf_counter()
    num_planted = count // 1000
    hashes = hash_pictures(iter_made(count, num_planted, noise), num_pictures=count)
    hashed = time.perf_counter()
    working = time.process_time()
    found = find_candidates(hashes)
    done = time.perf_counter()
    worked = time.process_time()
    planted = {(number, count - num_planted + number) for number in range(num_planted)}
    hits = planted & {(min(pair), max(pair)) for pair in found.pairs.tolist()}
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "pictures": count,
        "hashing_seconds": round(hashed - start, 1),
        "comparing_seconds": round(done - hashed, 1),
        "comparing_processor_seconds": round(worked - working, 1),
        "planted": num_planted,
        "planted_found": len(hits),
        "candidate_pairs": len(found.pairs),
        "pictures_cut": len(found.cut),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6),
    }


def iter_made(count: int, num_planted: int, noise: np.random.Generator) -> Iterator[NDArray[Any]]:
    """Yield tables of made miniatures whose spectrum falls as in photographs; the last are noisy copies."""
    v, h = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    fall = (1 / (1 + np.hypot(v, h))).astype(np.float32)
    basis = np.cos(np.pi * (np.arange(SIDE) + 0.5) / SIDE * np.arange(SIDE)[:, None]).astype(np.float32)
    kept: list[NDArray[np.uint8]] = []
    for start in range(0, count - num_planted, 4096):
        size = min(4096, count - num_planted - start)
        spectrum = noise.standard_normal((size, SIDE, SIDE), np.float32) * fall
        made = basis.T @ spectrum @ basis
        made = 128 + 40 * made / made.std(axis=(1, 2), keepdims=True)
        grey = np.clip(made, 0, 255).astype(np.uint8)
        if sum(map(len, kept)) < num_planted:
            kept.append(grey)
        yield make_table(grey)
    copies = np.concatenate(kept)[:num_planted].astype(np.float32)
    copies += noise.normal(0, 6, copies.shape)
    turned = np.clip(copies, 0, 255).astype(np.uint8)[:, ::-1].swapaxes(1, 2)
    yield make_table(turned)


def make_table(grey: NDArray[np.uint8]) -> NDArray[Any]:
    table = np.zeros(len(grey), DESCRIPTION)
    table["grey"], table["width"], table["height"] = grey, 640, 480
    return table


def keep(name: str, result: dict[str, Any]) -> None:
    """Print a result, and write it beside the others."""
    print(json.dumps({name: result}, indent=1), flush=True)
    report = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    report["command"] = "python benchmarks/check_copies.py"
    report[name] = {**result, **describe_machine()}
    RESULTS.parent.mkdir(exist_ok=True)
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
