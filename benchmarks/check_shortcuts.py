"""Which planted shortcuts the data check finds, and how often it raises a false alarm on noise.

    python benchmarks/check_shortcuts.py [--folders 200] [--seeds 5] [--peer PYTHON] [--peer-folders 20]
    python benchmarks/check_shortcuts.py --background FOLDER

Folders are made up: what is measured of each picture (size, format, camera, time, colours, name...) is drawn
as in a folder of phone and camera photographs, without regard to the class. A folder of noise has 60 to 1,500
pictures of 2 to 10 classes, the largest of which holds 50 to 95 %; any shortcut reported there is a false
alarm. In the others one kind of shortcut is planted: 95 % of the pictures of one class have it and 5 % of the
others. It counts as found if it is reported under its own name.

PYTHON is one that has cleanlab with Datalab for pictures (`pip install "cleanlab[image]"`): its check for
spurious correlations gets small pictures that are drawn from the same numbers, in --peer-folders folders of
noise and in those kinds of shortcut that show in the pixels. It reports a score for each property; a score
below its own threshold counts as reported.

--background takes photographs in a folder of classes instead, three times: as they are; with a frame of
coloured noise around each, of another colour for each class; and with such frames whose colours have nothing
to do with the class. Only the second may be reported. Its answer is added to the results.

Writes benchmarks/results/check_shortcuts.json. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from classifold.datacheck.features import Network, compute_features
from classifold.datacheck.photo import Photo
from classifold.datacheck.shortcuts import find_shortcuts, judge_background
from classifold.dataset.scan import scan_folder
from classifold.settings.config import Config
from decode import ask_versions, describe_machine

RESULTS = Path(__file__).parent / "results" / "check_shortcuts.json"
PEER = Path(__file__).parent / "peers" / "cleanlab_shortcuts.py"
SIZES = ((4032, 3024), (3024, 4032), (1920, 1080), (1600, 1200), (4000, 3000), (1080, 1920))
CAMERAS = ("Apple iPhone 13", "Apple iPhone SE", "samsung SM-G991B", "Canon EOS 80D", "")
NAMES = ("IMG_{:04d}", "DSC{:05d}", "PXL_{:06d}", "photo {:d}")
YEAR = 31_536_000
DAY = 86_400
Change = Callable[[Photo, np.random.Generator], Photo]
COLOURED = 40.0


def _resized(photo: Photo, factor: float) -> Photo:
    return replace(photo, size=(round(photo.size[0] * factor), round(photo.size[1] * factor)))


def _at(photo: Photo, hour: float, generator: Any) -> Photo:
    day = int(generator.integers(50 * 365, 54 * 365)) * DAY
    return replace(photo, taken=day + (hour + generator.uniform(0, 2)) * 3600)


def _weekend(photo: Photo, generator: Any) -> Photo:
    # Day 2 after 1 January 1970, a Thursday, was a Saturday.
    day = 2 + 7 * int(generator.integers(2600, 2800)) + int(generator.integers(2))
    return replace(photo, taken=day * DAY + generator.uniform(0, DAY))


def _coloured(photo: Photo, name: str, change: tuple[float, float, float]) -> Photo:
    values = np.clip(getattr(photo, name) + np.array(change), 0, 255).astype(np.float32)
    return replace(photo, **{name: values})


def _named(photo: Photo, name: str) -> Photo:
    return replace(photo, key=f"{photo.class_name}/{name}.jpg")


# Kind: what is planted, and the names under which it may be reported.
KINDS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "small pictures": (lambda one, _: _resized(one, 0.2), ("size",)),
    "one width": (lambda one, _: replace(one, size=(1024, one.size[1])), ("size", "aspect")),
    "slightly smaller": (lambda one, _: _resized(one, 0.97), ("size",)),
    "square": (lambda one, _: replace(one, size=(1024, 1024)), ("aspect", "size")),
    "portrait": (lambda one, _: replace(one, size=(3000, 4000)), ("aspect", "size")),
    "PNG": (lambda one, _: replace(one, format="png", jpeg_quality=None), ("format",)),
    "grey files": (lambda one, _: replace(one, mode="grey"), ("colour mode",)),
    "transparency": (lambda one, _: replace(one, mode="alpha"), ("colour mode",)),
    "colour profile": (lambda one, _: replace(one, profile="ProPhoto RGB"), ("colour profile",)),
    "JPEG quality": (lambda one, _: replace(one, jpeg_quality=61), ("JPEG quality",)),
    "strong compression": (lambda one, _: replace(one, num_bytes=one.num_bytes // 8), ("bytes per pixel",)),
    "one camera": (lambda one, _: replace(one, camera="NIKON D750"), ("camera",)),
    "no EXIF": (lambda one, _: replace(one, camera="", taken=None), ("camera", "date")),
    "one month": (lambda one, g: replace(one, taken=53.1 * YEAR + g.uniform(0, 30 * DAY)), ("date",)),
    "in the evening": (lambda one, g: _at(one, 19, g), ("date",)),
    "at weekends": (_weekend, ("date",)),
    "darker": (lambda one, _: _coloured(one, "mean", (-70, -70, -70)), ("brightness",)),
    "warm light": (lambda one, _: _coloured(one, "mean", (COLOURED, 0, -COLOURED)), ("mean colour",)),
    "flat contrast": (lambda one, _: replace(one, contrast=one.contrast / 4), ("brightness",)),
    "border": (
        lambda one, g: replace(one, border=g.normal(250, 2, 3).astype(np.float32)),
        ("border colour",),
    ),
    "blurred": (lambda one, _: replace(one, sharpness=one.sharpness / 20), ("sharpness",)),
    "word in the name": (lambda one, g: _named(one, f"scan{g.integers(10**6)}"), ("file name",)),
    "folder": (lambda one, g: _named(one, f"studio/{g.integers(10**6)}"), ("file name",)),
    "one after another": (lambda one, g: _named(one, f"IMG_{g.integers(2000, 2400):04d}"), ("file order",)),
}
# Those that cleanlab can see in pixels, with the properties under which it may report them.
PEER_KINDS = {
    "small pictures": ("odd_size",),
    "portrait": ("odd_aspect_ratio", "odd_size"),
    "darker": ("dark", "light"),
    "grey files": ("grayscale",),
    "blurred": ("blurry",),
    "flat contrast": ("low_information", "blurry", "dark", "light"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folders", type=int, default=200, help="folders of noise")
    parser.add_argument("--seeds", type=int, default=5, help="folders for each kind of shortcut")
    parser.add_argument("--peer", help="a Python that has cleanlab[image]")
    parser.add_argument("--peer-folders", type=int, default=20)
    parser.add_argument(
        "--background", type=Path, metavar="FOLDER", help="photographs in a folder of classes"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.background:
        add_backgrounds(args.background, args.output)
        return
    started = time.perf_counter()
    alarms = [found for seed in range(args.folders) if (found := check_noise(seed))]
    print(f"{len(alarms)} false alarms in {args.folders} folders of noise: {alarms}", flush=True)
    kinds = {kind: [check_kind(kind, seed) for seed in range(args.seeds)] for kind in KINDS}
    for kind, found in kinds.items():
        print(f"{kind:22}{sum(one['found'] for one in found)} of {len(found)}", flush=True)
    seconds = time.perf_counter() - started
    report = {
        "command": "python benchmarks/check_shortcuts.py",
        "settings": {"folders": args.folders, "seeds": args.seeds, "peer_folders": args.peer_folders},
        "machine": describe_machine(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("classifold", "scikit-learn", "numpy")
        }
        | (ask_versions(args.peer, ("cleanlab",)) if args.peer else {}),
        "false_alarms": alarms,
        "kinds": {kind: sum(one["found"] for one in found) for kind, found in kinds.items()},
        "other_names": {
            kind: sorted({n for one in found for n in one["others"]}) for kind, found in kinds.items()
        },
        "seconds": round(seconds, 1),
    }
    args.output.parent.mkdir(exist_ok=True)
    if args.peer:
        report["cleanlab"] = check_peer(args.peer, args.peer_folders)
        print(json.dumps(report["cleanlab"], indent=1))
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def make_photo(class_name: str, generator: Any) -> Photo:
    """Return what could be measured of a photograph; nothing of it depends on the class."""
    size = SIZES[generator.integers(len(SIZES))]
    camera = CAMERAS[generator.integers(len(CAMERAS))]
    light = generator.normal(120, 30)
    name = NAMES[generator.integers(2)].format(generator.integers(10**4))
    return Photo(
        key=f"{class_name}/{name}.jpg",
        class_name=class_name,
        set_name="",
        path="",
        size=size,
        num_bytes=int(size[0] * size[1] * generator.lognormal(-1, 0.4)),
        format="jpeg" if generator.random() < 0.95 else "webp",
        mode="RGB",
        jpeg_quality=int(generator.choice((75, 85, 92, 95))),
        camera=camera,
        taken=None if not camera else float(generator.uniform(50, 54) * YEAR),
        mean=np.clip(light + generator.normal(0, 12, 3), 0, 255).astype(np.float32),
        border=np.clip(light + generator.normal(0, 25, 3), 0, 255).astype(np.float32),
        contrast=float(generator.uniform(30, 80)),
        sharpness=float(generator.lognormal(4, 0.7)),
    )


def make_folder(generator: Any, *, count: int, num_classes: int, largest: float) -> list[Photo]:
    shares = np.append(largest, np.full(num_classes - 1, (1 - largest) / (num_classes - 1)))
    labels = generator.choice(num_classes, count, p=shares)
    return [make_photo(f"class{label}", generator) for label in labels]


def make_noise(seed: int) -> list[Photo]:
    generator = np.random.default_rng([seed, 7])
    count = int(np.exp(generator.uniform(np.log(60), np.log(1500))))
    num_classes, largest = int(generator.choice((2, 3, 5, 10))), generator.uniform(0.5, 0.95)
    return make_folder(generator, count=count, num_classes=num_classes, largest=largest)


def check_noise(seed: int) -> list[str]:
    return [
        f"{one.name} (folder {seed}, p {one.p:.2g})" for one in find_shortcuts(make_noise(seed), seed=seed)
    ]


def make_kind(kind: str, seed: int) -> list[Photo]:
    """Return a folder in which one class has the shortcut: 2 or 4 classes, the largest with half or 80 %."""
    generator = np.random.default_rng([seed, 11, list(KINDS).index(kind)])
    change, largest = KINDS[kind][0], (0.5, 0.8)[seed % 2]
    photos = make_folder(generator, count=300, num_classes=(2, 4)[seed // 2 % 2], largest=largest)
    if kind == "one after another":  # all are numbered in one way
        photos = [_named(one, f"IMG_{generator.integers(10000):04d}") for one in photos]
    likely = [0.95 if photo.class_name == "class1" else 0.05 for photo in photos]
    return [
        change(photo, generator) if generator.random() < share else photo
        for photo, share in zip(photos, likely, strict=True)
    ]


def check_kind(kind: str, seed: int) -> dict[str, Any]:
    names = {one.name for one in find_shortcuts(make_kind(kind, seed), seed=seed)}
    right = set(KINDS[kind][1])
    return {"found": bool(names & right), "others": sorted(names - right)}


def add_backgrounds(folder: Path, output: Path) -> None:
    """Add to the results what is reported of photographs with and without a frame that tells the class."""
    report = json.loads(output.read_text(encoding="utf-8"))
    report["background"] = check_backgrounds(folder)
    print(json.dumps(report["background"], indent=1))
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def check_backgrounds(folder: Path, *, most: int = 40) -> dict[str, Any]:
    """Return what is reported of photographs as they are, with a telling frame, and with one that is not.

    Args:
        folder: A folder of classes.
        most: Pictures of each class that are taken.
    """
    seen: Counter[str] = Counter()
    pictures = []
    for picture in scan_folder(folder).pictures:
        seen[picture.class_name] += 1
        if seen[picture.class_name] <= most:
            pictures.append(picture)
    network, classes, found = Network(Config()), sorted(seen), {}
    for kind in ("as they are", "frame of its class", "any frame"):
        generator = np.random.default_rng(5)
        with tempfile.TemporaryDirectory() as scratch:
            changed = []
            for number, picture in enumerate(pictures):
                place = classes.index(picture.class_name)
                colours = {"frame of its class": place, "any frame": int(generator.integers(len(classes)))}
                path = Path(scratch) / f"{number}.jpg"
                frame(picture.path, colours.get(kind), generator).save(path, quality=95)
                changed.append(replace(picture, path=path))
            whole, behind = (
                compute_features(changed, network, is_blanked=blanked).rows for blanked in (False, True)
            )
        photos = [replace(make_photo(one.class_name, generator), key=one.key) for one in pictures]
        shortcut = judge_background(photos, whole, behind)
        found[kind] = None if shortcut is None else shortcut.model_dump(mode="json")
    return {"folder": folder.name, "pictures": len(pictures), **found}


def frame(path: Path, colour: int | None, generator: Any) -> Image.Image:
    """Return a photograph of 256 pixels, with a frame of noise in one of some colours; None: no frame."""
    image = Image.open(path).convert("RGB").resize((256, 256))
    if colour is None:
        return image
    tint = np.random.default_rng(colour).integers(40, 216, 3)
    noise = np.clip(generator.normal(0, 25, (366, 366, 3)) + tint, 0, 255).astype(np.uint8)
    framed = Image.fromarray(noise)
    framed.paste(image, (55, 55))
    return framed


def check_peer(python: str, num_folders: int) -> dict[str, Any]:
    """Return what cleanlab reports on folders of noise and on the kinds that show in pixels."""
    noise = [ask_peer(python, make_noise(seed)) for seed in range(num_folders)]
    kinds = {
        kind: set(ask_peer(python, make_kind(kind, 1))) & set(wanted) for kind, wanted in PEER_KINDS.items()
    }
    return {
        "noise_folders": num_folders,
        "noise_folders_with_an_alarm": sum(1 for one in noise if one),
        "noise_alarms": noise,
        "kinds_found": {kind: sorted(found) for kind, found in kinds.items()},
    }


def ask_peer(python: str, photos: list[Photo]) -> list[str]:
    """Return the properties that cleanlab calls correlated with the class."""
    with tempfile.TemporaryDirectory() as scratch:
        generator = np.random.default_rng(0)
        for number, photo in enumerate(photos[:400]):
            folder = Path(scratch) / "pictures" / photo.class_name
            folder.mkdir(parents=True, exist_ok=True)
            draw(photo, generator).save(folder / f"{number}.png")
        done = subprocess.run(
            [python, str(PEER), f"{scratch}/pictures"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"cleanlab ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return list(json.loads(done.stdout.splitlines()[-1]))


def draw(photo: Photo, generator: Any) -> Image.Image:
    """Return a picture of a sixteenth of the size with the photo's colours, contrast and sharpness."""
    width, height = (max(8, side // 16) for side in photo.size)
    texture = generator.normal(0, photo.contrast, (height // 4 + 1, width // 4 + 1, 1))
    texture = texture.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    pixels = np.clip(photo.mean + texture, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if photo.sharpness < 10:
        image = image.filter(ImageFilter.GaussianBlur(4))
    return image.convert("L") if photo.mode == "grey" else image


if __name__ == "__main__":
    main()
