"""Pictures as the data check measures them, made up: nothing of them depends on the class."""

from __future__ import annotations

from typing import Any

import numpy as np

from classifold.datacheck.photo import Photo

SIZES = ((4032, 3024), (3024, 4032), (1920, 1080), (1600, 1200))
CAMERAS = ("Apple iPhone 13", "samsung SM-G991B", "Canon EOS 80D", "")


def make_photo(class_name: str, generator: np.random.Generator, **changes: Any) -> Photo:
    """Return a photo with random facts; `changes` replace some."""
    size = SIZES[generator.integers(len(SIZES))]
    camera = CAMERAS[generator.integers(len(CAMERAS))]
    light = generator.normal(120, 30)
    facts: dict[str, Any] = {
        "key": f"{class_name}/IMG_{generator.integers(10**6):06d}.jpg",
        "class_name": class_name,
        "set_name": "",
        "path": "",
        "size": size,
        "num_bytes": int(size[0] * size[1] * generator.lognormal(-1, 0.4)),
        "format": "jpeg",
        "mode": "RGB",
        "jpeg_quality": int(generator.choice((75, 85, 92, 95))),
        "camera": camera,
        "taken": float(generator.uniform(1.5e9, 1.7e9)) if camera else None,
        "mean": np.clip(light + generator.normal(0, 12, 3), 0, 255).astype(np.float32),
        "border": np.clip(light + generator.normal(0, 25, 3), 0, 255).astype(np.float32),
        "contrast": float(generator.uniform(30, 80)),
        "sharpness": float(generator.lognormal(4, 0.7)),
    }
    return Photo(**(facts | changes))


def make_photos(labels: Any, generator: np.random.Generator, **changes: Any) -> list[Photo]:
    """Return a photo of the class "class<label>" for each label."""
    return [make_photo(f"class{label}", generator, **changes) for label in labels]


def make_features(
    labels: Any, generator: np.random.Generator, *, distance: float, size: int = 40
) -> np.ndarray:
    """Return normally distributed features (N, size); each class is shifted by so many deviations."""
    features = generator.normal(size=(len(labels), size))
    features[np.arange(len(labels)), labels] += distance
    return features.astype(np.float32)
