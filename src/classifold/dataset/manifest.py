"""The manifests of a split of a listing: a file a set with a line a picture, where it is and what it is.

Each line is a JSON object, as in SageMaker's augmented manifests: `source-ref` (s3://bucket/key or a file's
path), `class`, `key` (its place in the set, `<class>/<file>`), `size` in bytes or null, and `identity`, 32
bytes in hexadecimal that are the same for the same content. The lines stand in the order of packing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from classifold.errors import DataError, Fault
from classifold.names import SETS, set_manifest


class ManifestLine(NamedTuple):
    """A picture of a set; the fields are those of the line."""

    source: str
    class_name: str
    key: str
    size: int | None
    identity: str


def holds_manifests(folder: Path) -> bool:
    """Tell whether a folder is a split of a listing."""
    return all((folder / set_manifest(name)).is_file() for name in SETS)


def check_key(key: str) -> None:
    """Refuse a key that is no `<class>/<file>`, or leads out of its folder.

    Raises:
        ValueError: It is one.
    """
    parts = key.split("/")
    if len(parts) < 2 or not {"", ".", ".."}.isdisjoint(parts) or "\0" in key:
        raise ValueError(f"a key that is not <class>/<file>: {key!r:.200}")
    key.encode()  # half a surrogate pair is no name that could be printed


def write_manifest(path: Path, lines: Iterable[ManifestLine]) -> None:
    """Write the manifest of one set, line by line."""
    with path.open("w", encoding="utf-8") as file:
        for source, class_name, key, size, identity in lines:
            line = {
                "source-ref": source,
                "class": class_name,
                "key": key,
                "size": size,
                "identity": identity,
            }
            file.write(f"{json.dumps(line, ensure_ascii=False)}\n")


def iter_manifest(path: Path) -> Iterator[ManifestLine]:
    """Yield the lines of a manifest.

    Raises:
        DataError: The file is damaged.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_manifest_line(line, where=f"{path}, line {number}")


def parse_manifest_line(line: bytes, *, where: str) -> ManifestLine:
    """Return what a line says.

    Raises:
        DataError: It is no line of ours.
    """
    try:
        data = json.loads(line)
        found = ManifestLine(data["source-ref"], data["class"], data["key"], data["size"], data["identity"])
        bytes.fromhex(found.identity)
        if not all(type(text) is str for text in found[:3]) or type(found.size) not in (int, type(None)):
            raise TypeError("a value of another type")
        check_key(found.key)
        if "\0" in found.source or (found.size or 0) < 0:
            raise ValueError("an impossible source or size")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "run `classifold split` again"
        raise DataError(Fault(where, f"the manifest is damaged ({error!r:.100})", hint=hint)) from error
    return found
