"""How honest probabilities are before and after calibration, and whether stated errors are kept.

    python benchmarks/calibration.py FOLDER [FOLDER ...] --work DIR [--seeds 5]

For each folder and seed a model is trained as benchmarks/trained.py does, or found in DIR. The calibration is
fitted on the validation pictures and measured on the evaluation pictures:

    log loss     mean of -ln(probability given to the true class)
    error        calibration error, mean gap between confidence and share right in 15 bins of equal width
    debiased     the same by squares without what chance alone adds (Kumar et al. 2019), 10 bins of equal
                 count; 0 where chance explains it all
    interval     95 % bootstrap interval of the difference after - before of the error

Besides each folder: its first two classes alone, and the pictures that the model is right on alone, where a
temperature could fall for ever. `stated errors` asks for 5, 10 and 15 % of wrong answers (`--error`) and
gives the share of pictures that is answered then and the share of wrong answers. As train does, it is chosen
on evaluation pictures: on one half of them, at random, and counted on the other, 100 times. Beside it: chosen
on the validation pictures, which also chose the head and the epoch, and counted on the evaluation pictures.
Writes benchmarks/results/calibration.json. Seconds where DIR has everything.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifold.trust.answering import Rule
from classifold.trust.distance import build_reference
from classifold.trust.errors import choose_answering
from classifold.trust.temperature import fit_calibrator, measure_losses
from decode import describe_machine
from trained import Trained, gather, parse_options
from unknown import soften

RESULTS = Path(__file__).parent / "results" / "calibration.json"
PACKAGES = ("classifold", "numpy")
ERRORS = (0.05, 0.1, 0.15)
NUM_SAMPLES, NUM_DIVISIONS = 1000, 100


def main() -> None:
    args = parse_options(__doc__, RESULTS)
    rows, promised = [], []
    for trained in gather(args.folders, args.work, args.seeds):
        for case, sets in list_cases(trained).items():
            rows.append({"folder": trained.folder, "seed": trained.seed, "case": case, **compare(*sets)})
        promised.append(keep_errors(trained))
    report = {
        "command": "python benchmarks/calibration.py " + " ".join(folder.name for folder in args.folders),
        "settings": {"seeds": args.seeds},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "means": {
            case: summarise([row for row in rows if row["case"] == case])
            for case in dict.fromkeys(row["case"] for row in rows)
        },
        "stated_errors": {
            way: {str(error): pool([row for one in promised for row in one[way][error]]) for error in ERRORS}
            for way in promised[0]
        },
        "rows": rows,
    }
    print(json.dumps({key: report[key] for key in ("means", "stated_errors")}, indent=1))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def list_cases(trained: Trained) -> dict[str, tuple[Any, Any]]:
    """Return logits and labels of the validation and the evaluation set, by case."""
    sets = [
        (trained.kept[f"{name}_logits"], trained.kept[f"{name}_labels"])
        for name in ("validation", "evaluation")
    ]
    two = [(logits[labels < 2, :2], labels[labels < 2]) for logits, labels in sets]
    right = []
    for logits, labels in sets:
        is_right = logits.argmax(axis=1) == labels
        right.append((logits[is_right], labels[is_right]))
    return {"all classes": (*sets,), "two classes": (*two,), "all right": (*right,)}  # type: ignore[dict-item]


def compare(validation: tuple[Any, Any], evaluation: tuple[Any, Any]) -> dict[str, Any]:
    """Return the scores on the evaluation pictures before and after."""
    calibrator = fit_calibrator(*validation, seed=0)
    logits, labels = evaluation
    calibrated = calibrator.calibrate(logits)
    before, after = (look(rows, labels) for rows in (logits, calibrated))
    generator, differences = np.random.default_rng(0), []
    for _ in range(NUM_SAMPLES):
        drawn = generator.integers(0, len(labels), len(labels))
        differences.append(find_error(*(part[drawn] for part in after)))
        differences[-1] -= find_error(*(part[drawn] for part in before))
    return {
        "method": calibrator.method,
        "temperature": calibrator.temperature,
        "pictures": len(labels),
        "changed_answers": int((logits.argmax(axis=1) != calibrated.argmax(axis=1)).sum()),
        "before": score(logits, labels),
        "after": score(calibrated, labels),
        "interval": np.round(np.percentile(differences, [2.5, 97.5]), 4).tolist(),
    }


def look(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return the confidence and whether it is right, of each picture."""
    shares = soften(logits)
    return shares.max(axis=1), (shares.argmax(axis=1) == labels).astype(float)


def score(logits: Any, labels: Any) -> dict[str, float]:
    seen = look(logits, labels)
    return {
        "log_loss": round(float(measure_losses(logits.astype(np.float64), labels).mean()), 4),
        "error": round(find_error(*seen), 4),
        "debiased": round(find_debiased(*seen), 4),
    }


def find_error(confidences: Any, right: Any) -> float:
    bins = np.minimum((confidences * 15).astype(int), 14)
    return float(np.abs(np.bincount(bins, confidences - right, 15)).sum() / len(right))


def find_debiased(confidences: Any, right: Any) -> float:
    total = 0.0
    for places in np.array_split(np.argsort(confidences, kind="stable"), 10):
        share, count = right[places].mean(), len(places)
        chance = share * (1 - share) / max(count - 1, 1)
        total += count * ((confidences[places].mean() - share) ** 2 - chance)
    return float(np.sqrt(max(total / len(right), 0)))


@dataclass(frozen=True)
class Answered:
    """What a model says of pictures: calibrated probabilities (N, C), true labels (N,) and distances (N,)."""

    shares: Any
    labels: Any
    distances: Any

    def pick(self, places: Any) -> Answered:
        return Answered(self.shares[places], self.labels[places], self.distances[places])


def keep_errors(trained: Trained) -> dict[str, dict[float, list[dict[str, int]]]]:
    """Return how many pictures are answered, and wrongly, by the error that was asked for.

    `held out`: chosen on a half of the evaluation pictures, counted on the other half. `validation`: chosen
    on the validation pictures, counted on the evaluation pictures.
    """
    validation, evaluation = ask(trained)
    generator, half = np.random.default_rng(trained.seed), len(evaluation.labels) // 2
    orders = [generator.permutation(len(evaluation.labels)) for _ in range(NUM_DIVISIONS)]
    pairs = [(evaluation.pick(order[:half]), evaluation.pick(order[half:])) for order in orders]
    return {
        "held out": {error: [count_wrong(*pair, error) for pair in pairs] for error in ERRORS},
        "validation": {error: [count_wrong(validation, evaluation, error)] for error in ERRORS},
    }


def ask(trained: Trained) -> list[Answered]:
    """Return what the model says of the validation and the evaluation pictures."""
    kept = trained.kept
    reference = build_reference(
        kept["training_features"],
        kept["training_labels"],
        [""] * len(kept["training_labels"]),
        kept["validation_features"],
        false_refusals=0.05,
        seed=trained.seed,
    )
    calibrator = fit_calibrator(kept["validation_logits"], kept["validation_labels"], seed=0)
    return [
        Answered(
            soften(calibrator.calibrate(kept[f"{name}_logits"])),
            kept[f"{name}_labels"],
            reference.measure(reference.embed(kept[f"{name}_features"])),
        )
        for name in ("validation", "evaluation")
    ]


def count_wrong(known: Answered, new: Answered, error: float) -> dict[str, int]:
    """Choose on known pictures when to answer; return how many new ones are answered, and wrongly."""
    answering = choose_answering(
        known.shares, known.labels, known.distances, max_error=error, false_refusals=0.05
    )
    rule = Rule(answering.min_confidence, answering.max_distance)
    answered = ~rule.find_unknown(new.shares.max(axis=1), new.distances)
    # A larger error than was asked for is no promise of this one: predict refuses to answer at all.
    answered &= answering.max_error == error
    wrong = answered & (new.shares.argmax(axis=1) != new.labels)
    return {"pictures": len(new.labels), "answered": int(answered.sum()), "wrong": int(wrong.sum())}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over the models, and how often something became worse."""
    changes = [row["after"]["log_loss"] - row["before"]["log_loss"] for row in rows]
    return {
        "models": len(rows),
        **{
            when: {name: round(float(np.mean([row[when][name] for row in rows])), 4) for name in row_names}
            for row_names in [rows[0]["before"]]
            for when in ("before", "after")
        },
        "log_loss_worse": sum(change > 0 for change in changes),
        "largest_change": round(max(changes), 4),
        "error_clearly_worse": sum(row["interval"][0] > 0 for row in rows),
        "error_clearly_better": sum(row["interval"][1] < 0 for row in rows),
        "methods": {name: sum(row["method"] == name for row in rows) for name in {r["method"] for r in rows}},
    }


def pool(rows: list[dict[str, int]]) -> dict[str, Any]:
    answered, wrong = sum(row["answered"] for row in rows), sum(row["wrong"] for row in rows)
    return {
        "promised": f"{sum(row['answered'] > 0 for row in rows)} of {len(rows)}",
        "answered": round(answered / sum(row["pictures"] for row in rows), 4),
        "wrong_of_answers": round(wrong / max(answered, 1), 4),
        "mean": round(float(np.mean([row["wrong"] / max(row["answered"], 1) for row in rows])), 4),
    }


if __name__ == "__main__":
    main()
