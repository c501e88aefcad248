"""Reads and writes records such as split.json line by line, so that memory does not grow with them.

A record is one JSON object. Its first line holds the head; lists with one entry per line follow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

RECORD_FORMAT = 1
# Limit of a line in characters: a head names every shard, an entry one picture.
_LINE_LIMIT = 2**28


def write_record(path: Path, head: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> None:
    """Write a record.

    Args:
        path: Path of the file.
        head: Values that describe the whole split or the shards; may have its own `format`.
        lists: Lists of entries about pictures, by name; written entry by entry.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"format": RECORD_FORMAT, **head}, ensure_ascii=False)[:-1])
        for name, entries in lists.items():
            file.write(f",\n{json.dumps(name)}: [")
            comma = ""
            for entry in entries:
                file.write(f"{comma}\n{json.dumps(entry, ensure_ascii=False)}")
                comma = ","
            file.write("\n]")
        file.write("}\n")


def read_record_head(path: Path) -> dict[str, Any] | None:
    """Return the head of a split.json, or None if the file is missing or in another format."""
    head = read_any_head(path)
    return head if head is not None and head.get("format") == RECORD_FORMAT else None


def read_any_head(path: Path) -> dict[str, Any] | None:
    """Return the head of a record of any format, or None if the file is missing."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(_LINE_LIMIT)
            head = json.loads(line.rstrip().rstrip(",") + "}") if line.count("{") else None
    except (OSError, ValueError, RecursionError):
        return None
    return head if isinstance(head, dict) else None


def read_record_list(path: Path, name: str) -> Iterator[Any]:
    """Yield the entries of one list of a record.

    Raises:
        ValueError: The file is damaged.
    """
    with path.open(encoding="utf-8") as file:
        lines = iter(lambda: file.readline(_LINE_LIMIT), "")
        for line in lines:
            if line.startswith(f"{json.dumps(name)}: ["):
                break
        for line in lines:
            if line.startswith("]"):
                return
            yield json.loads(line.rstrip().rstrip(","))
    raise ValueError(f"{path} ends in the middle")


class UnorderedHash:
    """A hash of texts that does not depend on their order; memory stays flat."""

    def __init__(self) -> None:
        self._total = 0

    def add(self, text: bytes) -> None:
        """Add a text."""
        self._total += int.from_bytes(hashlib.sha256(text).digest())

    def format(self) -> str:
        """Return the hash in hexadecimal."""
        return f"{self._total % 2**256:064x}"


def listing_hash(rows: Iterable[tuple[str, int]]) -> str:
    """Return a hash of files' (key, size in bytes) that does not depend on their order; memory stays flat."""
    found = UnorderedHash()
    for key, size in rows:
        found.add(f"{key}\0{size}".encode())
    return found.format()
