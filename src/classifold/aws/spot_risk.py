"""The cost of a spot interruption, as far as it can be estimated before a job starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from classifold.aws.clients import Aws
from classifold.aws.preflight_findings import Finding
from classifold.settings.config import JOB_SETTINGS
from classifold.settings.loader import read_hyperparameters
from classifold.step_line import format_seconds


def explain_risk(request: Mapping[str, Any]) -> str:
    """Return what an interruption costs; empty if the job is not a spot job or keeps no checkpoints.

    Args:
        request: CreateTrainingJob's parameters.
    """
    minutes = _find_checkpoint_minutes(request)
    if not request.get("EnableManagedSpotTraining") or not minutes:
        return ""
    often = format_seconds(60 * minutes)
    return (
        f"an interruption loses the training since the last checkpoint: one is saved every {often} "
        "(CHECKPOINT_MINUTES), or less often if that would take more than 1 % of the time"
    )


def check_risk(_: Aws, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a note if a spot job saves checkpoints only at the end of a stage."""
    if request.get("EnableManagedSpotTraining") and not _find_checkpoint_minutes(request):
        what = (
            "with 0 a checkpoint is saved at the end of a stage only: an interruption loses all training of "
            "the stage, unless AWS gives two minutes' notice, in which the state is saved"
        )
        hint = "remove CHECKPOINT_MINUTES: checkpoints then take about 1 % of the time"
        yield Finding("setting CHECKPOINT_MINUTES", what, hint=hint, is_fatal=False)


def _find_checkpoint_minutes(request: Mapping[str, Any]) -> float:
    given = request.get("HyperParameters") or {}
    known = {name: text for name, text in given.items() if name in JOB_SETTINGS}
    return read_hyperparameters(known, fixed={}).CHECKPOINT_MINUTES
