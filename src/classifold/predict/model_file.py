"""Finds the model of a run, and says what is wrong with a path that leads to none."""

from __future__ import annotations

import difflib
from pathlib import Path

from classifold import names
from classifold.errors import Fault, RunError
from classifold.predict.archives import is_archive, open_archive
from classifold.predict.exported import explain_export

RUN_HINT = "give a run folder that `classifold train` made, the model.onnx inside it, or its model.tar.gz"


def find_model(run: Path) -> Path:
    """Return the path of the model of a run.

    Args:
        run: A run folder, its model.onnx, or its model.tar.gz, of which the model is unpacked.

    Raises:
        RunError: It is none of these; the hint says what may be meant.
    """
    if run.exists() and (fault := explain_export(run)):
        raise RunError(fault)
    if run.is_dir():
        if (run / names.MODEL_ONNX).is_file():
            return run / names.MODEL_ONNX
        raise RunError(_no_model(run))
    if not run.exists():
        raise RunError(Fault(str(run), "no such run folder or model", _near_runs(run) or RUN_HINT))
    if is_archive(run) and run.is_file():
        return open_archive(run) / names.MODEL_ONNX
    # Opening a pipe could block forever.
    if run.suffix.lower() != Path(names.MODEL_ONNX).suffix or not run.is_file():
        raise RunError(Fault(str(run), "expected a run folder or model.onnx, got another file", RUN_HINT))
    return run


def _no_model(folder: Path) -> Fault:
    """Return the fault for a folder without a model, which is often the folder of all runs."""
    runs = sorted(path.parent for path in folder.glob(f"*/{names.MODEL_ONNX}"))
    if runs:
        newest = max(runs, key=lambda path: (path.stat().st_mtime, path.name))
        what = f"this folder holds {len(runs)} run{'s' if len(runs) > 1 else ''}, and is not a run itself"
        return Fault(str(folder), what, f"name one of them; the newest is {newest}")
    if folder.name.endswith(names.INTERRUPTED_ENDING):
        what = (
            f"this run was interrupted: its best model so far is here as {names.MODEL_KERAS}, no other format"
        )
        hint = f"finish it: classifold train --resume; or start from it: classifold train --from {folder}"
        return Fault(str(folder), what, hint)
    return Fault(str(folder), f"no {names.MODEL_ONNX} in this folder", RUN_HINT)


def _near_runs(run: Path) -> str:
    """Return a hint with the run beside it whose name is most similar, "" if none is."""
    beside = {path.parent.name: path.parent for path in run.parent.glob(f"*/{names.MODEL_ONNX}")}
    near = difflib.get_close_matches(run.name, beside, n=1, cutoff=0.6)
    return f"did you mean {beside[near[0]]}?" if near else ""
