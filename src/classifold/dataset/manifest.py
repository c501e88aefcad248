"""Reads and writes the manifests of a split of a listing: one file per set, one line per picture.

Each line is a JSON object, as in SageMaker's augmented manifests: `source-ref` (s3://bucket/key or a file's
path), `class`, `key` (`<class>/<file>` in the set), `size` in bytes or null, and `identity`, 32 bytes in
hexadecimal that are equal for equal content. The lines are in the order of packing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from classifold.errors import DataError, Fault
from classifold.names import SETS, set_manifest


class ManifestLine(NamedTuple):
    """A picture of a set; the fields are those of a manifest's line."""

    source: str
    class_name: str
    key: str
    size: int | None
    identity: str


def holds_manifests(folder: Path) -> bool:
    """Return whether a folder is a split of a listing."""
    return all((folder / set_manifest(name)).is_file() for name in SETS)


def check_key(key: str) -> None:
    """Refuse a key that is not `<class>/<file>`, or leads out of its folder.

    Raises:
        ValueError: The key is refused.
    """
    parts = key.split("/")
    if len(parts) < 2 or not {"", ".", ".."}.isdisjoint(parts) or "\0" in key:
        raise ValueError(f"a key that is not <class>/<file>: {key!r:.200}")
    key.encode()  # refuses half a surrogate pair, which cannot be printed


def write_manifest(path: Path, lines: Iterable[ManifestLine]) -> None:
    """Write the manifest of one set, line by line."""
    # A file name that is not UTF-8 has lone surrogates in Python; json.loads reads them back.
    with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
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
    """Return a line of a manifest, checked.

    Raises:
        DataError: The line is not one that `write_manifest` writes.
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
