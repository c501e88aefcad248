"""split.json: what went where and why; written and read line by line, so that memory does not grow with it.

It is one JSON object. Its first line holds the head; below come lists with one entry a line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD_FORMAT = 1


def read_record_head(path: Path) -> dict[str, Any] | None:
    """Return the head of a split.json, None where there is none or it is not ours."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline()
        head = json.loads(line.rstrip().rstrip(",") + "}")
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) and head.get("format") == RECORD_FORMAT else None
