"""How well unlike pictures are detected, beside maximum probability, energy score and cosine similarity.

    python benchmarks/unknown.py FOLDER FOLDER [FOLDER ...] --work DIR [--seeds 5]

For each folder and seed a model is trained as benchmarks/trained.py does, or found in DIR. Each way gives a
picture a score, larger for stranger ones:

    distance             ours: to the nearest training pictures, see trust/distance.py
    maximum probability  of the model's classes, negative (Hendrycks and Gimpel 2017)
    energy               negative log of the sum of the exponentials of the logits (Liu et al. 2020)
    cosine               of the features to the nearest mean of a class, negative

AUROC is the probability that a picture of another folder has a larger score than an evaluation picture. The
limit of each way is set on the validation pictures, to refuse 5 % of such. `left out` is the estimate that
train prints: each class in turn is unknown. `hard` gives the share that is refused of noise, blank pictures,
text, drawn flowers and the own evaluation pictures as cartoons, by the distance, and by distance or
confidence as predict does. Means over models and pairs with standard errors over the models; writes
benchmarks/results/unknown.json. Seconds where DIR has everything.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classifold.trust.answering import Rule
from classifold.trust.distance import build_reference, find_limit
from classifold.trust.errors import DEFAULT_CONFIDENCE
from classifold.trust.temperature import fit_calibrator
from classifold.trust.unseen import SetFeatures, measure_auroc, measure_unseen
from decode import describe_machine
from trained import SETS, Trained, gather, parse_options

RESULTS = Path(__file__).parent / "results" / "unknown.json"
PACKAGES = ("classifold", "numpy")
FALSE_REFUSALS = 0.05
KINDS = ("noise", "blank", "text", "drawn flowers", "cartoons")
Score = Callable[[Any, Any], Any]


def main() -> None:
    args = parse_options(__doc__, RESULTS)
    models = [measure(trained) for trained in gather(args.folders, args.work, args.seeds)]
    report = {
        "command": "python benchmarks/unknown.py " + " ".join(folder.name for folder in args.folders),
        "settings": {"seeds": args.seeds, "false_refusals": FALSE_REFUSALS},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "models": len(models),
        "ways": {way: average([model["ways"][way] for model in models]) for way in models[0]["ways"]},
        "distance_minus": {
            way: average([subtract(model["ways"]["distance"], model["ways"][way]) for model in models])
            for way in models[0]["ways"]
            if way != "distance"
        },
        "left_out": {
            folder.name: average([one["left_out"] for one in models if one["folder"] == folder.name])
            for folder in args.folders
        },
        "hard": {kind: average([model["hard"][kind] for model in models]) for kind in KINDS},
        "seconds": average([model["seconds"] for model in models]),
        "rows": models,
    }
    print(json.dumps({key: value for key, value in report.items() if key != "rows"}, indent=1))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(trained: Trained) -> dict[str, Any]:
    """Return the scores of every way for one model."""
    kept, seconds = trained.kept, {}
    started = time.perf_counter()
    reference = build_reference(
        kept["training_features"],
        kept["training_labels"],
        [""] * len(kept["training_labels"]),
        kept["validation_features"],
        false_refusals=FALSE_REFUSALS,
        seed=trained.seed,
    )
    seconds["reference"] = time.perf_counter() - started
    started = time.perf_counter()
    unseen = measure_unseen(
        *(SetFeatures(kept[f"{name}_features"], kept[f"{name}_labels"]) for name in SETS),
        kept["class_names"].tolist(),
        false_refusals=FALSE_REFUSALS,
        seed=trained.seed,
    )
    seconds["left out"] = time.perf_counter() - started
    ways: dict[str, Score] = {
        "distance": lambda features, _: reference.measure(reference.embed(features)),
        "maximum probability": lambda _, logits: -soften(logits).max(axis=1),
        "energy": lambda _, logits: -np.logaddexp.reduce(logits.astype(np.float64), axis=1),
        "cosine": build_cosine(kept["training_features"], kept["training_labels"]),
    }
    assert unseen is not None
    return {
        "folder": trained.folder,
        "seed": trained.seed,
        "ways": {name: measure_way(trained, score) for name, score in ways.items()},
        "left_out": {"auroc": unseen.auroc.value, "refused": unseen.refused.value},
        "hard": measure_hard(trained, ways["distance"]),
        "seconds": seconds,
    }


def measure_way(trained: Trained, score: Score) -> dict[str, float]:
    kept = trained.kept
    validation, evaluation = (
        score(kept[f"{name}_features"], kept[f"{name}_logits"]) for name in ("validation", "evaluation")
    )
    limit = find_limit(validation, FALSE_REFUSALS)
    others = [score(kept[f"other_{name}_features"], kept[f"other_{name}_logits"]) for name in trained.others]
    return {
        "auroc": float(np.mean([measure_auroc(evaluation, other) for other in others])),
        "refused": float(np.mean([(other > limit).mean() for other in others])),
        "false_refusals": float((evaluation > limit).mean()),
    }


def measure_hard(trained: Trained, distance: Score) -> dict[str, dict[str, float]]:
    """Return the shares that are refused, by the distance and as predict does, by kind of picture."""
    kept, hard = trained.kept, trained.hard
    calibrator = fit_calibrator(kept["validation_logits"], kept["validation_labels"], seed=trained.seed)
    shares = {}
    for kind in KINDS:
        distances = distance(hard[f"{kind}_features"], hard[f"{kind}_logits"])
        confidences = soften(calibrator.calibrate(hard[f"{kind}_logits"])).max(axis=1)
        shares[kind] = {
            "by_distance": float(Rule(0, 1).find_unknown(confidences, distances).mean()),
            "unknown": float(Rule(DEFAULT_CONFIDENCE, 1).find_unknown(confidences, distances).mean()),
        }
    return shares


def build_cosine(features: Any, labels: Any) -> Score:
    means = np.stack([features[labels == place].mean(axis=0) for place in np.unique(labels)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return lambda rows, _: -(rows @ means.T / np.linalg.norm(rows, axis=1, keepdims=True)).max(axis=1)


def soften(logits: Any) -> Any:
    exact = logits.astype(np.float64)
    return np.exp(exact - np.logaddexp.reduce(exact, axis=1)[:, None])


def subtract(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: one[name] - other[name] for name in one}


def average(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return each number's mean over the models, with its standard error."""
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        found[name] = {"mean": round(float(values.mean()), 4), "error": round(float(error), 4)}
    return found


if __name__ == "__main__":
    main()
