"""A spot job's interruptions: when its machine was taken back, what was lost, and how that is said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from classifold.progress import format_seconds

INTERRUPTED = "Interrupted"
# In these a job has a machine that works for it.
# Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training-status.html
_ON_MACHINE = ("Downloading", "Training", "Uploading")
_LEARNS = "Training"
_ENDS = ("Completed", "Failed", "Stopped")
_CHECKPOINT = re.compile(r"\(checkpoint of ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC\)")
_FIRST_EPOCH = re.compile(r"\bstage=\w+ epoch=1 ")


@dataclass(frozen=True)
class Beginning:
    """What a log line says of where its machine's training begins.

    Attributes:
        written: When the line was, by the machine's clock.
        checkpoint: When what it goes on from was saved; None where it begins anew.
    """

    written: datetime
    checkpoint: datetime | None


@dataclass(frozen=True)
class Interruption:
    """A spot machine that was taken back.

    Attributes:
        came: When.
        step: What the job was doing, SageMaker's secondary status.
        waited_seconds: Until the job had another machine, or ended without; None while it waits.
        has_gone_on: Whether it had another machine.
        lost_seconds: Of training that the next machine has to do again; None where it is not known (yet).
        checkpoint: When what the job goes on from was saved; None where there is none, or it is not known.
    """

    came: datetime
    step: str
    waited_seconds: float | None
    has_gone_on: bool
    lost_seconds: float | None
    checkpoint: datetime | None

    @property
    def is_settled(self) -> bool:
        """Whether all is known of it."""
        return self.has_gone_on and self.lost_seconds is not None


@dataclass(frozen=True)
class _Stretch:
    """What a job did from one interruption to the next.

    Attributes:
        steps: SageMaker's transitions.
        end: When its machine was taken back; in the last stretch when the job ended, None while it runs.
    """

    steps: Sequence[Mapping[str, Any]]
    end: datetime | None

    def find_start(self, *statuses: str) -> datetime | None:
        """Return when the first of these steps began."""
        return next((one["StartTime"] for one in self.steps if one["Status"] in statuses), None)

    @property
    def learned_from(self) -> datetime | None:
        """When training began; None where it did not. The image is there by the last of several."""
        found = [one["StartTime"] for one in self.steps if one["Status"] == _LEARNS]
        return found[-1] if found else None


def read_beginning(line: str, written: datetime) -> Beginning | None:
    """Return what a log line says of where training begins; None where it says nothing of it.

    Args:
        line: Of the log.
        written: When, with its time zone.
    """
    found = _CHECKPOINT.search(line)
    if found is not None:
        try:
            saved = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:  # a name in the data may look like it
            return None
        return Beginning(written, saved)
    return Beginning(written, None) if _FIRST_EPOCH.search(line) else None


def list_interruptions(
    job: Mapping[str, Any], beginnings: Iterable[Beginning] = ()
) -> tuple[Interruption, ...]:
    """Return a job's interruptions, the first one first.

    Args:
        job: As SageMaker describes it.
        beginnings: Of all its machines, in any order; without them it is known of fewer what was lost.
    """
    stretches = list(_divide(job))
    begun = _find_beginnings(stretches, beginnings)
    return tuple(
        _reckon_loss(_measure_waiting(came, stretches, place), stretches[place], place, begun)
        for place, came in enumerate(stretch.end for stretch in stretches[:-1])
        if came is not None
    )


def _divide(job: Mapping[str, Any]) -> Iterator[_Stretch]:
    """Yield the stretches of a job's way; an interruption of which two messages tell is one."""
    steps = job.get("SecondaryStatusTransitions") or []
    here: list[Mapping[str, Any]] = []
    was_interrupted = False
    for step in steps:
        is_interrupted = step["Status"] == INTERRUPTED
        if is_interrupted and not was_interrupted:
            yield _Stretch(here, step["StartTime"])
            here = []
        elif not is_interrupted:
            here.append(step)
        was_interrupted = is_interrupted
    has_ended = job.get("TrainingJobStatus") in _ENDS and bool(steps)
    yield _Stretch(here, steps[-1]["StartTime"] if has_ended else None)


def _find_beginnings(stretches: Sequence[_Stretch], beginnings: Iterable[Beginning]) -> dict[int, Beginning]:
    """Return where each stretch's training began, as far as the log says so.

    A line belongs to the stretch in which it was written. The moments at which machines were taken back
    divide them: between these and the next machine's first lines is time enough for clocks that differ.
    """
    ends = [stretch.end for stretch in stretches[:-1] if stretch.end is not None]
    found: dict[int, Beginning] = {}
    for one in sorted(beginnings, key=lambda each: each.written):
        place = sum(end < one.written for end in ends)
        # A first epoch may come after a checkpoint in its midst.
        if place not in found or (found[place].checkpoint is None and one.checkpoint is not None):
            found[place] = one
    return found


def _measure_waiting(came: datetime, stretches: Sequence[_Stretch], place: int) -> Interruption:
    """Return the interruption that ended the stretch at `place`, without what it cost."""
    before, after = stretches[place], stretches[place + 1]
    # A machine that is taken back before it is of use is waited for twice.
    until = after.find_start(*_ON_MACHINE) or after.end
    return Interruption(
        came=came,
        step=str(before.steps[-1]["Status"]) if before.steps else "",
        waited_seconds=None if until is None else _seconds_between(came, until),
        has_gone_on=any(one.find_start(*_ON_MACHINE) for one in stretches[place + 1 :]),
        lost_seconds=None,
        checkpoint=None,
    )


def _reckon_loss(
    one: Interruption, stretch: _Stretch, place: int, begun: Mapping[int, Beginning]
) -> Interruption:
    """Return the interruption with what it cost.

    What is lost is what was trained since the checkpoint that the next machine goes on from, and never more
    than this machine trained: what earlier ones lost is counted there.
    """
    since = stretch.learned_from
    if since is None:
        return replace(one, lost_seconds=0.0)
    later = [number for number in begun if number > place]
    if not later:
        return one
    first = min(later)
    checkpoint = begun[first].checkpoint
    if checkpoint is None:
        return replace(one, lost_seconds=_seconds_between(since, one.came))
    if first > place + 1 and checkpoint > one.came:
        return one  # a machine in between saved it, and its own beginning is not known
    lost = _seconds_between(max(since, checkpoint), one.came)
    return replace(one, lost_seconds=lost, checkpoint=checkpoint)


def _seconds_between(earlier: datetime, later: datetime) -> float:
    """Return the time between the two; none where clocks that differ make it less than that."""
    return max(0.0, round((later - earlier).total_seconds(), 1))


def add_up(seconds: Iterable[float | None]) -> float | None:
    """Return the sum; None where one of them is not known."""
    known = list(seconds)
    return None if None in known else round(sum(one for one in known if one is not None), 1)


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
