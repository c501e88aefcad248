"""How faithful heat maps are, and how long they take, beside those that one would use instead.

    python benchmarks/heat_maps.py RUN... [--pictures 16]

RUN is a run folder whose model has class maps; its evaluation pictures are those of the folder that it names,
as many of each class as of the others. On each picture, for the class that the model names:

    class map   ours where the head pools: the model's own sum
    masks       ours for every other model: masks, and a smooth linear fit to the answers
    RISE        the same number of masks, and more, added up by their scores (https://arxiv.org/abs/1806.07421)
    occlusion   a square of 2 x 2 cells is removed at every place of a grid of 7 x 7
    centre      the nearer to the centre, the more important, without looking at the picture
    random      the class map, flipped and shifted at random

Deletion: mean probability of the class while the most important places are removed; low is good. Insertion:
while they are shown first; high is good. Both over eleven shares of the picture. `shown` is the share of maps
that are better than each of 19 random maps, which decides whether a map is shown; for `random` it should be
at most 1 in 20. Writes benchmarks/results/heat_maps.json. Some ten seconds per picture on one core.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from classifold.inference import open_session, run_session
from classifold.model_card import ModelCard
from classifold.pictures.decode import load_picture
from classifold.predict.predictor import load_predictor
from classifold.trust import faithfulness, heat_maps
from decode import describe_machine

RESULTS = Path(__file__).parent / "results" / "heat_maps.json"
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FEW, MANY = heat_maps.NUM_MASKS, 128
PACKAGES = ("classifold", "onnxruntime", "numpy", "pillow")
Ask = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--pictures", type=int, default=16, help="of each run")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    folders = [measure_run(run, args.pictures) for run in args.runs]
    report = {
        "command": f"python benchmarks/heat_maps.py RUN... --pictures {args.pictures}",
        "settings": {
            "pictures": args.pictures,
            "masks": FEW,
            "grid": heat_maps.GRID,
            "shares": SHARES,
            "random_maps": faithfulness.NUM_RANDOM,
        },
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "folders": folders,
        "all": summarise([row for folder in folders for row in folder.pop("rows")]),
    }
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table("all folders", report["all"])


def measure_run(run: Path, count: int) -> dict[str, Any]:
    """Return what each kind of map scores on the evaluation pictures of a run."""
    model = load_predictor(run)
    if not model.card.class_maps:
        raise SystemExit(f"{run} has no class maps: train it with this release")
    record = json.loads((run / "environment.json").read_text(encoding="utf-8"))["data"]
    session = open_session(run / "model.onnx")
    rows = []
    for number, path in enumerate(pick(Path(record["dir"]) / "evaluation", count)):
        pixels = load_picture(path, size=model.image_size, max_pixels=10**8)
        rows.append(measure_picture(session, model.card, pixels, np.random.default_rng(number)))
        print(f"{number + 1:4} of {count} pictures", end="\r", flush=True)
    name = Path(record["dir"]).parent.name
    print_table(name, summarise(rows))
    return {"folder": name, "backbone": model.card.backbone, "maps": summarise(rows), "rows": rows}


def pick(folder: Path, count: int) -> list[Path]:
    """Return pictures of all classes in turn, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    classes = [sorted(path for path in one.rglob("*") if path.is_file()) for one in sorted(folder.iterdir())]
    drawn = [[paths[index] for index in rng.permutation(len(paths))] for paths in classes]
    turns = [path for row in range(max(map(len, drawn))) for paths in drawn for path in paths[row : row + 1]]
    return turns[:count]


def measure_picture(
    session: Any, card: ModelCard, pixels: np.ndarray, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return deletion, insertion and seconds of each kind of map, and whether it would be shown."""

    def ask(pictures: np.ndarray) -> np.ndarray:
        return run_session(session, pictures, output=card.output)

    index = int(ask(pixels[None])[0].argmax())

    def take_class_map() -> np.ndarray:
        maps = run_session(session, pixels[None], output=card.class_maps)[0]
        return maps[index] - maps.mean(axis=0)

    ways: dict[str, Callable[[], np.ndarray]] = {
        "class map": take_class_map,
        "masks": lambda: heat_maps.estimate_map(ask, pixels, index, rng=rng),
        f"RISE, {FEW}": lambda: add_masks(ask, pixels, index, FEW, rng),
        f"RISE, {MANY}": lambda: add_masks(ask, pixels, index, MANY, rng),
        "occlusion": lambda: occlude(ask, pixels, index),
        "centre": centre,
        "random": lambda: faithfulness.draw_random_maps(take_class_map(), 1, rng=rng)[0],
    }
    maps, seconds = {}, {}
    for way, make in ways.items():
        started = time.process_time()
        maps[way] = np.asarray(make(), np.float32)
        seconds[way] = time.process_time() - started
    areas = faithfulness.measure_areas(ask, pixels, list(maps.values()), index, shares=SHARES)
    rows = {
        way: {"deletion": float(area[0]), "insertion": float(area[1]), "seconds": seconds[way]}
        for way, area in zip(maps, areas, strict=True)
    }
    for way in ("class map", "masks", "random"):
        found = faithfulness.measure_faithfulness(ask, pixels, maps[way], index, rng=rng)
        rows[way]["shown"] = float(found.is_better)
    return rows


def add_masks(ask: Ask, pixels: np.ndarray, index: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """RISE: the mean of the masks, weighted by the probability under each."""
    masks = (rng.random((count, heat_maps.GRID, heat_maps.GRID)) < 0.5).astype(np.float32)
    removed = faithfulness.remove_all(pixels).astype(np.float32)
    scores = []
    for start in range(0, count, 32):
        batch = [enlarge(mask, len(pixels)) for mask in masks[start : start + 32]]
        pictures = [(pixels * mask + removed * (1 - mask) + 0.5).astype(np.uint8) for mask in batch]
        scores.append(ask(np.stack(pictures))[:, index])
    return np.tensordot(np.concatenate(scores), masks, 1) / masks.sum(axis=0)


def enlarge(mask: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BILINEAR))[..., None]


def occlude(ask: Ask, pixels: np.ndarray, index: int, grid: int = 7, window: int = 2) -> np.ndarray:
    """How much the probability falls when a square is removed, as the mean over the squares of each cell."""
    removed, cell = faithfulness.remove_all(pixels), len(pixels) / grid
    boxes = [(row, column) for row in range(grid - window + 1) for column in range(grid - window + 1)]
    pictures = [pixels.copy() for _ in boxes]
    for picture, (row, column) in zip(pictures, boxes, strict=True):
        place = tuple(slice(round(at * cell), round((at + window) * cell)) for at in (row, column))
        picture[place] = removed[place]
    falls = ask(pixels[None])[0, index] - ask(np.stack(pictures))[:, index]
    total, number = np.zeros((grid, grid)), np.zeros((grid, grid))
    for fall, (row, column) in zip(falls, boxes, strict=True):
        total[row : row + window, column : column + window] += fall
        number[row : row + window, column : column + window] += 1
    return total / number


def centre() -> np.ndarray:
    row, column = np.mgrid[-1:1:14j, -1:1:14j]
    return -(row**2 + column**2)


def summarise(rows: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the means over the pictures, and the standard error of insertion minus deletion."""
    found: dict[str, dict[str, float]] = {}
    for way in rows[0]:
        each = {key: np.array([row[way][key] for row in rows]) for key in rows[0][way]}
        gain = each["insertion"] - each["deletion"]
        found[way] = {
            **{key: round(float(values.mean()), 4) for key, values in each.items()},
            "insertion_minus_deletion": round(float(gain.mean()), 4),
            "standard_error": round(float(gain.std(ddof=1) / len(gain) ** 0.5), 4),
        }
    return found


def print_table(title: str, maps: dict[str, dict[str, float]]) -> None:
    print(f"\n{title:16}  deletion  insertion  difference            CPU s  shown")
    for way, row in maps.items():
        shown = f"{100 * row['shown']:5.0f} %" if "shown" in row else ""
        print(
            f"{way:16}{row['deletion']:10.3f}{row['insertion']:11.3f}{row['insertion_minus_deletion']:12.3f}"
            f" ± {row['standard_error']:.3f}{row['seconds']:12.2f}{shown:>9}"
        )


if __name__ == "__main__":
    main()
