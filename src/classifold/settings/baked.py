"""What of the user's own travels inside the training image, and where it stands there."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.errors import BackboneError, Fault
from classifold.settings.backbone_names import LITE0 as LITE0
from classifold.settings.config import Config

# In the image; container/Dockerfile has the same.
PROJECT_DIR = Path("/opt/classifold/project")
# Where Keras looks for published weights when its own folder cannot be written.
_KERAS_FALLBACK = Path("/tmp/.keras")  # noqa: S108 - Keras's choice
_PUBLISHED = (None, "imagenet")
# Names in keras.applications begin with a capital letter, KerasHub's presets with a small one.
_APPLICATION_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True)
class BakedFile:
    """A file of the user's that goes into the image.

    Attributes:
        setting: The setting that names it.
        source: Where it is on this machine.
        name: Below PROJECT_DIR in the image.
        value: What the setting is in the image.
    """

    setting: str
    source: Path
    name: str
    value: str


def list_baked(config: Config) -> list[BakedFile]:
    """Return the user's own files that training needs; whether they are there is not looked at."""
    found = []
    if ".py:" in config.BACKBONE:
        file, _, function = config.BACKBONE.rpartition(":")
        name = Path(file).name
        found.append(BakedFile("BACKBONE", Path(file), name, f"{PROJECT_DIR / name}:{function}"))
    if config.BACKBONE_WEIGHTS not in _PUBLISHED:
        source = Path(str(config.BACKBONE_WEIGHTS))
        name = "weights.h5" if source.suffix == ".h5" else "weights.keras"
        source = source / names.MODEL_KERAS if source.is_dir() else source
        found.append(BakedFile("BACKBONE_WEIGHTS", source, name, str(PROJECT_DIR / name)))
    return found


def locate_baked(config: Config) -> dict[str, str]:
    """Return the settings that have another value inside the image: the places of the files baked into it."""
    return {one.setting: one.value for one in list_baked(config)}


def find_application(config: Config) -> str:
    """Return the backbone of keras.applications whose published weights go into the image, as NAME:SIZE.

    Returns:
        Empty where none do: the backbone brings its own, is the user's, or starts from other weights.

    Raises:
        BackboneError: The backbone is a preset of KerasHub, whose files the image cannot take.
    """
    name = config.BACKBONE
    if name == LITE0 or ".py:" in name:
        return ""
    if not _APPLICATION_NAME.fullmatch(name):
        what = "the image cannot take the files of a KerasHub preset"
        hint = "take a backbone of keras.applications, or a function of your own (docs/settings.md)"
        raise BackboneError(Fault("setting BACKBONE", what, hint=hint, got=repr(name)))
    return f"{name}:{config.IMAGE_SIZE}" if config.BACKBONE_WEIGHTS == "imagenet" else ""


def find_keras_home() -> Path:
    """Return where Keras keeps the published weights that it downloads."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def open_keras_home() -> None:
    """Let Keras find the weights in the image where it may not write beside them: any user, read-only disk.

    Keras then looks in /tmp/.keras instead of KERAS_HOME. Source: keras.utils.get_file.
    """
    home = os.environ.get("KERAS_HOME")
    if home and Path(home).is_dir() and not os.access(home, os.W_OK) and not _KERAS_FALLBACK.exists():
        # Another process may have been quicker.
        with contextlib.suppress(OSError):
            _KERAS_FALLBACK.symlink_to(home, target_is_directory=True)
