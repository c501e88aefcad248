"""What is said of a spot job's interruptions: when one comes, when the job goes on, and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from classifold.aws.spot import INTERRUPTED, Interruption, add_up
from classifold.progress import format_seconds


def explain_interruption(before: Sequence[Mapping[str, Any]]) -> str:
    """Return what it means that a machine was taken back now.

    Args:
        before: The job's transitions until then.
    """
    since = [step["Status"] for step in before]
    if INTERRUPTED in since:
        since = since[len(since) - since[::-1].index(INTERRUPTED) :]
    how = "goes on from its last checkpoint" if "Training" in since else "has lost nothing and starts again"
    return f"AWS took the spot machine back. The job {how}, by itself, on the next one; waiting costs nothing"


def describe_return(one: Interruption) -> str:
    """Return how a job went on after an interruption of which all is known."""
    waited = _say_waiting(one)
    if one.step not in ("Training", "Uploading"):
        return f"the job goes on, nothing was lost; {waited}"
    lost = f"{format_seconds(one.lost_seconds or 0.0)} of training lost"
    if one.checkpoint is None:
        return f"the job began anew, without a checkpoint: {lost}; {waited}"
    return f"the job goes on from its checkpoint of {format_clock(one.checkpoint)}: {lost}; {waited}"


def describe_interruption(one: Interruption) -> str:
    """Return an interruption that is over, or is not: when it came, and how it went on."""
    came = f"{one.came.astimezone():%Y-%m-%d %H:%M:%S}, {one.step or 'at once'}"
    if one.is_settled:
        return f"{came}: {describe_return(one)}"
    if one.has_gone_on:
        return f"{came}: the job goes on, what it lost is not known; {_say_waiting(one)}"
    return f"{came}: {_say_waiting(one)}"


def summarise_interruptions(
    found: Sequence[Interruption], *, unknown: str = "what it lost is not known"
) -> str:
    """Return what all of a job's interruptions cost together; empty where there were none.

    Args:
        found: The interruptions.
        unknown: What is said where nothing is known of what was lost.
    """
    if not found:
        return ""
    times = "once" if len(found) == 1 else f"{len(found)} times"
    return f"interrupted {times}: {_sum_up_loss(found) or unknown}; {_sum_up_waiting(found)}"


def _sum_up_loss(found: Sequence[Interruption]) -> str:
    """Return what was lost together, or at least; empty where that is not known."""
    lost = add_up(one.lost_seconds for one in found)
    if lost is not None:
        return f"{format_seconds(lost)} of training lost" if lost else "nothing lost"
    known = add_up(one.lost_seconds for one in found if one.lost_seconds is not None)
    return f"at least {format_seconds(known)} of training lost" if known else ""


def _sum_up_waiting(found: Sequence[Interruption]) -> str:
    waited = add_up(one.waited_seconds for one in found if one.waited_seconds is not None)
    if found[-1].waited_seconds is None:
        return "waiting for a machine" + (f", {format_seconds(waited)} before" if waited else "")
    return f"{format_seconds(waited or 0.0)} waited for a machine"


def _say_waiting(one: Interruption) -> str:
    if one.waited_seconds is None:
        return "waiting for a machine"
    return f"{format_seconds(one.waited_seconds)} waited for a machine"


def format_clock(when: datetime) -> str:
    """Return the time of day here."""
    return when.astimezone().strftime("%H:%M:%S")
