"""The settings that follow from a folder of pictures that a command was given: `classifold train photos/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold.errors import Fault
from classifold.names import SHARD_INDEX, SPLIT_RECORD
from classifold.settings.config import Config

_PICTURES = ("DATA_LOCAL_DIR", "DATA_MANIFEST")


def name_folder(
    folder: Path,
    *,
    before: Mapping[str, Any],
    chosen: Mapping[str, Any],
    source: str,
    faults: list[Fault],
) -> dict[str, Any]:
    """Return the settings that make a command work on these pictures.

    Args:
        folder: A folder of pictures; a split or its shards, which are trained on as they are; or a listing,
            which is a file.
        before: The settings of the settings file, which the result overrides.
        chosen: The settings given together with FOLDER, which override the result.
        source: Where `chosen` comes from, such as "--set".
        faults: Receives a fault for each setting in `chosen` that names the pictures as well.
    """
    faults += [
        Fault(
            f"{source} {name}", f"the pictures are named already, as FOLDER: {folder}", hint="leave one out"
        )
        for name in _PICTURES
        if name in chosen
    ]
    if is_made_by_split(folder):
        return {"SPLIT_LOCAL_DIR": str(folder), **_runs_beside(folder, {**before, **chosen})}
    is_listing = folder.is_file()
    values = {
        "DATA_LOCAL_DIR": before.get("DATA_LOCAL_DIR", _default("DATA_LOCAL_DIR")),
        "DATA_MANIFEST": "",
        "DATA_MANIFEST" if is_listing else "DATA_LOCAL_DIR": str(folder),
    }
    # SPLIT_LOCAL_DIR of the settings file is for the file's own pictures: others must not replace that split.
    if not _is_same(folder, before, "DATA_MANIFEST" if is_listing else "DATA_LOCAL_DIR"):
        values["SPLIT_LOCAL_DIR"] = ""
    return {**values, **_runs_beside(folder, {**before, **chosen})}


def is_made_by_split(folder: Path) -> bool:
    """Return whether `classifold split` or `classifold shards` made a folder."""
    return (folder / SPLIT_RECORD).is_file() or (folder / SHARD_INDEX).is_file()


def _default(name: str) -> Any:
    return Config.model_fields[name].default


def _is_same(folder: Path, before: Mapping[str, Any], name: str) -> bool:
    """Return whether the settings file names this same folder."""
    named = before.get(name) or _default(name)
    return isinstance(named, str) and bool(named) and Path(named).resolve() == folder.resolve()


def _runs_beside(folder: Path, given: Mapping[str, Any]) -> dict[str, str]:
    """Return RUNS_DIR beside the pictures where the default would be inside, as in `cd photos; train .`."""
    home = folder.resolve()
    if "RUNS_DIR" in given or not Path(_default("RUNS_DIR")).resolve().is_relative_to(home):
        return {}
    return {"RUNS_DIR": f"{home}-runs"}
