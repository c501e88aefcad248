"""The user's own files that go into the training image, and their paths there."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.errors import BackboneError, Fault
from classifold.settings.backbone_names import LITE0
from classifold.settings.config import Config

# Folder in the image; container/Dockerfile has the same path.
PROJECT_DIR = Path("/opt/classifold/project")
# Keras looks here for published weights when its own folder cannot be written.
_KERAS_FALLBACK = Path("/tmp/.keras")  # noqa: S108 - Keras's choice
_PUBLISHED = (None, "imagenet")
# Names in keras.applications begin with a capital letter, KerasHub's presets with a small one.
_APPLICATION_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True)
class BakedFile:
    """A file of the user that goes into the image.

    Attributes:
        setting: The setting that names it.
        source: Path of the file on this machine.
        name: File name below PROJECT_DIR in the image.
        value: The setting's value inside the image.
    """

    setting: str
    source: Path
    name: str
    value: str


def list_baked(config: Config) -> list[BakedFile]:
    """Return the user's own files that training needs, without checking that they exist."""
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
    """Return the settings that have another value inside the image: paths of files that are copied there."""
    return {one.setting: one.value for one in list_baked(config)}


def find_application(config: Config) -> str:
    """Return the backbone of keras.applications whose published weights go into the image, as NAME:SIZE.

    Returns:
        Empty where none are needed: the backbone's weights come with a package, the backbone is the user's
        own function, or it starts from other weights.

    Raises:
        BackboneError: The backbone is a preset of KerasHub, whose files cannot be put into the image.
    """
    name = config.BACKBONE
    if name == LITE0 or ".py:" in name:
        return ""
    if not _APPLICATION_NAME.fullmatch(name):
        what = "the files of a KerasHub preset cannot be put into the image"
        hint = "use a backbone of keras.applications, or a function of your own (docs/settings.md)"
        raise BackboneError(Fault("setting BACKBONE", what, hint=hint, got=repr(name)))
    return f"{name}:{config.IMAGE_SIZE}" if config.BACKBONE_WEIGHTS == "imagenet" else ""


def find_keras_home() -> Path:
    """Return the folder in which Keras keeps downloaded weights."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def open_keras_home() -> None:
    """Let Keras find the image's weights where it may not write beside them (another user, read-only disk).

    Keras then looks in /tmp/.keras instead of KERAS_HOME. Source: keras.utils.get_file.
    """
    home = os.environ.get("KERAS_HOME")
    if home and Path(home).is_dir() and not os.access(home, os.W_OK) and not _KERAS_FALLBACK.exists():
        # Another process may have made the link meanwhile.
        with contextlib.suppress(OSError):
            _KERAS_FALLBACK.symlink_to(home, target_is_directory=True)
