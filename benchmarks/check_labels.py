"""How well wrong labels are found and counted, beside cleanlab on the same probabilities and on its defaults.

    python benchmarks/check_labels.py FOLDER [FOLDER ...] [--seeds 5] [--peer PYTHON]

In each folder of classes 0, 2, 5 and 10 % of the labels are replaced by another class, drawn by the seed. The
ranking of all pictures by how probably their label is wrong is measured by its average precision: 1 where
every replaced label comes before all others. Labels that are wrong in the folder itself count against every
way alike. Beside it: how often the 95 % interval of the estimate holds the number that was planted, and
cleanlab's number.

PYTHON is one that has cleanlab with its Datalab (`pip install "cleanlab[datalab]"`); without it only ours
runs. Cleanlab gets the probabilities of our regression as they first are (`first`) and those that our ranking
follows from in the end (`final`), and in the rows CleanLearning and Datalab the features, as a user would
give them. Means over the seeds with standard errors; writes benchmarks/results/check_labels.json. About ten
minutes on two cores, most of them cleanlab's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from classifold.datacheck.features import Network, compute_features
from classifold.datacheck.labels import Evidence, gather_evidence
from classifold.dataset.scan import scan_folder
from classifold.settings.config import Config
from decode import ask_versions, describe_machine

RESULTS = Path(__file__).parent / "results" / "check_labels.json"
PEER = Path(__file__).parent / "peers" / "cleanlab_labels.py"
RATES = (0.0, 0.02, 0.05, 0.1)
PACKAGES = ("classifold", "scikit-learn", "numpy", "scipy")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer", help="a Python that has cleanlab[datalab]")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    network, rows = Network(Config()), []
    for folder in args.folders:
        pictures = scan_folder(folder).pictures
        found = compute_features(pictures, network)
        names = [pictures[place].class_name for place in found.places]
        truth = np.unique(names, return_inverse=True)[1]
        for rate in RATES:
            runs = [measure(found.rows, truth, rate, seed, args.peer) for seed in range(args.seeds)]
            rows.append({"folder": folder.name, "pictures": len(truth), "rate": rate, **summarise(runs)})
            print_row(rows[-1])
    report = {
        "command": "python benchmarks/check_labels.py " + " ".join(folder.name for folder in args.folders),
        "settings": {"seeds": args.seeds},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | (ask_versions(args.peer, ("cleanlab",)) if args.peer else {}),
        "mean_average_precision": average(rows),
        "intervals_that_hold": f"{sum(row['held'] for row in rows)} of {len(rows) * args.seeds}",
        "rows": rows,
    }
    print(
        json.dumps({key: report[key] for key in ("mean_average_precision", "intervals_that_hold")}, indent=1)
    )
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(features: Any, truth: Any, rate: float, seed: int, peer: str | None) -> dict[str, Any]:
    """Plant wrong labels, rank and count; return the average precision of every way, and the estimate."""
    generator = np.random.default_rng([seed, round(1000 * rate)])
    count, num_classes = len(truth), int(truth.max()) + 1
    labels, wrong = truth.copy(), np.zeros(count, bool)
    wrong[generator.permutation(count)[: round(rate * count)]] = True
    labels[wrong] = (labels[wrong] + generator.integers(1, num_classes, wrong.sum())) % num_classes
    started = time.perf_counter()
    evidence = gather_evidence(features, labels, np.arange(count), seed=seed)
    seconds, noise = time.perf_counter() - started, evidence.noise
    scores = {"ours": noise.wrong} | (ask_peer(peer, features, labels, evidence) if peer else {})
    counts = {name: int(value[0]) for name, value in scores.items() if name.startswith("count ")}
    ranked = {name: value for name, value in scores.items() if name not in counts}
    return {
        "precision": {name: rank(value, wrong) for name, value in ranked.items()} if wrong.any() else {},
        "planted": int(wrong.sum()),
        "estimate": [noise.rate * count, noise.low * count, noise.high * count],
        "peer_counts": counts,
        "certain": int((noise.wrong >= 0.5).sum()),
        "certain_right": int((wrong & (noise.wrong >= 0.5)).sum()),
        "seconds": seconds,
    }


def ask_peer(python: str, features: Any, labels: Any, evidence: Evidence) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        given, answer = Path(scratch) / "given.npz", Path(scratch) / "answer.npz"
        first, final = np.exp(evidence.regression), np.exp(evidence.noise.clean)
        np.savez(given, features=features, labels=labels, first=first, final=final)
        done = subprocess.run(
            [python, str(PEER), str(given), str(answer)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"cleanlab ended with {done.returncode}:\n{done.stderr[-2000:]}")
        with np.load(answer) as found:
            return dict(found)


def rank(scores: Any, wrong: Any) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(wrong, scores))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    estimates = np.array([run["estimate"] for run in runs])
    planted = runs[0]["planted"]
    return {
        "planted": planted,
        "average_precision": {
            name: describe([run["precision"][name] for run in runs]) for name in runs[0]["precision"]
        },
        "estimates": np.round(estimates, 1).tolist(),
        "held": int(((estimates[:, 1] <= planted) & (planted <= estimates[:, 2])).sum()),
        "peer_counts": {name: [run["peer_counts"][name] for run in runs] for name in runs[0]["peer_counts"]},
        "certain": [run["certain"] for run in runs],
        "certain_right": [run["certain_right"] for run in runs],
        "seconds": round(float(np.median([run["seconds"] for run in runs])), 2),
    }


def describe(values: list[float]) -> dict[str, float]:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "error": round(float(error), 4)}


def average(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean over folders and rates of every way."""
    planted = [row["average_precision"] for row in rows if row["planted"]]
    return {name: round(float(np.mean([row[name]["mean"] for row in planted])), 4) for name in planted[0]}


def print_row(row: dict[str, Any]) -> None:
    means = [f"{value:.0f}" for value in np.mean(row["estimates"], axis=0)]
    seeds = len(row["estimates"])
    print(
        f"\n{row['folder']}: {row['planted']} of {row['pictures']} planted, {row['seconds']} s; "
        f"estimated {means[0]} ({means[1]} to {means[2]}), {row['held']} of {seeds} hold; "
        f"cleanlab counts {row['peer_counts']}"
    )
    for name, value in row["average_precision"].items():
        print(f"  {name:34}{value['mean']:.3f} +- {value['error']:.3f}", flush=True)


if __name__ == "__main__":
    main()
