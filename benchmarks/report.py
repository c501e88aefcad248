"""How large report.html is, how long it takes to write and to open, and that it stays below 10 MB.

    python benchmarks/report.py [--classes 2 10 100] [--pictures 5000] [--accuracy 0.7] [--rounds 3]

Makes textured JPEGs of 500x375 as benchmarks/decode.py does, and for each number of classes a run whose
evaluation set are hard links to them: made answers, the given share of them right, the mistakes spread over
all other classes, the nearer ones more often. There is no model.onnx, so heat maps are not in the time. Side
by side, each round:

    ours    classifold report RUN: its pictures are those of the worst cells of the confusion matrix
    plain   a page with every mistake as a thumbnail of the same size, as a script would print it

Both are opened in headless Chromium through playwright, ours until a cell of the matrix shows its pictures.
Medians over the rounds; writes benchmarks/results/report.json. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from classifold.dataset.walk import Picture
from classifold.report.page import write_report
from classifold.report.thumbnails import read_thumbnail
from decode import describe_machine, list_files, make_set

RESULTS = Path(__file__).parent / "results" / "report.json"
PACKAGES = ("classifold", "playwright", "jinja2", "pillow")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu"]
NUM_FILES, SIDE = 200, 176


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 10, 100])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--accuracy", type=float, default=0.7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        files = list_files(make_set(Path(scratch) / "middle", NUM_FILES, None))
        for classes in args.classes:
            folder = Path(scratch) / f"{classes} classes"
            rows = make_run(folder, files, classes, args.pictures, args.accuracy)
            rounds = [measure(folder, rows) for _ in range(args.rounds)]
            measured[folder.name] = {
                name: round(statistics.median(one[name] for one in rounds), 2) for name in rounds[0]
            }
            print(folder.name, json.dumps(measured[folder.name]), flush=True)
    report = {
        "command": "python benchmarks/report.py",
        "settings": {"pictures": args.pictures, "accuracy": args.accuracy, "rounds": args.rounds},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "pages": measured,
    }
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def make_run(
    folder: Path, files: list[Path], classes: int, pictures: int, accuracy: float
) -> list[dict[str, Any]]:
    """Write a run folder, `run`, and its evaluation pictures; return the rows of predictions.csv."""
    random = np.random.default_rng(classes)
    names = [f"class {place:03}" for place in range(classes)]
    true = np.arange(pictures) % classes
    # Neighbours in the list of classes are confused more often than distant ones.
    steps = np.minimum(random.geometric(min(0.5, 20 / classes), pictures), classes - 1)
    named = np.where(random.random(pictures) < accuracy, true, (true + steps) % classes)
    shares = random.dirichlet(np.full(classes, 0.3), pictures)
    shares[np.arange(pictures), named] += 1
    shares /= shares.sum(axis=1, keepdims=True)
    rows = []
    for place in range(pictures):
        key = f"{names[true[place]]}/{place:06}.jpg"
        path = folder / "evaluation" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[place % len(files)], path)
        row = {"path": key, "true_class": names[true[place]], "predicted_class": names[named[place]]}
        row |= {
            "confidence": f"{shares[place].max():.6f}",
            "correct": str(true[place] == named[place]).lower(),
        }
        rows.append(
            row | {f"p:{one}": f"{share:.6f}" for one, share in zip(names, shares[place], strict=True)}
        )
    run_dir = folder / "run"
    run_dir.mkdir()
    with (run_dir / "predictions.csv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    metrics = build_metrics(names, true, named, shares.max(axis=1))
    head = "stage,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds,best\n"
    environment = {"format": 1, "data": {"dir": str(folder)}}
    for name, text in (
        ("metrics.json", json.dumps(metrics)),
        ("history.csv", head + "head,1,1,0.5,1,0.5,0.001,1,true\n"),
        ("config.json", "{}"),
        ("environment.json", json.dumps(environment)),
    ):
        (run_dir / name).write_text(text, encoding="utf-8")
    return rows


def build_metrics(
    names: list[str], true: np.ndarray, named: np.ndarray, confidence: np.ndarray
) -> dict[str, Any]:
    """Return metrics.json with the parts whose size grows with the classes and the pictures."""
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (true, named), 1)
    right = true == named
    recall = np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1)
    precision = np.diag(matrix) / np.maximum(matrix.sum(axis=0), 1)
    curve = [
        {
            "min_confidence": float(limit),
            "num_answered": int((confidence >= limit).sum()),
            "num_right": int((right & (confidence >= limit)).sum()),
        }
        for limit in np.linspace(0, confidence.max(), 200)
    ]
    return {
        "format": 2,
        "num_pictures": len(true),
        "class_names": names,
        "top_k": 3,
        "scores": {"accuracy": {"value": float(right.mean())}},
        "per_class": [
            {
                "class_name": name,
                "precision": float(precision[place]),
                "recall": float(recall[place]),
                "f1": float((precision[place] + recall[place]) / 2),
                "support": int(matrix[place].sum()),
            }
            for place, name in enumerate(names)
        ],
        "confusion_matrix": matrix.tolist(),
        "answers": {
            "min_confidence": 0.0,
            "max_distance": 1.0,
            "num_answered": len(true),
            "num_right": int(right.sum()),
            "coverage": {"value": 1.0},
            "accuracy": {"value": float(right.mean())},
            "curve": curve,
        },
    }


def measure(folder: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return sizes in MB and seconds of both pages."""
    (folder / "run" / "report.html").unlink(missing_ok=True)
    start = time.perf_counter()
    ours = write_report(folder / "run", data_dir=folder)
    written = time.perf_counter() - start
    start = time.perf_counter()
    plain = write_plain(folder, rows)
    plainly = time.perf_counter() - start
    return {
        "ours_mb": ours.stat().st_size / 1e6,
        "ours_write_s": written,
        "ours_open_s": open_page(ours, choose_cell=True),
        "plain_mb": plain.stat().st_size / 1e6,
        "plain_write_s": plainly,
        "plain_open_s": open_page(plain, choose_cell=False),
    }


def write_plain(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a page with every mistake as a thumbnail."""
    parts = ["<!doctype html><title>Mistakes</title>"]
    for row in rows:
        if row["correct"] == "false":
            path = folder / "evaluation" / row["path"]
            image = read_thumbnail(Picture(path, "", row["path"]), side=SIDE, max_pixels=10**8)
            parts.append(f'<figure><img src="{image}" alt=""><figcaption>{row["path"]}</figcaption></figure>')
    page = folder / "plain.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def open_page(page: Path, *, choose_cell: bool) -> float:
    """Return the seconds until a page has been loaded, and one of its cells has shown its pictures."""
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        shown = browser.new_page()
        start = time.perf_counter()
        shown.goto(page.as_uri())
        if choose_cell:
            shown.locator(".pairs a").first.click()
            shown.locator(".cell:target img").first.evaluate("image => image.decode()")
        seconds = time.perf_counter() - start
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
