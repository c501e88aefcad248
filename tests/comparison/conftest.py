"""Run folders made from answers: what a comparison reads, and a file of the model's size."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

CLASSES = ("cat", "dog", "hen")
SETTINGS = {"RANDOM_SEED": 0, "EPOCHS": 10, "RUNS_DIR": "runs"}
COUNTS = {"training": {"cat": 40, "dog": 40, "hen": 40}, "evaluation": {"cat": 8, "dog": 8, "hen": 8}}
SECONDS = {"head": 20.0, "fine_tune": 40.0}


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1)}


FORMAT_2 = {
    "calibration": {
        "method": "temperature",
        "temperature": 0.8,
        "num_pictures": 24,
        "calibration_error": score(0.09),
        "log_loss": score(0.5),
    },
    "answers": {
        "min_confidence": 0.6,
        "max_distance": 1.0,
        "num_answered": 20,
        "num_right": 19,
        "coverage": score(20 / 24),
        "accuracy": score(19 / 20),
    },
    "unseen": {"false_refusals": 0.05, "auroc": score(0.9), "refused": score(0.8), "is_weak": True},
}


def build_metrics(
    rows: Sequence[tuple[str, str, str]], class_names: Sequence[str], **more: Any
) -> dict[str, Any]:
    matrix = [[sum(one[1:] == (true, said) for one in rows) for said in class_names] for true in class_names]
    right = sum(matrix[place][place] for place in range(len(class_names)))
    accuracy = right / len(rows)
    names = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
    return {
        "format": 1,
        "set": "evaluation",
        "num_pictures": len(rows),
        "class_names": list(class_names),
        "top_k": 2,
        "scores": {**{name: score(accuracy) for name in names}, "log_loss": {"value": 0.4}},
        "per_class": [
            {"class_name": name, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": sum(matrix[place])}
            for place, name in enumerate(class_names)
        ],
        "confusion_matrix": matrix,
        **more,
    }


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """write_run("first", rows, EPOCHS=3) -> a run folder; a row is (path, true class, predicted class)."""

    def write(
        name: str,
        rows: Sequence[tuple[str, str, str]],
        *,
        class_names: Sequence[str] = CLASSES,
        metrics: dict[str, Any] | None = None,
        environment: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Path:
        run_dir = tmp_path / "runs" / name
        run_dir.mkdir(parents=True)
        content = build_metrics(rows, class_names, **(metrics or {}))
        (run_dir / "metrics.json").write_text(json.dumps(content))
        (run_dir / "config.json").write_text(json.dumps({**SETTINGS, **settings}))
        facts = {
            "format": 1,
            "classifold": "0.1.0",
            "platform": "Linux",
            "cpu_count": 2,
            "seconds": SECONDS,
            "data": {"dir": "pictures", "fingerprint": "f1", "counts": COUNTS},
            "backbone": {"name": "EfficientNetLite0", "weights": "imagenet", "license": "Apache-2.0"},
            **(environment or {}),
        }
        (run_dir / "environment.json").write_text(json.dumps(facts))
        (run_dir / "history.csv").write_text("stage,epoch,loss,accuracy,val_loss,val_accuracy,best\n")
        (run_dir / "model.onnx").write_bytes(b"x" * 2_000_000)
        with (run_dir / "predictions.csv").open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines)
            columns = [f"p:{name}" for name in class_names]
            writer.writerow(["path", "true_class", "predicted_class", "confidence", "correct", *columns])
            for key, true, said in rows:
                shares = [0.8 if name == said else 0.2 / (len(class_names) - 1) for name in class_names]
                writer.writerow([key, true, said, 0.8, str(true == said).lower(), *shares])
        return run_dir

    return write


def answer(
    wrong: Sequence[int] = (), *, count: int = 24, class_names: Sequence[str] = CLASSES
) -> list[tuple[str, str, str]]:
    """Return rows of `count` pictures, the classes in turn; those at the places `wrong` are named wrongly."""
    rows = []
    for place in range(count):
        true = class_names[place % len(class_names)]
        said = class_names[(place + 1) % len(class_names)] if place in wrong else true
        rows.append((f"{true}/{place:03}.jpg", true, said))
    return rows


@pytest.fixture(name="answer")
def _answer() -> Callable[..., list[tuple[str, str, str]]]:
    """answer([0, 5]) -> rows of 24 pictures, of which those two are named wrongly."""
    return answer


@pytest.fixture
def two_runs(write_run: Callable[..., Path]) -> tuple[Path, Path]:
    """Two runs on 24 pictures: the second is better on seven and worse on three; both are wrong on one."""
    first = write_run("first", answer([0, 1, 2, 3, 4, 5, 6, 10]))
    second = write_run("second", answer([10, 11, 12, 13]), EPOCHS=20, metrics={"format": 2, **FORMAT_2})
    return first, second
