"""The record of `classifold image` on this machine: digests of base images and of pushed images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import write_whole
from classifold.aws.image_base import Base
from classifold.errors import disk_errors

RECORD = "image.json"
# More than a repository keeps.
_KEPT_PUSHES = 100


@dataclass(frozen=True)
class ImageRecord:
    """The record; empty if nothing was recorded yet.

    Attributes:
        bases: Digest of each base image at the last build, by the base's name.
        pushed: Digest of each image that was pushed from this machine, by `<registry>/<repository>:<tag>`,
            the latest one last.
    """

    bases: Mapping[str, str] = field(default_factory=dict)
    pushed: Mapping[str, str] = field(default_factory=dict)


def read_record() -> ImageRecord:
    """Return the record of the project in the current folder; empty if it is missing or cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(_path().read_text(encoding="utf-8"))
        if isinstance(said, dict):
            return ImageRecord(_texts(said.get("bases")), _texts(said.get("pushed")))
    return ImageRecord()


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


def record_bases(bases: Sequence[Base]) -> None:
    """Record the digests of the bases.

    Raises:
        DiskError: The disk is full, or the project's folder cannot be written.
    """
    record = read_record()
    held = {**record.bases, **{base.name: base.digest for base in bases}}
    if held != record.bases:
        _write(ImageRecord(held, record.pushed))


def record_push(uri_by_tag: str, digest: str) -> None:
    """Record an image that is in the repository, as the latest one.

    Raises:
        DiskError: The disk is full, or the project's folder cannot be written.
    """
    record = read_record()
    others = {uri: known for uri, known in record.pushed.items() if uri != uri_by_tag}
    pushed = dict([*others.items(), (uri_by_tag, digest)][-_KEPT_PUSHES:])
    _write(ImageRecord(record.bases, pushed))


def _path() -> Path:
    return Path(names.STATE_DIR) / RECORD


def _write(record: ImageRecord) -> None:
    path = _path()
    with disk_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
    with write_whole(path) as partial:
        said = {"bases": dict(record.bases), "pushed": dict(record.pushed)}
        partial.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
