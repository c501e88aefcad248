"""What each setting says of itself in its annotation."""

from __future__ import annotations

import pytest

from classifold.settings.config import (
    HOME_SETTINGS,
    JOB_SETTINGS,
    LEARNING_SETTINGS,
    Config,
    Group,
    Scope,
)


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_names_one_group_and_one_scope(name: str) -> None:
    marks = [mark for mark in Config.model_fields[name].metadata if isinstance(mark, Group | Scope)]
    assert [type(mark) for mark in marks] == [Group, Scope]


def test_a_setting_goes_with_the_job_or_stays_here() -> None:
    assert set(Config.model_fields) == JOB_SETTINGS | HOME_SETTINGS
    assert not JOB_SETTINGS & HOME_SETTINGS
    assert LEARNING_SETTINGS < JOB_SETTINGS


def test_what_may_change_while_a_run_is_resumed_is_said_here_by_name() -> None:
    """A setting that is added must be added here, where it makes no difference to what is learned."""
    engine = {"BACKEND", "NUM_WORKERS", "CACHE_GB", "CHECKPOINT_MINUTES", "RECIPE", "TIME_LIMIT"}
    data = {"DATA_NAME", "MAX_PIXELS", "UNREADABLE_PICTURES"}
    evaluation = {"TOP_K", "BOOTSTRAP_SAMPLES", "CALIBRATION_BINS", "MAX_ERROR", "FALSE_REFUSALS"}
    assert engine | data | evaluation == JOB_SETTINGS - LEARNING_SETTINGS


def test_a_group_stands_together_under_its_heading() -> None:
    groups = [
        mark for field in Config.model_fields.values() for mark in field.metadata if isinstance(mark, Group)
    ]
    assert sorted(groups, key=list(Group).index) == groups
