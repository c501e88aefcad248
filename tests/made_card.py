"""The model card of a model that was made for a test, with the keys that a run writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def model_card(class_names: Iterable[str], /, **changes: Any) -> dict[str, Any]:
    card = {
        "format": 1,
        "class_names": list(class_names),
        "image_size": 16,
        "max_pixels": 1_000_000,
        "input": {"name": "pixels", "layout": "NHWC", "colour": "RGB", "range": [0, 255]},
        "resize": "squash, antialiased bilinear",
        "output": "probabilities",
        "backbone": "mean colour",
        "run": "colours-2026-01-01-00-00-00",
        "classifold": "0.1.0",
    }
    return card | changes
