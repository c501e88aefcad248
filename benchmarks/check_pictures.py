"""How many odd pictures a check finds, and how many it calls odd that nobody changed, beside cleanvision.

    python benchmarks/check_pictures.py FOLDER [FOLDER ...] [--peers PYTHON] [--sheets DIR]

In a copy of each folder, 60 photographs are added that were blurred, made grey, near black, near white,
blank, tiny or long and narrow, or 60 pages of text. Each kind is planted alone, since what is usual in a
folder counts. "Found" are planted pictures that are told as this kind; "others" are pictures of the folder
itself that are told as it, some of them rightly: a folder of photographs has a few grey ones. Beside it,
cleanvision with its defaults, in the Python that --peers names. With --sheets, everything that is reported
of the folders as they are is put on a sheet, to be looked at. Writes
benchmarks/results/check_pictures.json. Minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from classifold.datacheck.kinds import find_odd_pictures
from classifold.datacheck.measures import StoredPhotos, read_and_measure
from classifold.dataset.index import Row, add_pictures, open_index
from classifold.machine import count_cores

RESULTS = Path(__file__).parent / "results" / "check_pictures.json"
COUNT, QUALITY, IMAGE_SIZE = 60, 90, 224
PLANTED = "planted"
# Prints the files of each issue as JSON.
CLEANVISION = """
import json, sys
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1])
lab.find_issues(verbose=False)
found = {name: list(lab.issues.index[lab.issues[name]]) for name in lab.issues if name.startswith("is_")}
print(json.dumps(found))
"""


def draw_text(_picture: Image.Image, chance: random.Random) -> Image.Image:
    page, font = Image.new("RGB", (480, 360), "white"), ImageFont.load_default(chance.choice((12, 14, 18)))
    pen, words = (
        ImageDraw.Draw(page),
        ("total", "sum", "date", "invoice", "page", "number", "to"),
    )
    for top in range(10, 340, 24):
        pen.text((10, top), " ".join(chance.choices(words, k=9)), fill="black", font=font)
    return page


def shrink(picture: Image.Image, chance: random.Random) -> Image.Image:
    picture.thumbnail((chance.randint(40, 90),) * 2)
    return picture


def stretch(picture: Image.Image, chance: random.Random) -> Image.Image:
    width, height = picture.size
    return picture.resize((width * 2, max(height // chance.randint(3, 5), 8)))


# The kind, the change of a photograph, and what cleanvision calls it.
KINDS: dict[str, tuple[Callable[..., Image.Image], tuple[str, ...]]] = {
    "blurred": (
        lambda picture, chance: picture.filter(ImageFilter.GaussianBlur(chance.uniform(2, 5))),
        ("is_blurry_issue",),
    ),
    "grey": (lambda picture, _: picture.convert("L").convert("RGB"), ("is_grayscale_issue",)),
    "near black": (
        lambda picture, chance: ImageEnhance.Brightness(picture).enhance(chance.uniform(0.05, 0.18)),
        ("is_dark_issue",),
    ),
    "near white": (
        lambda picture, _: picture.point(lambda value: 230 + value // 11),
        ("is_light_issue",),
    ),
    "blank": (
        lambda picture, chance: Image.new("RGB", picture.size, tuple(chance.choices(range(256), k=3))),
        ("is_low_information_issue",),
    ),
    "text or placeholder": (draw_text, ("is_low_information_issue", "is_light_issue")),
    "tiny": (shrink, ("is_odd_size_issue",)),
    "long and narrow": (stretch, ("is_odd_aspect_ratio_issue",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--peers", type=Path, help="a Python with cleanvision")
    parser.add_argument("--sheets", type=Path, help="folder for the sheets")
    args = parser.parse_args()
    # Folders that are not given keep their results.
    results = json.loads(RESULTS.read_text(encoding="utf-8"))["folders"] if RESULTS.exists() else {}
    for folder in args.folders:
        results[folder.name] = {kind: measure(folder, kind, peers=args.peers) for kind in KINDS}
        print(folder.name, json.dumps(results[folder.name], indent=2), flush=True)
        if args.sheets:
            draw_sheet(folder, args.sheets)
        report = {
            "command": "python benchmarks/check_pictures.py",
            "when": time.strftime("%Y-%m-%d"),
            "planted": COUNT,
            "folders": results,
        }
        RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, kind: str, *, peers: Path | None) -> dict[str, Any]:
    """Plant one kind in a copy of a folder; return what is found of it, and in the folder's own pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / folder.name
        shutil.copytree(folder, place)
        plant(place, kind)
        total = len(list_pictures(place)) - COUNT
        own = count([file for file, one in find_ours(place) if one == kind])
        # Planted pictures that are told as another kind too, or folder's own ones, spoil a reader's trust.
        report: dict[str, Any] = {"pictures of the folder": total, "ours": own}
        if peers:
            done = subprocess.run(
                [str(peers), "-c", CLEANVISION, str(place)], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            files = {file for name in KINDS[kind][1] for file in found.get(name, ())}
            report["cleanvision"] = count([str(Path(file).relative_to(place)) for file in files])
        return report


def plant(place: Path, kind: str) -> None:
    """Add changed copies of photographs of the folder, in a class of their own."""
    chance = random.Random(f"{place.name} {kind}")
    (place / PLANTED).mkdir()
    for number, path in enumerate(chance.sample(list_pictures(place), COUNT)):
        with Image.open(path) as picture:
            changed = KINDS[kind][0](picture.convert("RGB"), chance)
        changed.save(place / PLANTED / f"{number:03}.jpg", quality=QUALITY)


def list_pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.*") if path.is_file())


def count(files: list[str]) -> dict[str, int]:
    planted = sum(file.startswith(f"{PLANTED}/") for file in files)
    return {"found": planted, "others": len(files) - planted}


def find_ours(folder: Path) -> list[tuple[str, str]]:
    """Return (file, kind) of every finding about the pictures of a folder."""
    return [(one.file, one.kind) for one in _find(folder)]


def _find(folder: Path) -> list[Any]:
    files = list_pictures(folder)
    with tempfile.TemporaryDirectory() as scratch, open_index(Path(scratch) / "index.sqlite") as index:
        rows = (
            Row(path.parent.name, str(path.relative_to(folder)), os.fsencode(path), None, None)
            for path in files
        )
        add_pictures(index, rows)
        read_and_measure(index, total=len(files), num_workers=count_cores(), max_pixels=10**8)
        return find_odd_pictures(StoredPhotos(index), image_size=IMAGE_SIZE)


def draw_sheet(folder: Path, place: Path) -> None:
    """Draw the pictures of an unchanged folder that have findings on a sheet, with their kinds."""
    found, side, columns = _find(folder), 200, 6
    place.mkdir(parents=True, exist_ok=True)
    sheet = Image.new("RGB", (columns * side, (len(found) // columns + 1) * (side + 20)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, one in enumerate(found):
        with Image.open(folder / one.file) as picture:
            small = picture.convert("RGB")
        small.thumbnail((side - 8, side - 8))
        left, top = number % columns * side, number // columns * (side + 20)
        sheet.paste(small, (left, top + 20))
        pen.text((left, top), f"{one.kind}: {one.file}"[-32:], fill="black")
    sheet.save(place / f"{folder.name}.png")


if __name__ == "__main__":
    main()
