"""How hard the made example is: raw pixels fail where transfer learning succeeds.

    python benchmarks/example.py [--pictures 100] [--seed 0] [--keep DIR]

Draws the flowers, then scores five-fold cross-validation twice: of classifiers on raw 32x32x3 pixels
(logistic regression, random forest, nearest neighbours), and of a logistic regression on the frozen
features of EfficientNet-Lite0 at 224 pixels. Writes benchmarks/results/example.json.
About three minutes on two cores; most of it is the features. Needs the `train` extra.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.example.make import PICTURES_PER_CLASS, draw_example

RESULTS = Path(__file__).parent / "results" / "example.json"
PACKAGES = ("classifold", "keras", "numpy", "pillow", "scikit-learn", "tensorflow")
RAW_SIZE, FEATURE_SIZE, FOLDS, BATCH = 32, 224, 5, 32


def main() -> None:
    args = _parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch) / "flowers"
        start = time.perf_counter()
        count = draw_example(folder, seed=args.seed, pictures_per_class=args.pictures)
        seconds = {"draw": time.perf_counter() - start}
        paths = sorted(folder.glob("*/*.jpg"))
        labels = np.array([path.parent.name for path in paths])
        start = time.perf_counter()
        scores = score_raw_pixels(paths, labels)
        seconds["raw pixels"] = time.perf_counter() - start
        start = time.perf_counter()
        scores["EfficientNet-Lite0 features, logistic regression"] = score_features(paths, labels)
        seconds["features"] = time.perf_counter() - start
        size = sum(path.stat().st_size for path in paths)
    means = {name: round(float(np.mean(folds)), 4) for name, folds in scores.items()}
    report = {
        "command": " ".join(["python", *sys.argv]),
        "pictures": count,
        "seed": args.seed,
        "megabytes": round(size / 1e6, 1),
        "accuracy_five_fold": {name: folds.round(4).tolist() for name, folds in scores.items()},
        "accuracy_mean": means,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "machine": {
            "platform": platform.platform(),
            "cpus": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
        },
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    for name, mean in means.items():
        print(f"{mean:.3f}  {name}")
    print(f"{count} pictures, {report['megabytes']} MB, seconds: {report['seconds']}")


def _parse_arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--pictures", type=int, default=PICTURES_PER_CLASS, help="pictures a class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="draw into this folder and leave it there")
    return parser.parse_args()


def score_raw_pixels(paths: list[Path], labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the folds' accuracies of three classifiers that see 32x32x3 pixels."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels = np.stack([_read(path, RAW_SIZE).ravel() for path in paths]) / 255.0
    classifiers = {
        "raw pixels, logistic regression": make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, max_iter=3000)
        ),
        "raw pixels, random forest": RandomForestClassifier(300, random_state=0),
        "raw pixels, 5 nearest neighbours": KNeighborsClassifier(5),
    }
    return {name: _cross_validate(classifier, pixels, labels) for name, classifier in classifiers.items()}


def score_features(paths: list[Path], labels: NDArray[Any]) -> NDArray[Any]:
    """Return the folds' accuracies of a logistic regression on frozen features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate(list(_extract_features(paths)))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=3000))
    return _cross_validate(classifier, features, labels)


def _extract_features(paths: list[Path]) -> Iterator[NDArray[np.float32]]:
    """Yield batches of globally averaged activations, shape (N, 1280)."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from classifold.training.lite0 import build_lite0, load_lite0_weights

    backbone = build_lite0(FEATURE_SIZE)
    load_lite0_weights(backbone)
    for start in range(0, len(paths), BATCH):
        batch = np.stack([_read(path, FEATURE_SIZE) for path in paths[start : start + BATCH]])
        yield backbone.predict(batch, verbose=0).mean(axis=(1, 2))


def _read(path: Path, size: int) -> NDArray[np.float32]:
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32)


def _cross_validate(classifier: Any, inputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    accuracies: NDArray[Any] = cross_val_score(classifier, inputs, labels, cv=folds)
    return accuracies


if __name__ == "__main__":
    main()
