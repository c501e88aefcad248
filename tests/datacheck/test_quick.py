"""The quick part of the check, as `train`, `upload` and `launch` run it by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classifold.datacheck.check import check_pictures
from classifold.datacheck.quick import check_quickly, tell_quick_check
from classifold.dataset.split import split_dataset
from classifold.settings.config import Config
from classifold.settings.loader import build_config
from made_scenes import draw_classes, draw_own_sets, plant_problems


@pytest.fixture(scope="module")
def own_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_own_sets(tmp_path_factory.mktemp("quick") / "sets")


def use(folder: Path, **settings: Any) -> Config:
    return build_config({"SPLIT_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **settings})


@pytest.mark.parametrize("value", ["ignore", "together"])
def test_leaks_of_own_sets_are_found_whatever_the_split_does_with_near_copies(
    own_sets: Path, value: str
) -> None:
    findings = check_quickly(use(own_sets, NEAR_COPIES=value))
    assert findings is not None
    assert {one.kind for one in findings.groups if one.across} == {"exact", "near", "burst"}
    assert findings.num_pictures == len(list(own_sets.rglob("*.jpg")))


def test_of_a_split_the_record_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = plant_problems(draw_classes(tmp_path / "photos"))
    config = build_config({"DATA_LOCAL_DIR": str(photos), "NUM_WORKERS": 2})
    split_dataset(config)
    photos.rename(tmp_path / "elsewhere")
    findings = check_quickly(config)
    assert findings is not None
    assert {one.kind for one in findings.groups} == {"exact", "near", "conflict", "burst"}
    assert [(one.file, one.kind) for one in findings.pictures] == [("dog/broken.jpg", "cut short")]


def test_what_was_found_is_told_in_one_line(own_sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_quick_check(use(own_sets)) is not None
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "data check: 2 groups of copies across sets"


def test_without_sets_there_is_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_quick_check(use(tmp_path / "none")) is None
    assert capsys.readouterr().err == ""


def test_leaks_of_a_split_that_ignores_near_copies_are_found(tmp_path: Path) -> None:
    photos = plant_problems(draw_classes(tmp_path / "photos"))
    config = build_config({"DATA_LOCAL_DIR": str(photos), "NUM_WORKERS": 2, "NEAR_COPIES": "ignore"})
    seen = set()
    for seed in range(4):  # by one of these divisions some near copies are in different sets
        changed = config.model_copy(update={"SPLIT_SEED": seed, "SPLIT_LOCAL_DIR": str(tmp_path / f"{seed}")})
        check_pictures(changed.model_copy(update={"NEAR_COPIES": "together"}), is_quick=True)
        split_dataset(changed)
        findings = check_quickly(changed)
        assert findings is not None
        seen |= {one.kind for one in findings.groups if one.across}
    assert "near" in seen
