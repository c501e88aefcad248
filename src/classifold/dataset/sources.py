"""Describes what a split was made from: a later run can tell whether that changed, and opens no picture."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from classifold import __version__
from classifold.dataset.class_layout import read_layout
from classifold.dataset.record import UnorderedHash
from classifold.dataset.walk import check_folder, iter_pictures
from classifold.settings.config import Config

# Key in the head of split.json.
MADE_FROM = "made_from"
# Settings that decide which picture belongs to which set.
_SETTINGS = (
    *("PERCENTAGE_VAL", "PERCENTAGE_EVAL", "SPLIT_SEED", "SPLIT_GROUP_PATTERN", "NEAR_COPIES"),
    *("CLASS_FOLDER", "SMALL_CLASSES", "UNREADABLE_PICTURES", "MAX_PIXELS", "SAMPLE_BITS"),
    *("MANIFEST_ROOT", "MANIFEST_CLASS"),
)


class Source(NamedTuple):
    """A picture's file as the walk finds it; the key begins with the set in the user's own split, if any."""

    key: str
    path: str


class SourceHash(UnorderedHash):
    """A hash of pictures' (key, size in bytes, time of change), which does not depend on their order."""

    def add_source(self, source: Source) -> None:
        """Add a picture; a file that has vanished in the meantime counts as empty."""
        try:
            status = os.stat(source.path)  # noqa: PTH116 - a Path per file is slow
            size, mtime_ns = status.st_size, status.st_mtime_ns
        except OSError:
            size = mtime_ns = 0
        self.add(f"{source.key}\0{size}\0{mtime_ns}".encode())


def describe_sources(config: Config) -> dict[str, Any]:
    """Return what a split of these pictures or this listing is made from, for the head of split.json.

    The order of a listing's lines makes no difference, as it makes none to the split; the pictures in it are
    not looked at.

    Raises:
        DataError: The folder is missing, cannot be read, or is not one of classes.
    """
    if config.DATA_MANIFEST:
        return describe_hashed(config, _hash_listing(Path(config.DATA_MANIFEST)))
    pictures = SourceHash()
    for source in _iter_sources(config):
        pictures.add_source(source)
    return describe_hashed(config, pictures)


def describe_hashed(config: Config, pictures: UnorderedHash) -> dict[str, Any]:
    """Return what a split is made from, for pictures or lines whose hash is known."""
    settings = {name: getattr(config, name) for name in _SETTINGS}
    # Another version of Classifold may read more pictures.
    return {"pictures": pictures.format(), "classifold": __version__, **settings}


def hash_sources(made_from: Mapping[str, Any]) -> str:
    """Return a hash of what a split is made from: equal for the same pictures under the same settings."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()


def _hash_listing(listing: Path) -> UnorderedHash:
    lines = UnorderedHash()
    with listing.open("rb") as file:
        # A binary file may have no lines: it is hashed in pieces of 1 MB.
        for line in iter(lambda: file.readline(1 << 20), b""):
            lines.add(line.rstrip(b"\r\n"))
    return lines


def _iter_sources(config: Config) -> Iterator[Source]:
    """Yield every picture of the data folder, in any order."""
    data_dir = Path(config.DATA_LOCAL_DIR)
    check_folder(data_dir)
    own = read_layout(data_dir, class_folder=config.CLASS_FOLDER)
    for set_name, folder in {"": data_dir}.items() if own is None else own.items():
        for picture in iter_pictures(folder, ordered=False):
            yield Source(f"{set_name}/{picture.key}", os.fspath(picture.path))
