"""Made photographs with detail of every size, and folders of them in which something is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

# Tag of EXIF: when the photograph was taken.
_TAKEN = 36867


def draw_scene(number: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture with the spectrum of a photograph, which no other number gives."""
    noise = np.random.default_rng(number)
    total = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24, 48, 96):
        coarse = noise.normal(size=(cells, cells, 3)) * 120 / cells**0.7
        layers = [
            np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC))
            for layer in coarse.astype(np.float32).transpose(2, 0, 1)
        ]
        total += np.stack(layers, axis=-1)
    return Image.fromarray(np.clip(128 + total, 8, 247).astype(np.uint8))


def draw_moved_scene(number: int) -> Image.Image:
    """The scene of this number a moment later: something in it moved."""
    moved = draw_scene(number)
    moved.paste(draw_scene(1000 + number).resize((100, 80)), (120, 90))
    return moved


def save_taken(image: Image.Image, path: Path, *, second: int) -> None:
    """Save a picture as a JPEG that a camera took at that second of one minute."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[_TAKEN] = f"2026:01:01 10:00:{second:02}"
    image.save(path, quality=92, exif=exif)


def save_scenes(folder: Path, *, first: int, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        draw_scene(number).save(folder / f"{number}.jpg", quality=92)


def draw_classes(folder: Path, *, count: int = 6) -> Path:
    """Two classes of scenes: cat has those from 100 on, dog those from 200 on."""
    save_scenes(folder / "cat", first=100, count=count)
    save_scenes(folder / "dog", first=200, count=count)
    return folder


def plant_problems(folder: Path) -> Path:
    """Add to `draw_classes` a picture of each kind that spoils something, each named by what it is."""
    cat, dog = folder / "cat", folder / "dog"
    shutil.copy(cat / "100.jpg", cat / "exact.jpg")
    ImageOps.mirror(Image.open(cat / "101.jpg")).save(cat / "near.jpg", quality=90)
    shutil.copy(cat / "102.jpg", dog / "conflict.jpg")
    (dog / "broken.jpg").write_bytes((dog / "200.jpg").read_bytes()[:3000])
    Image.open(dog / "201.jpg").filter(ImageFilter.GaussianBlur(8)).save(dog / "blurred.jpg", quality=92)
    save_taken(draw_scene(300), dog / "burst a.jpg", second=1)
    save_taken(draw_moved_scene(300), dog / "burst b.jpg", second=3)
    return folder


def draw_own_sets(folder: Path, *, count: int = 4) -> Path:
    """Three sets of the user's own with leaks: evaluation has a mirrored copy and a frame of a burst."""
    for number, name in enumerate(("training", "validation", "evaluation")):
        save_scenes(folder / name / "cat", first=100 + 10 * number, count=count)
        save_scenes(folder / name / "dog", first=200 + 10 * number, count=count)
    training, evaluation = folder / "training", folder / "evaluation"
    source = Image.open(training / "cat" / "100.jpg")
    ImageOps.mirror(source).save(evaluation / "cat" / "leak.jpg", quality=90)
    shutil.copy(training / "dog" / "200.jpg", folder / "validation" / "dog" / "equal.jpg")
    save_taken(draw_scene(300), training / "dog" / "burst.jpg", second=1)
    save_taken(draw_moved_scene(300), evaluation / "dog" / "burst.jpg", second=3)
    return folder
