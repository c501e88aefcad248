"""A spot job's interruptions: when its machine was taken back, how much training was lost, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from classifold.step_line import format_seconds

INTERRUPTED = "Interrupted"
# Secondary statuses in which a job has a machine.
# Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training-status.html
_ON_MACHINE = ("Downloading", "Training", "Uploading")
_LEARNS = "Training"
_ENDS = ("Completed", "Failed", "Stopped")
_CHECKPOINT = re.compile(r"\(checkpoint of ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC\)")
_FIRST_EPOCH = re.compile(r"(?<!kept )\b(?:head|fine-tuning) epoch 1 of |\bhead 1/[0-9]+: regularization ")


@dataclass(frozen=True)
class Beginning:
    """Where a machine's training began, by a line of its log.

    Attributes:
        written: Time at which the line was written, by the machine's clock.
        checkpoint: Time at which the checkpoint was saved that training resumed from; None if it started
            without a checkpoint.
    """

    written: datetime
    checkpoint: datetime | None


@dataclass(frozen=True)
class Interruption:
    """A spot machine that was taken back.

    Attributes:
        came: Time at which it was taken back.
        step: SageMaker's secondary status at that time: what the job was doing.
        waited_seconds: Seconds until the job had another machine, or ended without one; None while it waits.
        has_gone_on: Whether the job had another machine afterwards.
        lost_seconds: Seconds of training that the next machine has to repeat; None if not known (yet).
        checkpoint: Time at which the checkpoint was saved that the job resumed from; None if there is none,
            or if it is not known.
    """

    came: datetime
    step: str
    waited_seconds: float | None
    has_gone_on: bool
    lost_seconds: float | None
    checkpoint: datetime | None

    @property
    def is_settled(self) -> bool:
        """Whether the job has resumed and the lost time is known."""
        return self.has_gone_on and self.lost_seconds is not None


@dataclass(frozen=True)
class _Stretch:
    """The part of a job from one interruption to the next.

    Attributes:
        steps: SageMaker's SecondaryStatusTransitions in it.
        end: Time at which its machine was taken back; in the last stretch the time at which the job ended,
            None while it is running.
    """

    steps: Sequence[Mapping[str, Any]]
    end: datetime | None

    def find_start(self, *statuses: str) -> datetime | None:
        """Return the time at which the first step of these statuses began; None if there is none."""
        return next((step["StartTime"] for step in self.steps if step["Status"] in statuses), None)

    @property
    def learned_from(self) -> datetime | None:
        """Time at which training began; None if it did not."""
        # SageMaker also reports Training while it downloads the image: the last of several steps counts.
        starts = [step["StartTime"] for step in self.steps if step["Status"] == _LEARNS]
        return starts[-1] if starts else None


def read_beginning(line: str, written: datetime) -> Beginning | None:
    """Return the start of training that a log line reports; None if it reports none.

    Args:
        line: A line of the log.
        written: Time at which it was written, with its time zone.
    """
    found = _CHECKPOINT.search(line)
    if found is not None:
        try:
            saved = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:  # not a date: a name in the data may look like one
            return None
        return Beginning(written, saved)
    return Beginning(written, None) if _FIRST_EPOCH.search(line) else None


def list_interruptions(
    job: Mapping[str, Any], beginnings: Iterable[Beginning] = ()
) -> tuple[Interruption, ...]:
    """Return a job's interruptions in the order of time.

    Args:
        job: SageMaker's description of the job.
        beginnings: When training started on each of its machines, in any order; without them the lost time
            is known for fewer interruptions.
    """
    stretches = list(_divide(job))
    begun = _find_beginnings(stretches, beginnings)
    return tuple(
        _estimate_loss(_measure_waiting(came, stretches, index), stretches[index], index, begun)
        for index, came in enumerate(stretch.end for stretch in stretches[:-1])
        if came is not None
    )


def _divide(job: Mapping[str, Any]) -> Iterator[_Stretch]:
    """Yield the stretches of a job; consecutive transitions to Interrupted count as one."""
    steps = job.get("SecondaryStatusTransitions") or []
    current: list[Mapping[str, Any]] = []
    was_interrupted = False
    for step in steps:
        is_interrupted = step["Status"] == INTERRUPTED
        if is_interrupted and not was_interrupted:
            yield _Stretch(current, step["StartTime"])
            current = []
        elif not is_interrupted:
            current.append(step)
        was_interrupted = is_interrupted
    has_ended = job.get("TrainingJobStatus") in _ENDS and bool(steps)
    yield _Stretch(current, steps[-1]["StartTime"] if has_ended else None)


def _find_beginnings(stretches: Sequence[_Stretch], beginnings: Iterable[Beginning]) -> dict[int, Beginning]:
    """Return the beginning of each stretch's training, by the stretch's index, as far as the log shows it.

    A line belongs to the stretch in which it was written. Comparing the clocks of SageMaker and the machine
    is safe: between an interruption and the next machine's first lines passes more time than they differ.
    """
    ends = [stretch.end for stretch in stretches[:-1] if stretch.end is not None]
    found: dict[int, Beginning] = {}
    for beginning in sorted(beginnings, key=lambda each: each.written):
        index = sum(end < beginning.written for end in ends)
        # Training that resumes in the first epoch logs that epoch as well.
        if index not in found or (found[index].checkpoint is None and beginning.checkpoint is not None):
            found[index] = beginning
    return found


def _measure_waiting(came: datetime, stretches: Sequence[_Stretch], index: int) -> Interruption:
    """Return the interruption that ended the stretch at `index`, without the time that it lost."""
    before, after = stretches[index], stretches[index + 1]
    # If the next machine is taken back before it does anything, the waiting for it ends there.
    until = after.find_start(*_ON_MACHINE) or after.end
    return Interruption(
        came=came,
        step=str(before.steps[-1]["Status"]) if before.steps else "",
        waited_seconds=None if until is None else _seconds_between(came, until),
        has_gone_on=any(stretch.find_start(*_ON_MACHINE) for stretch in stretches[index + 1 :]),
        lost_seconds=None,
        checkpoint=None,
    )


def _estimate_loss(
    interruption: Interruption, stretch: _Stretch, index: int, begun: Mapping[int, Beginning]
) -> Interruption:
    """Return the interruption with the seconds of training that it lost.

    Lost is what was trained after the checkpoint that the next machine resumed from, but at most what this
    machine trained: earlier interruptions count their own loss.
    """
    since = stretch.learned_from
    if since is None:
        return replace(interruption, lost_seconds=0.0)
    later = [number for number in begun if number > index]
    if not later:
        return interruption
    first = min(later)
    checkpoint = begun[first].checkpoint
    if checkpoint is None:
        return replace(interruption, lost_seconds=_seconds_between(since, interruption.came))
    if first > index + 1 and checkpoint > interruption.came:
        return interruption  # a machine in between saved it, and its own beginning is not known
    lost = _seconds_between(max(since, checkpoint), interruption.came)
    return replace(interruption, lost_seconds=lost, checkpoint=checkpoint)


def _seconds_between(earlier: datetime, later: datetime) -> float:
    """Return the seconds between the two; 0 if clocks that differ would make them negative."""
    return max(0.0, round((later - earlier).total_seconds(), 1))


def add_up(seconds: Iterable[float | None]) -> float | None:
    """Return the sum in seconds; None if one of them is not known."""
    values = list(seconds)
    return None if None in values else round(sum(value for value in values if value is not None), 1)


def explain_interruption(before: Sequence[Mapping[str, Any]]) -> str:
    """Return what an interruption means for the job.

    Args:
        before: SageMaker's SecondaryStatusTransitions before it.
    """
    since = [step["Status"] for step in before]
    if INTERRUPTED in since:
        since = since[len(since) - since[::-1].index(INTERRUPTED) :]
    how = "resumes from its last checkpoint" if "Training" in since else "has lost nothing and starts again"
    return f"AWS took the spot machine back. The job {how} on the next machine, by itself; waiting is free"


def describe_return(interruption: Interruption) -> str:
    """Return how a job resumed after a settled interruption, in words."""
    waited = _say_waiting(interruption)
    if interruption.step not in ("Training", "Uploading"):
        return f"the job continues, nothing was lost; {waited}"
    lost = f"{format_seconds(interruption.lost_seconds or 0.0)} of training lost"
    if interruption.checkpoint is None:
        return f"the job started again without a checkpoint: {lost}; {waited}"
    return f"the job resumed from its checkpoint of {format_clock(interruption.checkpoint)}: {lost}; {waited}"


def describe_interruption(interruption: Interruption) -> str:
    """Return an interruption in words: when it came, and what is known of its cost."""
    came = f"{interruption.came.astimezone():%Y-%m-%d %H:%M:%S}, {interruption.step or 'at once'}"
    if interruption.is_settled:
        return f"{came}: {describe_return(interruption)}"
    if interruption.has_gone_on:
        return f"{came}: the job continues; lost training is not known; {_say_waiting(interruption)}"
    return f"{came}: {_say_waiting(interruption)}"


def summarise_interruptions(
    interruptions: Sequence[Interruption], *, unknown: str = "lost training is not known"
) -> str:
    """Return the total cost of a job's interruptions in words; empty if there were none.

    Args:
        interruptions: All interruptions of the job.
        unknown: Text in place of the lost training if nothing is known of it.
    """
    if not interruptions:
        return ""
    times = "once" if len(interruptions) == 1 else f"{len(interruptions)} times"
    lost = _sum_up_loss(interruptions) or unknown
    return f"interrupted {times}: {lost}; {_sum_up_waiting(interruptions)}"


def _sum_up_loss(interruptions: Sequence[Interruption]) -> str:
    """Return the total or least training lost, in words; empty if nothing is known of it."""
    losses = [interruption.lost_seconds for interruption in interruptions]
    lost = add_up(losses)
    if lost is not None:
        return f"{format_seconds(lost)} of training lost" if lost else "nothing lost"
    known = add_up(seconds for seconds in losses if seconds is not None)
    return f"at least {format_seconds(known)} of training lost" if known else ""


def _sum_up_waiting(interruptions: Sequence[Interruption]) -> str:
    waits = [interruption.waited_seconds for interruption in interruptions]
    waited = add_up(seconds for seconds in waits if seconds is not None)
    if waits[-1] is None:
        return "waiting for a machine" + (f", {format_seconds(waited)} before" if waited else "")
    return f"{format_seconds(waited or 0.0)} waited for a machine"


def _say_waiting(interruption: Interruption) -> str:
    if interruption.waited_seconds is None:
        return "waiting for a machine"
    return f"{format_seconds(interruption.waited_seconds)} waited for a machine"


def format_clock(when: datetime) -> str:
    """Return the time of day in this machine's time zone."""
    return when.astimezone().strftime("%H:%M:%S")
