"""Trains a model for each folder and seed, and keeps what its head sees of pictures, for other benchmarks.

    python benchmarks/trained.py FOLDER [FOLDER ...] --work DIR [--seeds 5]

For each folder and seed, DIR/FOLDER-SEED receives a split, a run of `classifold train` with the defaults, and

    kept.npz   features and logits of the three sets, and of all pictures of the other folders
    hard.npz   the same of noise, blank pictures, text, drawn flowers, and the evaluation pictures as cartoons

What is there already is not made again. A run takes one to two minutes on two cores, the features another.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SETS = ("training", "validation", "evaluation")
NUM_HARD = 40


@dataclass(frozen=True)
class Trained:
    """A model, and what its head sees.

    Attributes:
        folder: Name of the folder of pictures.
        seed: Of the split and the training.
        kept: The content of kept.npz.
        hard: The content of hard.npz, features (N, F) and logits (N, C) by kind.
    """

    folder: str
    seed: int
    kept: dict[str, Any]
    hard: dict[str, Any]

    @property
    def others(self) -> list[str]:
        """The names of the other folders."""
        return sorted(name[6:-9] for name in self.kept if name.startswith("other_") and "_features" in name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    # How this file calls itself, so that a model's memory is returned: the folder of one model.
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keep:
        keep(args.keep, args.folders)
        return
    for one in gather(args.folders, args.work, args.seeds):
        sizes = ", ".join(f"{name} {len(one.kept[f'{name}_labels'])}" for name in SETS)
        print(f"{one.folder} {one.seed}: {sizes}", flush=True)


def parse_options(description: str | None, results: Path) -> argparse.Namespace:
    """Return the options of a benchmark of these models: folders, work, seeds and output."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, help="where models are trained, or were")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=results)
    return parser.parse_args()


def gather(folders: Sequence[Path], work: Path, seeds: int) -> Iterator[Trained]:
    """Give each model of the folders and seeds, which is trained where DIR does not have it."""
    for seed in range(seeds):
        for folder in folders:
            place = work / f"{folder.name}-{seed}"
            place.mkdir(parents=True, exist_ok=True)
            if not find_run(place):
                train(folder, place, seed)
            if not all((place / name).exists() for name in ("kept.npz", "hard.npz")):
                command = [sys.executable, __file__, *map(str, folders), "--work", str(work)]
                subprocess.run([*command, "--keep", str(place)], check=True, stdout=subprocess.DEVNULL)
            kept, hard = (dict(np.load(place / name)) for name in ("kept.npz", "hard.npz"))
            yield Trained(folder.name, seed, kept, hard)


def find_run(place: Path) -> Path | None:
    return next(iter(sorted((place / "runs").glob("*/model.keras"))), None)


def train(folder: Path, place: Path, seed: int) -> None:
    settings = {
        "DATA_LOCAL_DIR": folder.resolve(),
        "SPLIT_LOCAL_DIR": (place / "split").resolve(),
        "RUNS_DIR": (place / "runs").resolve(),
        "SPLIT_SEED": seed,
        "RANDOM_SEED": seed,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    for command in ("split", "train"):
        subprocess.run([sys.executable, "-m", "classifold", command, *words], check=True, stdout=2)


def keep(place: Path, folders: Sequence[Path]) -> None:
    """Write kept.npz and hard.npz of the model in a folder, as far as they are missing."""
    run = find_run(place)
    if run is None:
        raise SystemExit(f"{place} has no run")
    ask = open_model(run)
    if not (place / "kept.npz").exists():
        np.savez(place / "kept.npz", **keep_pictures(ask, place, folders))
    if not (place / "hard.npz").exists():
        arrays = {}
        for kind, contents in make_hard(place / "split" / "evaluation", place.parent / "drawn").items():
            arrays[f"{kind}_features"], arrays[f"{kind}_logits"] = ask(contents)
        np.savez(place / "hard.npz", **arrays)


def open_model(path: Path) -> Any:
    """Return a function from files' contents to features and logits."""
    from classifold.pictures.decode import load_picture
    from classifold.training.backend import start_keras

    keras = start_keras("tensorflow", seed=0)
    model = keras.models.load_model(path, compile=False)
    layers = [layer.name for layer in model.layers]
    seen = model.get_layer("features" if "features" in layers else "pooling").output
    both = keras.Model(model.inputs[0], [seen, model.get_layer("logits").output])
    size, temperature = model.inputs[0].shape[1], find_temperature(path.parent)

    def ask(contents: Sequence[bytes]) -> tuple[Any, Any]:
        given = []
        for start in range(0, len(contents), 32):
            batch = [load_picture(one, size=size, max_pixels=10**8) for one in contents[start : start + 32]]
            features, logits = both.predict_on_batch(np.stack(batch).astype(np.float32))
            given.append((features, temperature * logits))
        return tuple(np.concatenate(parts) for parts in zip(*given, strict=True))  # type: ignore[return-value]

    return ask


def find_temperature(run: Path) -> float:
    """Return what the logits of a run were divided by: the benchmarks want those before calibration."""
    calibration = json.loads((run / "metrics.json").read_text(encoding="utf-8")).get("calibration")
    if calibration is None:  # a run of an earlier release
        return 1.0
    if calibration["temperature"] is None:
        raise SystemExit(f"{run}: calibrated per class, so its logits before calibration are not known")
    return float(calibration["temperature"])


def keep_pictures(ask: Any, place: Path, folders: Sequence[Path]) -> dict[str, Any]:
    from classifold.dataset.scan import load_sets

    sets = load_sets(place / "split")
    arrays: dict[str, Any] = {"class_names": np.array(sets.class_names)}
    for name, pictures in sets.pictures.items():
        contents = [picture.read_bytes(max_pixels=10**8) for picture in pictures]
        arrays[f"{name}_features"], arrays[f"{name}_logits"] = ask(contents)
        arrays[f"{name}_labels"] = np.array([sets.class_names.index(one.class_name) for one in pictures])
    for folder in folders:
        if f"{folder.name}-" not in f"{place.name}-":
            paths = sorted(path for path in folder.glob("*/*") if path.is_file())
            found = ask([path.read_bytes() for path in paths])
            arrays[f"other_{folder.name}_features"], arrays[f"other_{folder.name}_logits"] = found
    return arrays


def make_hard(evaluation: Path, drawn: Path) -> dict[str, list[bytes]]:
    """Return pictures that are hard to judge, by kind, the same every time.

    Args:
        evaluation: The evaluation set, whose pictures become cartoons.
        drawn: Folder of drawn flowers, which is made where it is missing.
    """
    generator = np.random.default_rng(0)
    paths = sorted(path for path in evaluation.glob("*/*") if path.is_file())
    picked = [paths[place] for place in generator.permutation(len(paths))[:NUM_HARD]]
    if not drawn.exists():
        words = ("example", str(drawn), "--pictures-per-class", str(NUM_HARD // 5))
        subprocess.run([sys.executable, "-m", "classifold", *words], check=True, capture_output=True)
    return {
        "noise": [draw_noise(generator, place) for place in range(NUM_HARD)],
        "blank": [draw_blank(generator, place) for place in range(NUM_HARD)],
        "text": [draw_text(generator) for _ in range(NUM_HARD)],
        "drawn flowers": [path.read_bytes() for path in sorted(drawn.glob("*/*"))],
        "cartoons": [draw_cartoon(path) for path in picked],
    }


def draw_noise(generator: Any, place: int) -> bytes:
    """Return noise of one of four grains."""
    from PIL import Image

    side = (256, 128, 32, 8)[place % 4]
    pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
    return to_png(Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC))


def draw_blank(generator: Any, place: int) -> bytes:
    """Return black, white, one colour, or a soft change from one colour to another."""
    from PIL import Image

    ends = generator.integers(0, 256, (2, 3))
    if place < 2:
        ends[:] = 255 * place
    elif place % 2:
        ends[1] = ends[0]
    share = np.linspace(0, 1, 256)[:, None, None]
    pixels = np.broadcast_to(ends[0] * (1 - share) + ends[1] * share, (256, 256, 3))
    return to_png(Image.fromarray(pixels.astype(np.uint8)))


def draw_text(generator: Any) -> bytes:
    """Return a page of words, dark on light."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (400, 400), tuple(generator.integers(220, 256, 3).tolist()))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(int(generator.integers(10, 28)))
    letters = np.array(list("abcdefghiklmnoprstuvwz"))
    for top in range(10, 380, int(font.size * 1.5)):  # type: ignore[union-attr]
        words = ["".join(generator.choice(letters, generator.integers(2, 9))) for _ in range(12)]
        pen.text((12, top), " ".join(words), fill=(20, 20, 30), font=font)
    return to_png(page)


def draw_cartoon(path: Path) -> bytes:
    """Return a photograph as a cartoon: smoothed, in eight colours, with black lines at the edges."""
    from PIL import Image, ImageFilter, ImageOps

    with Image.open(path) as photograph:
        smooth = ImageOps.exif_transpose(photograph).convert("RGB").resize((300, 300))
    for _ in range(3):
        smooth = smooth.filter(ImageFilter.MedianFilter(5))
    lines = ImageOps.invert(smooth.convert("L").filter(ImageFilter.FIND_EDGES)).point(
        lambda value: 255 if value > 225 else 0
    )
    flat = smooth.quantize(8).convert("RGB")
    return to_png(Image.composite(flat, Image.new("RGB", flat.size), lines))


def to_png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
