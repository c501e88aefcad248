"""What a spot machine that is taken back costs, as far as it is known before a job starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from classifold.aws.clients import Aws
from classifold.aws.preflight_findings import Finding
from classifold.progress import format_seconds
from classifold.settings.config import JOB_SETTINGS
from classifold.settings.loader import read_hyperparameters


def explain_risk(request: Mapping[str, Any]) -> str:
    """Return what an interruption costs; empty where a job cannot be interrupted, or saves nothing.

    Args:
        request: CreateTrainingJob's parameters.
    """
    minutes = _find_checkpoint_minutes(request)
    if not request.get("EnableManagedSpotTraining") or not minutes:
        return ""
    often = format_seconds(60 * minutes)
    return (
        f"an interruption costs the training since the last checkpoint: there is one every {often} "
        "(CHECKPOINT_MINUTES), or as seldom as takes a hundredth of the time"
    )


def check_risk(_: Aws, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a note where a spot job saves next to nothing that the next machine could go on from."""
    if request.get("EnableManagedSpotTraining") and not _find_checkpoint_minutes(request):
        what = (
            "with 0 a stage is saved at its end only: of a spot machine that is taken back, all that it "
            "trained in the stage is lost, but for what it saves in the two minutes' notice, if there is one"
        )
        hint = "leave CHECKPOINT_MINUTES out: checkpoints take a hundredth of the time"
        yield Finding("setting CHECKPOINT_MINUTES", what, hint=hint, is_fatal=False)


def _find_checkpoint_minutes(request: Mapping[str, Any]) -> float:
    given = request.get("HyperParameters") or {}
    known = {name: text for name, text in given.items() if name in JOB_SETTINGS}
    return read_hyperparameters(known, fixed={}).CHECKPOINT_MINUTES
