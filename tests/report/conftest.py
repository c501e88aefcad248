"""A believable run folder, its figures computed from made answers, and drawn pictures to go with it."""

from __future__ import annotations

import colorsys
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from classifold.dataset.record import write_record
from made_card import model_card

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


@dataclass(frozen=True)
class MadeRun:
    """Where the run folder and the evaluation pictures are, and the answers they were made from."""

    run_dir: Path
    data_dir: Path
    class_names: tuple[str, ...]
    true: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    keys: list[str]


def make_answers(
    num_classes: int, per_class: int, *, seed: int, skill: float
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    true = np.repeat(np.arange(num_classes), per_class)
    logits = random.normal(size=(len(true), num_classes)) * 1.3
    logits[np.arange(len(true)), true] += skill
    logits[np.arange(len(true)), (true + 1) % num_classes] += skill / 4
    powers = np.exp(logits)
    return true, powers / powers.sum(axis=1, keepdims=True)


def make_metrics(class_names: Sequence[str], true: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    count, predicted = len(class_names), probabilities.argmax(axis=1)
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (true, predicted), 1)
    right = predicted == true
    support, named, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    recall, precision = hits / np.maximum(support, 1), hits / np.maximum(named, 1)
    f1 = 2 * hits / np.maximum(support + named, 1)
    confidence = probabilities.max(axis=1)

    def score(value: float, spread: float) -> dict[str, float]:
        return {
            "value": float(value),
            "low": float(max(0, value - spread)),
            "high": float(min(1, value + spread)),
        }

    accuracy = right.mean()
    spread = 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(true))
    top = (np.argsort(-probabilities, axis=1)[:, :3] == true[:, None]).any(axis=1).mean()
    loss = float(-np.log(probabilities[np.arange(len(true)), true]).mean())
    bins = np.minimum((confidence * 10).astype(int), 9)
    return {
        "format": 1,
        "set": "evaluation",
        "num_pictures": len(true),
        "unreadable": [{"path": f"{class_names[0]}/cut short.jpg", "reason": "the file ends too early"}],
        "class_names": list(class_names),
        "top_k": 3,
        "scores": {
            "accuracy": score(accuracy, spread),
            "balanced_accuracy": score(recall.mean(), spread),
            "macro_f1": score(f1.mean(), spread),
            "log_loss": {"value": loss, "low": loss - 0.08, "high": loss + 0.09},
            "top_k_accuracy": score(top, spread / 2),
            "calibration_error": score(abs(confidence.mean() - accuracy), 0.02),
        },
        "per_class": [
            {
                "class_name": name,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
                "recall_low": float(max(0, recall[i] - 0.15)),
                "recall_high": float(min(1, recall[i] + 0.12)),
            }
            for i, name in enumerate(class_names)
        ],
        "confusion_matrix": matrix.tolist(),
        "reliability": [
            {
                "low": i / 10,
                "high": (i + 1) / 10,
                "count": int((bins == i).sum()),
                "confidence": float(confidence[bins == i].mean()) if (bins == i).any() else None,
                "accuracy": float(right[bins == i].mean()) if (bins == i).any() else None,
            }
            for i in range(10)
        ],
    }


def make_trust(metrics: dict[str, Any], true: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """What format 2 has beyond format 1: calibration, answers and unseen classes."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    near = np.arange(len(true)) % 20 != 7  # the distance of the others is above the limit
    # As a run does, at most 200 thresholds; the first answers everything that is near.
    steps = [0.0, *np.unique(np.round(confidence, 6))]
    steps = [steps[one] for one in np.unique(np.linspace(0, len(steps) - 1, 200).round().astype(int))]
    curve = [
        {
            "min_confidence": float(step),
            "num_answered": int((near & (confidence >= step)).sum()),
            "num_right": int((near & (confidence >= step) & right).sum()),
        }
        for step in steps
    ]
    chosen = curve[len(curve) // 6]
    answered, num_right = chosen["num_answered"], chosen["num_right"]
    share = {"value": num_right / answered, "low": 0.0, "high": 1.0} if answered else {"value": None}
    names = metrics["class_names"]
    return {
        "format": 2,
        "calibration": {
            "method": "temperature",
            "temperature": 0.71,
            "num_pictures": 75,
            "calibration_error": {"value": 0.088, "low": 0.051, "high": 0.13},
            "log_loss": {"value": 0.402, "low": 0.3, "high": 0.5},
            "reliability": metrics["reliability"],
        },
        "answers": {
            "min_confidence": chosen["min_confidence"],
            "max_distance": 1.0,
            "max_error": None,
            "num_answered": answered,
            "num_right": num_right,
            "coverage": {"value": answered / len(true), "low": 0.8, "high": 0.97},
            "accuracy": share,
            "curve": curve,
        },
        "unseen": {
            "false_refusals": 0.05,
            "auroc": {"value": 0.951, "low": 0.93, "high": 0.97},
            "refused": {"value": 0.87, "low": 0.8, "high": 0.93},
            "is_weak": len(names) < 4,
            "classes": [
                {"class_name": name, "num_pictures": 15, "auroc": 0.95, "refused": 0.8 + 0.01 * (place % 15)}
                for place, name in enumerate(names)
            ],
        },
    }


def make_history(num_head: int = 12, num_fine: int = 10, *, best: int = 18) -> list[dict[str, Any]]:
    random = np.random.default_rng(7)
    rows = []
    for epoch in range(1, num_head + num_fine + 1):
        head = epoch <= num_head
        done = 1 - np.exp(-epoch / 4) if head else 1.02 + 0.12 * (1 - np.exp(-(epoch - num_head) / 3))
        wobble = random.normal(scale=0.008)
        rows.append(
            {
                "stage": "head" if head else "fine_tune",
                "epoch": epoch,
                "loss": 1.6 - 1.05 * done,
                "accuracy": min(1, 0.2 + 0.68 * done),
                "val_loss": 1.62 - 0.95 * done + wobble,
                "val_accuracy": 0.2 + 0.62 * done - wobble,
                "learning_rate": 2e-3 if head else 1e-3 * 0.8 ** (epoch - num_head),
                "seconds": 0.4 if head else 6.1,
                "best": "true" if epoch == best else "false",
            }
        )
    return rows


def draw_flower(path: Path, *, petals: int, hue: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(240, 520, 2))
    sky = tuple(
        int(255 * c) for c in colorsys.hsv_to_rgb(random.uniform(0.25, 0.6), 0.35, random.uniform(0.4, 0.95))
    )
    picture = Image.new("RGB", (width, height), sky)
    brush = ImageDraw.Draw(picture)
    x, y, radius = (
        width * random.uniform(0.4, 0.6),
        height * random.uniform(0.4, 0.6),
        min(width, height) * 0.34,
    )
    brush.line([(x, y), (x + random.normal() * 30, height)], fill=(60, 120, 50), width=10)
    colour = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.75, random.uniform(0.75, 1)))
    for angle in np.linspace(0, 2 * np.pi, petals, endpoint=False) + random.uniform(0, 1):
        px, py, size = (
            x + np.cos(angle) * radius * 0.6,
            y + np.sin(angle) * radius * 0.6,
            radius * 2.2 / petals**0.6,
        )
        brush.ellipse([px - size, py - size, px + size, py + size], fill=colour, outline=(90, 60, 60))
    core = radius * 0.3
    brush.ellipse([x - core, y - core, x + core, y + core], fill=(110, 70, 20))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=88)


def write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, columns)
        writer.writeheader()
        writer.writerows(rows)


HISTORY_COLUMNS = tuple(make_history(1, 0)[0])


@pytest.fixture
def save_history() -> Callable[[Path, list[dict[str, Any]]], None]:
    return lambda run_dir, rows: write_rows(
        run_dir / "history.csv",
        rows,
        [*HISTORY_COLUMNS, *(["penalty"] if rows and "penalty" in rows[0] else [])],
    )


@pytest.fixture
def history_rows() -> Callable[..., list[dict[str, Any]]]:
    return make_history


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., MadeRun]:
    """Return a function that makes a run folder: `make(class_names, per_class=15, pictures=True)`.

    With `is_early`, it is of a release whose metrics.json had format 1.
    """

    def make(
        class_names: Sequence[str] = FLOWERS,
        *,
        per_class: int = 15,
        seed: int = 3,
        skill: float = 3.2,
        pictures: bool = True,
        name: str = "flowers-2026-03-14-09-26-53",
        is_early: bool = False,
    ) -> MadeRun:
        run_dir, data_dir = tmp_path / "runs" / name, tmp_path / "flowers-split"
        run_dir.mkdir(parents=True)
        (data_dir / "evaluation").mkdir(parents=True, exist_ok=True)
        true, probabilities = make_answers(len(class_names), per_class, seed=seed, skill=skill)
        predicted = probabilities.argmax(axis=1)
        keys = [f"{class_names[c]}/{i:04}_photo.jpg" for i, c in enumerate(true)]
        metrics = make_metrics(class_names, true, probabilities)
        if not is_early:
            metrics |= make_trust(metrics, true, probabilities)
            (run_dir / "classes.json").write_text(json.dumps(model_card(class_names)), encoding="utf-8")
        (run_dir / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        rows = [
            {
                "path": keys[i],
                "true_class": class_names[true[i]],
                "predicted_class": class_names[predicted[i]],
                "confidence": f"{probabilities[i].max():.6f}",
                "correct": str(bool(predicted[i] == true[i])).lower(),
                **{f"p:{c}": f"{probabilities[i, j]:.6f}" for j, c in enumerate(class_names)},
            }
            for i in range(len(true))
        ]
        write_rows(run_dir / "predictions.csv", rows, list(rows[0]))
        write_rows(run_dir / "history.csv", make_history(), HISTORY_COLUMNS)
        (run_dir / "config.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
        counts = {
            which: dict.fromkeys(class_names, share * per_class)
            for which, share in (("training", 5), ("validation", 1), ("evaluation", 1))
        }
        environment = ENVIRONMENT | {
            "data": {"dir": str(data_dir), "fingerprint": "5ad0c6b7e1f2", "counts": counts}
        }
        (run_dir / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
        write_record(data_dir / "split.json", {"fingerprint": "5ad0c6b7e1f2"}, {"pictures": []})
        if pictures:
            for i, key in enumerate(keys):
                kind = int(true[i])
                look = {"petals": 5 + 3 * (kind % 5), "hue": (0.13 + 0.17 * kind) % 1}
                draw_flower(data_dir / "evaluation" / key, **look, seed=i)
        return MadeRun(run_dir, data_dir, tuple(class_names), true, predicted, probabilities, keys)

    return make


SETTINGS: dict[str, Any] = {
    "PROJECT_NAME": "flowers-classification",
    "ALGORITHM_NAME": "efficientnet-lite0",
    "DATA_LOCAL_DIR": "pictures/flowers",
    "BACKBONE": "EfficientNetLite0",
    "IMAGE_SIZE": 224,
    "BATCH_SIZE": 16,
    "HEAD_EPOCHS": 12,
    "EPOCHS": 10,
    "LEARNING_RATE": 0.001,
    "HEAD_LAYERS": [],
    "HORIZONTAL_FLIP": True,
    "MAX_PIXELS": 100000000,
}

ENVIRONMENT: dict[str, Any] = {
    "format": 1,
    "classifold": "0.1.0",
    "python": "3.12.4",
    "platform": "Linux-6.8-x86_64",
    "cpu_count": 4,
    "packages": {"keras": "3.15.1", "numpy": "2.4.6", "tensorflow": "2.21.0"},
    "backend": "tensorflow",
    "command": ["classifold", "train", "--set", "BATCH_SIZE=16"],
    "started": "2026-03-14T09:26:53+00:00",
    "seconds": {"read": 4.2, "head": 11.8, "fine_tune": 84.6, "evaluate": 2.1, "export": 21.4},
    "peak_memory_mb": 2130.5,
    "verification": {"checkpoint": 1.2e-7, "model.onnx": 3.4e-7, "model.h5": 0.0},
}
