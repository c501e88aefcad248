"""What interruptions cost: reckoned from transitions and log lines, whatever is missing of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.aws.spot import Beginning, add_up, list_interruptions, read_beginning

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAY = (("Starting", 0), ("Downloading", 60), ("Training", 90))


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def job(*steps: tuple[str, float], status: str = "InProgress") -> dict[str, Any]:
    transitions = [{"Status": name, "StartTime": at(second)} for name, second in steps]
    return {"TrainingJobStatus": status, "SecondaryStatusTransitions": transitions}


def test_what_was_trained_since_the_checkpoint_is_lost_and_the_way_to_a_machine_is_waited() -> None:
    after = (("Interrupted", 200), ("Starting", 260), ("Downloading", 300), ("Training", 320))
    (one,) = list_interruptions(job(*WAY, *after), [Beginning(at(330), at(188))])
    assert (one.came, one.step, one.checkpoint) == (at(200), "Training", at(188))
    assert (one.lost_seconds, one.waited_seconds) == (12.0, 100.0)
    assert one.is_settled


def test_a_job_without_interruptions_has_none() -> None:
    assert list_interruptions(job(*WAY)) == ()
    assert list_interruptions({"TrainingJobStatus": "InProgress"}) == ()


@pytest.mark.parametrize("step", ["Starting", "Downloading"])
def test_a_machine_that_is_taken_back_before_it_trains_loses_nothing(step: str) -> None:
    before = WAY[: [name for name, _ in WAY].index(step) + 1]
    (one,) = list_interruptions(job(*before, ("Interrupted", 80), ("Starting", 81), ("Downloading", 95)))
    assert (one.step, one.lost_seconds, one.waited_seconds, one.checkpoint) == (step, 0.0, 15.0, None)
    assert one.is_settled


def test_a_job_that_begins_anew_has_lost_all_that_it_trained() -> None:
    (one,) = list_interruptions(
        job(*WAY, ("Interrupted", 200), ("Downloading", 300), ("Training", 320)),
        [Beginning(at(100), None), Beginning(at(340), None)],
    )
    assert (one.lost_seconds, one.checkpoint, one.is_settled) == (110.0, None, True)


def test_while_a_job_waits_or_says_nothing_yet_it_is_not_known_what_it_lost() -> None:
    (waits,) = list_interruptions(job(*WAY, ("Interrupted", 200), ("Starting", 201)))
    assert (waits.waited_seconds, waits.lost_seconds, waits.has_gone_on) == (None, None, False)
    (silent,) = list_interruptions(
        job(*WAY, ("Interrupted", 200), ("Downloading", 300)), [Beginning(at(100), None)]
    )
    assert (silent.waited_seconds, silent.lost_seconds, silent.is_settled) == (100.0, None, False)


@pytest.mark.parametrize("end", ["MaxWaitTimeExceeded", "Stopped"])
def test_a_job_that_ends_without_another_machine_waited_until_then(end: str) -> None:
    steps = (*WAY, ("Interrupted", 200), ("Starting", 210), ("Stopping", 500), (end, 501))
    (one,) = list_interruptions(job(*steps, status="Stopped"))
    assert (one.waited_seconds, one.has_gone_on, one.lost_seconds) == (301.0, False, None)


def test_each_of_several_interruptions_has_its_own_loss_and_none_is_counted_twice() -> None:
    """The second machine saved nothing, so that the third goes on from the first one's checkpoint."""
    steps = (
        *(*WAY, ("Interrupted", 200)),
        *(("Downloading", 300), ("Training", 320), ("Interrupted", 330)),
        *(("Downloading", 400), ("Interrupted", 410)),
        *(("Downloading", 500), ("Training", 520)),
    )
    found = list_interruptions(job(*steps), [Beginning(at(530), at(190))])
    assert [one.lost_seconds for one in found] == [10.0, 10.0, 0.0]
    assert [one.waited_seconds for one in found] == [100.0, 70.0, 90.0]
    assert add_up(one.lost_seconds for one in found) == 20.0


def test_a_loss_that_only_a_missing_line_could_tell_is_not_made_up() -> None:
    """The second machine saved after its own beginning, of which there is no line."""
    steps = (
        *(*WAY, ("Interrupted", 200), ("Downloading", 300), ("Training", 320)),
        *(("Interrupted", 400), ("Downloading", 500), ("Training", 520)),
    )
    found = list_interruptions(job(*steps), [Beginning(at(530), at(395))])
    assert [one.lost_seconds for one in found] == [None, 5.0]
    assert add_up(one.lost_seconds for one in found) is None


def test_a_machine_that_never_came_up_is_waited_past() -> None:
    steps = (
        *(*WAY, ("Interrupted", 200), ("Starting", 210), ("Interrupted", 230), ("Starting", 240)),
        *(("Downloading", 300), ("Training", 320)),
    )
    found = list_interruptions(job(*steps), [Beginning(at(330), at(190))])
    assert [(one.lost_seconds, one.waited_seconds) for one in found] == [(10.0, 30.0), (0.0, 70.0)]
    assert all(one.is_settled for one in found)


def test_two_messages_of_one_interruption_are_one() -> None:
    steps = (*WAY, ("Interrupted", 200), ("Interrupted", 205), ("Downloading", 300))
    assert [one.came for one in list_interruptions(job(*steps))] == [at(200)]


def test_lines_may_come_late_and_out_of_order() -> None:
    steps = (*WAY, ("Interrupted", 200), ("Downloading", 300), ("Training", 320))
    lines = [Beginning(at(340), None), Beginning(at(330), at(195)), Beginning(at(100), None)]
    (one,) = list_interruptions(job(*steps), lines)
    assert one.lost_seconds == 5.0


moments = st.floats(-1e4, 1e4)


@given(steps=st.lists(st.tuples(st.sampled_from(
    ["Starting", "Pending", "Downloading", "Training", "Interrupted", "Uploading", "Stopping", "Stopped"]
), moments), max_size=12), lines=st.lists(st.tuples(moments, st.none() | moments), max_size=4))  # fmt: skip
def test_no_clock_makes_a_time_negative(
    steps: list[tuple[str, float]], lines: list[tuple[float, float | None]]
) -> None:
    said = [Beginning(at(when), None if saved is None else at(saved)) for when, saved in lines]
    for one in list_interruptions(job(*steps, status="Stopped"), said):
        assert one.lost_seconds is None or one.lost_seconds >= 0
        assert one.waited_seconds is None or one.waited_seconds >= 0


@pytest.mark.parametrize(
    "line",
    [
        "resumed from epoch 3 of the head (checkpoint of 2026-01-01 12:00:05 UTC)",
        "host 2: resumed from batch 17 of epoch 3 of fine-tuning (checkpoint of 2026-01-01 12:00:05 UTC)",
    ],
)
def test_the_line_of_a_machine_that_goes_on_names_its_checkpoint(line: str) -> None:
    assert read_beginning(line, at(9)) == Beginning(at(9), at(5))


def test_only_a_first_epoch_or_a_checkpoint_is_a_beginning() -> None:
    for line in (
        "head epoch 1 of 60: validation loss 0.3",
        "algo-1: head 1/5: regularization 1: validation loss 0.3",
    ):
        assert read_beginning(line, at(9)) == Beginning(at(9), None)
    for line in (
        "fitting the head 1/5 with regularization 1",
        "head 2/5: regularization 0.3: validation loss 0.3, accuracy 0.9 (1.2 s)",
        "head epoch 12 of 60: validation loss 0.3",
        "head epoch 1/60: 8 of 335 pictures",
        "kept head epoch 1 of 60: validation loss 0.3",
        "resumed from epoch 3 (checkpoint of 2026-13-01 12:00:05 UTC)",
        "resumed from epoch 3 (checkpoint of yesterday)",
    ):
        assert read_beginning(line, at(9)) is None
