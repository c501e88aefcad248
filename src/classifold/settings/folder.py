"""The settings that follow from a folder of pictures that a command was given: `classifold train photos/`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold.errors import Fault
from classifold.names import CLASSES_JSON, MODEL_ONNX, SHARD_INDEX, SPLIT_RECORD
from classifold.settings.config import Config

_PICTURES = ("DATA_LOCAL_DIR", "DATA_MANIFEST")
# A path that does not exist is taken for a listing if it ends like one.
_LISTING = re.compile(r"\.(csv|tsv|txt|json|jsonl|manifest|parquet)(\.gz)?$", re.IGNORECASE)


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
    faults += _find_wrong_place(folder)
    if is_made_by_split(folder):
        return {"SPLIT_LOCAL_DIR": str(folder), **_runs_beside(folder, {**before, **chosen})}
    is_listing = _is_listing(folder)
    values = {
        "DATA_LOCAL_DIR": before.get("DATA_LOCAL_DIR", _default("DATA_LOCAL_DIR")),
        "DATA_MANIFEST": "",
        "DATA_MANIFEST" if is_listing else "DATA_LOCAL_DIR": str(folder),
    }
    # SPLIT_LOCAL_DIR of the settings file is for the file's own pictures: others must not replace that split.
    if not _is_same(folder, before, is_listing=is_listing):
        values["SPLIT_LOCAL_DIR"] = _name_split(folder)
    return {**values, **_runs_beside(folder, {**before, **chosen})}


def is_made_by_split(folder: Path) -> bool:
    """Return whether `classifold split` or `classifold shards` made a folder."""
    # os.path: a path that is too long, holds a NUL byte, or may not be entered, is no error here.
    return any(os.path.isfile(folder / name) for name in (SPLIT_RECORD, SHARD_INDEX))  # noqa: PTH113


def _is_listing(path: Path) -> bool:
    """Return whether a path is a listing: a file, or a missing one whose name ends like a listing's."""
    return os.path.isfile(path) or bool(_LISTING.search(path.name) and not os.path.lexists(path))  # noqa: PTH113


def _find_wrong_place(folder: Path) -> list[Fault]:
    """Return a fault for a run folder, and for a folder inside a split: neither holds the user's pictures."""
    if all(os.path.isfile(folder / name) for name in (CLASSES_JSON, MODEL_ONNX)):  # noqa: PTH113
        hint = "name the folder of pictures; for new pictures: classifold predict RUN PATH..."
        what = "this is a run folder, which holds a model and no pictures"
        return [Fault(f"FOLDER {folder}", what, hint=hint)]
    outer = next((one for one in folder.absolute().parents if is_made_by_split(one)), None)
    if outer is None:
        return []
    hint = "name the folder of pictures that the split was made from, or the whole split"
    return [Fault(f"FOLDER {folder}", f"this folder is a part of the split {outer}", hint=hint)]


def _name_split(folder: Path) -> str:
    """Return SPLIT_LOCAL_DIR for a folder that is a link, empty for any other.

    Whatever name leads to a folder, it has one split, which knows its held-out pictures: the one beside the
    folder itself. A split that was already made beside the link stays in use.
    """
    beside = folder.with_name(f"{folder.name}-split") if folder.name else folder
    if not os.path.islink(folder) or os.path.exists(beside):  # noqa: PTH110, PTH114
        return ""
    return f"{os.path.realpath(folder)}-split"


def _default(name: str) -> Any:
    return Config.model_fields[name].default


def _is_same(folder: Path, before: Mapping[str, Any], *, is_listing: bool) -> bool:
    """Return whether the settings file's pictures are this same folder or listing."""
    if is_listing:
        named = before.get("DATA_MANIFEST")
    else:
        named = before.get("DATA_LOCAL_DIR", _default("DATA_LOCAL_DIR"))
        named = "" if before.get("DATA_MANIFEST") else named
    return isinstance(named, str) and bool(named) and Path(named).resolve() == folder.resolve()


def _runs_beside(folder: Path, given: Mapping[str, Any]) -> dict[str, str]:
    """Return RUNS_DIR beside the pictures where the default would be inside, as in `cd photos; train .`."""
    home = folder.resolve()
    if "RUNS_DIR" in given or not Path(_default("RUNS_DIR")).resolve().is_relative_to(home):
        return {}
    return {"RUNS_DIR": f"{home}-runs"}
