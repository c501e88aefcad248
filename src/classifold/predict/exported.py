"""Says that a path leads to an export of a run, which this program cannot run, and what to name instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from classifold import names
from classifold.errors import Fault

# The domain of the operators of onnxruntime-extensions, as ONNX Runtime's messages name it where they are
# missing.
EXTENSIONS: Final = "com.microsoft.extensions"
_LARGEST_RECORD: Final = 1 << 20


def explain_export(path: Path) -> Fault | None:
    """Return the fault for a path that leads to an export which is no model to predict with.

    Args:
        path: A folder or a file that exists.

    Returns:
        None if it is no export, or one that predicts like a run: a model.onnx that takes pixels.
    """
    folder = path if path.is_dir() else path.parent
    record = _read_record(folder)
    if record is None:
        return _explain_many(path) if path.is_dir() else None
    model, takes = str(record.get("model")), record.get("takes")
    if takes == "bytes" and model == names.MODEL_ONNX:
        return explain_bytes(path, run=str(record.get("run", "")))
    has_model = model == names.MODEL_ONNX and path in (folder, folder / model)
    if has_model:
        return None
    inner = folder / model
    hint = f"name its run, {record['run']}" if record.get("run") else "name its run"
    if takes == "pixels" and Path(model).name == names.MODEL_ONNX and inner.is_file():
        hint = f"{hint}, or {inner}"
    what = f"this is an export to {record.get('export')}, for programs that read that format"
    return Fault(str(path), what, hint)


def explain_bytes(path: Path, *, run: str = "") -> Fault:
    """Return the fault for an ONNX model that takes encoded pictures.

    Args:
        path: The model, or the folder of the export.
        run: Name of the run that it was made from, where it is known.
    """
    what = "this model takes the bytes of a picture file, and needs the operators of onnxruntime-extensions"
    named = f"name its run, {run}" if run else "name its run"
    hint = f"{named}; or open it with ONNX Runtime and onnxruntime-extensions, see docs/export.md"
    return Fault(str(path), what, hint)


def _explain_many(folder: Path) -> Fault | None:
    """Return the fault for the folder that a run's exports are in; None where it is something else."""
    exports = sorted(one.parent for one in folder.glob(f"*/{names.EXPORT_JSON}"))
    if not exports:
        return None
    what = f"this folder holds exports of a run ({', '.join(one.name for one in exports)})"
    usable = [one for one in exports if (one / names.MODEL_ONNX).is_file() and explain_export(one) is None]
    hint = f"name the run itself, or {usable[0]}" if usable else "name the run itself"
    return Fault(str(folder), what, hint)


def _read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `classifold export` wrote about a folder; None where it is no export."""
    path = folder / names.EXPORT_JSON
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_RECORD:
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # anybody's file may have this name
        return None
    return record if isinstance(record, dict) and record.get("classifold") else None
