"""What an unfinished run began with: its settings, pictures and versions, before anything is learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold.asking import record_asked
from classifold.atomic import write_whole
from classifold.errors import disk_errors

# Beside the checkpoints, in the folder of the run's state.
_FILE = "began.json"
_ASKED = "asked"


def save_beginning(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write down what a run begins with, for whoever resumes it before its first checkpoint.

    Args:
        folder: Of the run's state; created if missing.
        facts: As `build_facts` returns them.

    Raises:
        DiskError: If it cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_whole(folder / _FILE) as partial:
        record = {**facts, _ASKED: record_asked()}
        partial.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


def load_beginning(folder: Path) -> dict[str, Any] | None:
    """Return what a run began with; None if its folder does not say so in a readable file."""
    record = _load_record(folder)
    return None if record is None else {name: one for name, one in record.items() if name != _ASKED}


def load_asked(folder: Path) -> dict[str, Any] | None:
    """Return how a run was started, for `asking.asked_as`; None if its folder does not say so."""
    asked = (_load_record(folder) or {}).get(_ASKED)
    return asked if isinstance(asked, dict) else None


def _load_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    wanted = {"settings": dict, "versions": dict, "backend": str}
    is_whole = isinstance(record, dict) and all(
        isinstance(record.get(one), kind) for one, kind in wanted.items()
    )
    return record if is_whole else None
