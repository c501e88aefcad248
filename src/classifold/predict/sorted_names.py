"""Names of folders and files below `predict --sort-into DIR` that every disk accepts and keeps apart."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from classifold.dataset.name_bytes import clean_name
from classifold.dataset.target_disk import fold_name, make_safe

UNSURE_DIR: Final = "_unsure"
PARTIAL_DIR: Final = ".partial"

# Not accepted somewhere, or not what it seems: separators, control characters, what Windows and its disks
# refuse, halves of characters; a dot in front (hidden), a dot or a blank at the end (removed), and `%XX`, as
# it would be taken for one of these escapes.
_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u2028\u2029\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})|\A[. ]|[. ]\Z'
)
_MOST_BYTES, _HASH_DIGITS, _SUFFIX_BYTES = 120, 12, 20


def name_folders(class_names: Sequence[str]) -> dict[str, str]:
    """Return the folder of each class; no two are one on a disk that ignores case or how accents are spelt.

    A folder is named like its class where that is possible. What some disk does not accept is written as
    `%XX`, as in an address, which `urllib.parse.unquote` turns back. A name that is too long, or differs from
    an earlier one only in case, ends in the beginning of its SHA-256.

    Args:
        class_names: In the order of the model.
    """
    folders: dict[str, str] = {}
    taken = {fold_name(UNSURE_DIR), fold_name(PARTIAL_DIR)}
    for name in class_names:
        folder = escape_name(name)
        if len(os.fsencode(folder)) > _MOST_BYTES or fold_name(folder) in taken:
            folder = _mark(folder, hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest())
        while fold_name(folder) in taken:  # a class that is named like that
            folder += "-"
        taken.add(fold_name(folder))
        folders[name] = folder
    return folders


def escape_name(name: str) -> str:
    """Return a class's name with `%XX` in place of what some disk does not accept, `_unsure` included."""
    is_device = make_safe(name) == f"_{name}"  # CON, nul.txt: folders on Windows cannot have such names
    if is_device or fold_name(name) == fold_name(UNSURE_DIR):
        return _escape(name[0]) + name[1:]
    return _UNSAFE.sub(lambda found: _escape(found[0]), name)


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _mark(name: str, digest: str) -> str:
    """Return a name that is unique by the beginning of a hash, short enough for every disk."""
    kept = _cut(name, _MOST_BYTES - _HASH_DIGITS - 1)
    return f"{make_safe(kept)}-{digest[:_HASH_DIGITS]}"


def _cut(name: str, limit: int) -> str:
    return os.fsencode(name)[:limit].decode("utf-8", "ignore")


def iter_file_names(name: str, digest: str) -> Iterator[str]:
    """Yield the names to try in turn for a picture whose own name belongs to another one, or is not accepted.

    Args:
        name: The picture's own file name.
        digest: SHA-256 of its content in hexadecimal.
    """
    path = PurePosixPath(name)
    yield f"{path.stem}-{digest[:_HASH_DIGITS]}{path.suffix}"
    safe = PurePosixPath(make_file_name(name))
    yield _mark(safe.stem, digest) + safe.suffix
    yield f"{digest}{safe.suffix if safe.suffix.isascii() else ''}"


def make_file_name(name: str, suffix: str = "") -> str:
    """Return a file name that every disk accepts, for a picture that comes from no file of this machine.

    Args:
        name: How answers call the picture: an address, an archive's member, a place in a video.
        suffix: The file's ending, such as ".png", if the name does not have it; may be empty.
    """
    last = clean_name(re.split(r"[/\\]", name.rstrip("/\\"))[-1]).lstrip(".-")
    safe = make_safe(last or "picture")
    path = PurePosixPath(safe)
    ending = _cut(path.suffix, _SUFFIX_BYTES)
    if suffix and path.suffix.lower() != suffix.lower():
        ending, path = suffix, PurePosixPath(safe + suffix)
    return make_safe(_cut(path.stem, _MOST_BYTES - len(os.fsencode(ending))) + ending)
