"""The plain files of a run folder: what was asked, what came out, and on what machine."""

from __future__ import annotations

import importlib.metadata
import json
import pickle
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import classifold
from classifold import names
from classifold.machine import count_cores, peak_memory_mb
from classifold.model_card import CARD_FORMAT, ModelCard
from classifold.settings.config import Config
from classifold.training.evaluate import Answers, build_confusion_matrix, build_text_report

_PACKAGES = (
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "tf-keras",
    "onnx",
    "onnxruntime",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "scikit-learn",
)


def build_card(config: Config, class_names: Sequence[str], run_name: str) -> str:
    """Return the model card, the content of classes.json: all that is needed to use the model, as JSON."""
    card = ModelCard(
        format=CARD_FORMAT,
        class_names=tuple(class_names),
        image_size=config.IMAGE_SIZE,
        max_pixels=config.MAX_PIXELS,
        sample_bits=config.SAMPLE_BITS,
        backbone=config.BACKBONE,
        run=run_name,
        classifold=classifold.__version__,
    )
    return card.to_json()


def write_json(value: Any, path: Path) -> None:
    """Write JSON as this project does: readable, UTF-8, no NaN."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_pickles(run_dir: Path, answers: Answers, config: Config) -> None:
    """Write the template's four pickles: plain types and one ndarray, read where only NumPy is installed."""
    contents = {
        names.CLASSES_PICKLE: {name: index for index, name in enumerate(answers.class_names)},
        names.REPORT_PICKLE: build_text_report(answers),
        names.CONFUSION_PICKLE: build_confusion_matrix(answers),
        names.CONFIG_PICKLE: config.model_dump(mode="json"),
    }
    for name, content in contents.items():
        # Protocol 4 loads in every Python since 3.4.
        (run_dir / name).write_bytes(pickle.dumps(content, protocol=4))


def build_environment(
    *,
    backend: str,
    started: str,
    seconds: Mapping[str, float],
    data: Mapping[str, Any],
    verification: Mapping[str, float],
    backbone: Mapping[str, str | None] | None = None,
    num_hosts: int = 1,
) -> dict[str, Any]:
    """Return the content of environment.json.

    Args:
        backend: Keras's engine.
        started: ISO 8601.
        seconds: Seconds of every phase of the run.
        data: Folder, fingerprint and counts.
        verification: Largest difference of every format of the model.
        backbone: Name, weights and their licence.
        num_hosts: That trained together.
    """
    return {
        "format": 1,
        "classifold": classifold.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": count_cores(),
        "packages": find_versions(),
        "backend": backend,
        "backbone": dict(backbone or {}),
        "num_hosts": num_hosts,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": started,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "data": dict(data),
        "verification": dict(verification),
    }


def find_versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on, of those that are installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
