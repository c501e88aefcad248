"""The whole check, from made pictures to the findings: quick ones, and one with features."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.datacheck.check import Checked, check_pictures, choose_check_dir, find_newest_run
from classifold.dataset.evaluation_size import measure_width
from classifold.dataset.split import split_dataset
from classifold.kept_findings import find_kept
from classifold.names import ENVIRONMENT_JSON, EVALUATION, METRICS_JSON, PREDICTIONS_CSV, TRAINING
from classifold.settings.config import Config
from classifold.settings.loader import build_config
from made_runs import CLASSES, draw_sets, paint, tiny_settings
from made_scenes import draw_classes, draw_own_sets, plant_problems


def configure(folder: Path, **settings: Any) -> Config:
    return build_config({"DATA_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **settings})


def check(folder: Path, **settings: Any) -> Checked:
    return check_pictures(configure(folder, **settings), is_quick=True)


def names_of(checked: Checked, kind: str) -> list[tuple[str, ...]]:
    return [one.files for one in checked.findings.groups if one.kind == kind]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_problems(draw_classes(tmp_path_factory.mktemp("check") / "photos"))


@pytest.fixture(scope="module")
def checked(photos: Path) -> Checked:
    """A quick check of a folder with a problem of each kind."""
    return check(photos)


@pytest.fixture(scope="module")
def own_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_own_sets(tmp_path_factory.mktemp("own") / "sets")


@pytest.fixture(scope="module")
def checked_sets(own_sets: Path) -> Checked:
    """A quick check of own sets with leaks."""
    return check(own_sets)


# A folder of classes


def test_each_planted_problem_is_found_and_nothing_else(checked: Checked) -> None:
    assert names_of(checked, "exact") == [("cat/100.jpg", "cat/exact.jpg")]
    assert names_of(checked, "near") == [("cat/101.jpg", "cat/near.jpg")]
    assert names_of(checked, "conflict") == [("cat/102.jpg", "dog/conflict.jpg")]
    assert names_of(checked, "burst") == [("dog/burst a.jpg", "dog/burst b.jpg")]
    assert [(one.file, one.kind) for one in checked.findings.pictures] == [
        ("dog/blurred.jpg", "blurred"),
        ("dog/broken.jpg", "cut short"),
    ]
    assert "cut short: its end is missing" in checked.findings.pictures[1].reason


def test_copies_that_split_keeps_together_or_leaves_out_are_no_leaks(checked: Checked) -> None:
    assert all(group.across == () for group in checked.findings.groups)
    near = next(group for group in checked.findings.groups if group.kind == "near")
    assert len(set(near.sets)) == 1
    assert near.changes == ("", "mirrored")


def test_the_sets_and_counts_are_those_that_split_makes(photos: Path, checked: Checked) -> None:
    report = split_dataset(configure(photos, UNREADABLE_PICTURES="skip"))
    assert checked.findings.sets.counts == checked.report.counts == report.counts
    assert checked.findings.num_pictures == len(list(photos.rglob("*.jpg")))


def test_every_picture_that_is_named_has_its_path(photos: Path, checked: Checked) -> None:
    named = {key for group in checked.findings.groups for key in group.files}
    named |= {one.file for one in checked.findings.pictures}
    assert checked.paths == {key: str(photos / key) for key in named}


def test_a_quick_check_says_what_it_left_out_and_is_kept_for_other_commands(checked: Checked) -> None:
    assert checked.findings.skipped == dict.fromkeys(("labels", "shortcuts"), "left out by --quick")
    assert find_kept(checked.findings.fingerprint, kind="quick") == checked.findings
    assert find_kept(checked.findings.fingerprint, kind="full") is None


def test_near_copies_are_told_even_where_split_may_divide_them(photos: Path) -> None:
    checked = check(photos, NEAR_COPIES="ignore")
    assert set(*names_of(checked, "near")) == {"cat/101.jpg", "cat/near.jpg"}
    assert set(*names_of(checked, "burst")) == {"dog/burst a.jpg", "dog/burst b.jpg"}


def test_a_folder_that_cannot_be_split_is_checked_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "photos", count=4)
    for path in list((folder / "dog").iterdir())[1:]:
        path.unlink()
    shutil.copy(folder / "cat" / "100.jpg", folder / "cat" / "copy.jpg")
    checked = check(folder)
    assert [fault.where for fault in checked.report.faults] == ["class 'dog'"]
    assert names_of(checked, "exact") == [("cat/100.jpg", "cat/copy.jpg")]
    assert find_kept(checked.findings.fingerprint, kind="quick") is None


def test_of_a_folder_without_classes_nothing_is_claimed(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "photos", count=2)
    shutil.rmtree(folder / "dog")
    checked = check(folder)
    assert checked.report.faults
    assert checked.findings.groups == checked.findings.pictures == ()
    assert {"leaks", "conflicts", "pictures"} <= set(checked.findings.skipped)
    assert check(tmp_path / "nothing").report.faults


# Sets of the user's own


def test_copies_across_own_sets_are_leaks_with_the_held_out_picture_first(checked_sets: Checked) -> None:
    leaks = {one.files: (one.kind, one.across) for one in checked_sets.findings.leaks}
    assert leaks == {
        ("validation/dog/equal.jpg", "training/dog/200.jpg"): ("exact", ("training", "validation")),
        ("evaluation/cat/leak.jpg", "training/cat/100.jpg"): ("near", ("training", "evaluation")),
    }
    across = [group.files for group in checked_sets.findings.bursts if group.across]
    assert across == [("evaluation/dog/burst.jpg", "training/dog/burst.jpg")]


def test_the_paths_of_own_sets_are_those_on_the_disk(own_sets: Path, checked_sets: Checked) -> None:
    assert all(path == str(own_sets / key) for key, path in checked_sets.paths.items())


# A listing


def test_of_a_listing_the_sets_are_told_and_the_rest_is_said_not_to_be_checked(tmp_path: Path) -> None:
    listing = tmp_path / "list.csv"
    listing.write_text("".join(f"b,p/{'ab'[n % 2]}/{n}.jpg,9,,{n}\n" for n in range(60)))
    checked = check_pictures(build_config({"DATA_MANIFEST": str(listing)}), is_quick=True)
    assert checked.report.faults == ()
    assert checked.findings.sets.counts == checked.report.counts
    assert {"leaks", "copies", "labels", "pictures"} <= set(checked.findings.skipped)


# Places and runs


def test_the_page_goes_beside_the_pictures(tmp_path: Path) -> None:
    assert choose_check_dir(configure(tmp_path / "my photos")) == tmp_path / "my photos-check"
    listing = build_config({"DATA_MANIFEST": str(tmp_path / "list.v2.jsonl.gz")})
    assert choose_check_dir(listing) == tmp_path / "list-check"


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run("first", split_dir) -> a run folder with what a check reads of it."""

    def make_run(name: str, split_dir: Path, rows: str = "") -> Path:
        run_dir = tmp_path / "runs" / name
        run_dir.mkdir(parents=True)
        (run_dir / ENVIRONMENT_JSON).write_text(json.dumps({"data": {"dir": str(split_dir)}}))
        (run_dir / PREDICTIONS_CSV).write_text(rows)
        return run_dir

    return make_run


def test_the_newest_run_on_the_split_of_these_pictures_is_found(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    config = configure(tmp_path / "photos", RUNS_DIR=str(tmp_path / "runs"))
    assert find_newest_run(config) is None
    make_run("a", config.split_dir)
    newest = make_run("b", config.split_dir)
    make_run("c", tmp_path / "other-split")
    (tmp_path / "runs" / "unfinished").mkdir()
    assert find_newest_run(config) == newest


def test_what_the_evaluation_set_can_show_follows_from_the_accuracy_of_the_run(
    photos: Path, make_run: Callable[..., Path]
) -> None:
    run_dir = make_run("a", photos.with_name("photos-split"))
    metrics = {
        "format": 1,
        "num_pictures": 10,
        "class_names": ["a", "b"],
        "top_k": 1,
        "scores": {"accuracy": {"value": 0.6}},
        "per_class": [
            {"class_name": name, "precision": 0.6, "recall": 0.6, "f1": 0.6, "support": 5} for name in "ab"
        ],
        "confusion_matrix": [[3, 2], [2, 3]],
    }
    (run_dir / METRICS_JSON).write_text(json.dumps(metrics))
    found = check_pictures(configure(photos), is_quick=True, run_dir=run_dir).findings
    num_evaluation = sum(found.sets.counts[EVALUATION].values())
    assert found.sets.interval_width == measure_width(num_evaluation, 0.6)


def test_a_damaged_run_costs_the_check_a_note(photos: Path, make_run: Callable[..., Path]) -> None:
    run_dir = make_run("a", photos.with_name("photos-split"), rows="no,such,columns\n")
    checked = check_pictures(configure(photos), is_quick=True, run_dir=run_dir)
    assert checked.findings.costs == ()
    assert any("what each kind of picture costs a run is not known" in one for one in checked.findings.notes)
    assert checked.findings.groups


# With features


@pytest.fixture(scope="module")
def looked_closely(
    keras: Any, own_backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checked, Path]:
    """A whole check, on a tiny backbone, of own sets with a leak and a wrong label."""
    # Enough pictures for the time of one to be measured.
    folder = draw_sets(tmp_path_factory.mktemp("closely") / "sets", counts=(60, 12, 12))
    shutil.copy(folder / TRAINING / "blue" / "1.png", folder / EVALUATION / "blue" / "leak.png")
    paint("blue", 777).save(folder / TRAINING / "green" / "wrong.png")
    config = configure(folder, **{**tiny_settings(own_backbone), "RUNS_DIR": str(folder.parent / "runs")})
    return check_pictures(config, estimate_job=lambda minutes: (minutes / 2, 0.5)), folder


def test_a_wrong_label_is_the_first_suspect_and_the_right_class_is_suggested(
    looked_closely: tuple[Checked, Path],
) -> None:
    findings = looked_closely[0].findings
    assert findings.skipped == {}
    first = findings.labels[0]
    assert (first.file, first.label, first.suggested) == ("training/green/wrong.png", "green", "blue")
    assert all(one.label == "blue" for one in first.neighbours[:2])
    assert findings.estimate is not None
    assert findings.estimate.low <= 1 <= findings.estimate.high


def test_what_a_leak_does_to_the_accuracy_is_measured(looked_closely: tuple[Checked, Path]) -> None:
    effect = looked_closely[0].findings.effect
    assert effect is not None
    assert (effect.num_leaks, effect.num_evaluation) == (1, 37)
    assert "without the 1 that have a copy in training or validation" in effect.reason


def test_a_colour_that_tells_the_class_is_a_shortcut(looked_closely: tuple[Checked, Path]) -> None:
    shortcuts = {one.name: one for one in looked_closely[0].findings.shortcuts}
    assert any(one.accuracy > 0.9 and one.p < 0.05 for one in shortcuts.values()), shortcuts


def test_time_and_price_of_a_training_are_estimated(looked_closely: tuple[Checked, Path]) -> None:
    sets = looked_closely[0].findings.sets
    assert sets.training_minutes is not None
    assert sets.training_minutes > 0
    assert (sets.job_minutes, sets.job_price) == (sets.training_minutes / 2, 0.5)
    assert set(sets.counts[EVALUATION]) == set(CLASSES)


def test_a_whole_check_is_kept_for_train_and_the_report(looked_closely: tuple[Checked, Path]) -> None:
    findings = looked_closely[0].findings
    assert find_kept(findings.fingerprint, kind="full") == findings


def test_too_few_pictures_for_features_are_said_to_be_too_few(
    looked_closely: tuple[Checked, Path], own_backbone: str, tmp_path: Path
) -> None:
    folder = draw_classes(tmp_path / "photos", count=3)
    checked = check_pictures(configure(folder, **tiny_settings(own_backbone)))
    assert "at least 40 are needed, in two classes of at least 5" in checked.findings.skipped["labels"]
