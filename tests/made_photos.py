"""A folder of made photographs, settings that train on them in seconds, the place of the API's examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_runs import CLASSES, paint, tiny_settings


@dataclass(frozen=True)
class Place:
    """The folder in which the examples run.

    Attributes:
        folder: It holds photos/, photo.jpg, settings.py, runs/first, and runs/second, which is a copy of it.
        run_dir: The run, trained by `classifold.train`.
        err: What that training printed on standard error.
        failures: What its result was not as the example in `classifold.train` says; empty where it was.
    """

    folder: Path
    run_dir: Path
    err: str
    failures: str


def draw_photos(folder: Path, *, count: int = 20) -> Path:
    for class_index, class_name in enumerate(CLASSES):
        (folder / class_name).mkdir(parents=True)
        for index in range(count):
            number = 1000 * class_index + index
            paint(class_name, number).save(folder / class_name / f"{index}.png")
    return folder


def write_settings(path: Path, own_backbone: str, **changes: Any) -> Path:
    settings = {**tiny_settings(own_backbone), "IMAGE_SIZE": 224, "EPOCHS": 2, **changes}
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return path
