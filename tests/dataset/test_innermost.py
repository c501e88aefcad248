"""Nested class folders: with CLASS_FOLDER = "innermost" the folder that holds a picture is its class."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.dataset.check import check_data
from classifold.dataset.innermost import choose_names
from classifold.dataset.ready import ensure_split
from classifold.dataset.scan import load_sets
from classifold.dataset.split import split_dataset
from classifold.errors import DataError
from classifold.names import SETS
from classifold.settings.loader import build_config

FRUIT = {"Apple/Golden": 8, "Apple/Gala": 7, "Pear/Golden": 6, "Pear": 5}
NAMED = {"Apple_Golden": 8, "Gala": 7, "Pear_Golden": 6, "Pear": 5}


@pytest.fixture
def inner(split):
    """inner(folder, ...) -> the split with the innermost folders as classes."""
    return lambda folder, **more: split(folder, CLASS_FOLDER="innermost", **more)


def count_classes(summary):
    return {
        name: sum(counts.get(name, 0) for counts in summary.counts.values())
        for name in summary.counts["training"]
    }


def test_the_innermost_folder_is_the_class_and_paths_tell_equal_names_apart(make_classes, inner, contents):
    summary = inner(make_classes(FRUIT))
    assert count_classes(summary) == NAMED
    keys = {key for files in contents(summary.split_dir).values() for key in files}
    assert {key.rpartition("/")[0] for key in keys} == set(NAMED)
    assert load_sets(summary.split_dir).class_names == tuple(sorted(NAMED))
    assert load_sets(summary.split_dir).fingerprint == summary.fingerprint
    notes = "\n".join(summary.notes)
    assert "2 folders have the same name as another folder, so their classes are named by the path" in notes
    assert (
        "1 class has only the pictures directly in their own folder, since the folders inside it are classes "
        "too: Pear"
    ) in notes
    assert "holds no pictures" not in notes


def test_the_outermost_folder_stays_the_class_by_default_and_a_note_names_the_setting(make_classes, split):
    summary = split(make_classes(FRUIT))
    assert count_classes(summary) == {"Apple": 15, "Pear": 11}
    (note,) = [note for note in summary.notes if "CLASS_FOLDER" in note]
    assert note.startswith(
        "pictures in 3 folders inside the class folders (Apple/Gala, Apple/Golden, Pear/Golden)"
    )


@pytest.mark.parametrize("parts", ["2019", "2020-05-01", "images", "masks"])
def test_folders_that_only_divide_a_class_are_not_told(make_classes, split, parts):
    summary = split(make_classes({f"cat/{parts}": 6, "dog": 6}))
    assert not any("CLASS_FOLDER" in note for note in summary.notes)


def test_a_check_of_nested_folders_says_the_same_as_the_split(make_classes):
    settings = {"DATA_LOCAL_DIR": str(make_classes(FRUIT)), "NUM_WORKERS": 2}
    report = check_data(build_config(settings))
    assert any("CLASS_FOLDER" in note for note in report.notes)
    report = check_data(build_config({**settings, "CLASS_FOLDER": "innermost"}))
    assert not report.faults
    assert {name: row["kept"] for name, row in report.classes.items()} == NAMED


def test_sets_of_the_user_s_own_name_a_nested_class_alike(make_classes, inner):
    make_classes(FRUIT, name="fruit/train")
    own = make_classes({"Apple/Golden": 2, "Apple/Gala": 2}, name="fruit/test").parent
    summary = inner(own)
    assert summary.counts["evaluation"] == {"Apple_Golden": 2, "Gala": 2}
    assert set(summary.counts["training"]) == set(NAMED)


def test_groups_are_found_in_the_new_names(make_classes, inner):
    folder = make_classes({"a/x": 20, "b/y": 20})
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"p{number % 10}_{number}.png"))
    notes = inner(folder, SPLIT_GROUP_PATTERN=r"^[xy]/(p\d)_").notes
    assert any("puts 40 pictures in 10 groups" in note for note in notes)


def test_changing_the_setting_divides_again_and_keeps_what_was_held_out(make_classes, contents):
    settings = {"DATA_LOCAL_DIR": str(make_classes(FRUIT)), "NUM_WORKERS": 2}
    first = ensure_split(build_config(settings), is_renewed=True)
    before = {data: name for name, files in contents(first.split_dir).items() for data in files.values()}
    config = build_config({**settings, "CLASS_FOLDER": "innermost"})
    again = ensure_split(config, is_renewed=True)
    after = {data: name for name, files in contents(again.split_dir).items() for data in files.values()}
    assert count_classes(again) == NAMED
    assert all(after[data] == name for data, name in before.items() if name != "training")
    assert ensure_split(config, is_renewed=True) is None


def test_a_listing_with_a_root_has_the_classes_of_the_folder(make_classes, inner):
    folder = make_classes(FRUIT)
    listing = folder.with_name("fruit.csv")
    with listing.open("w", newline="") as file:
        paths = sorted(folder.rglob("*.png"))
        csv.writer(file).writerows([["path"], *([path.relative_to(folder.parent)] for path in paths)])
    settings = {"DATA_MANIFEST": str(listing), "MANIFEST_ROOT": str(folder), "NUM_WORKERS": 2}
    summary = split_dataset(build_config({**settings, "CLASS_FOLDER": "innermost"}))
    assert count_classes(summary) == NAMED
    lines = [
        json.loads(line)
        for name in SETS
        for line in (summary.split_dir / f"{name}.jsonl").read_text().splitlines()
    ]
    assert len(lines) == 26
    listing.with_name("fruit-split").rename(folder.with_name("away"))
    notes = split_dataset(build_config(settings)).notes
    assert any("CLASS_FOLDER" in note for note in notes)


def test_two_folders_that_would_give_one_name_are_refused(make_classes, inner):
    folder = make_classes({"a_b/c": 3, "a/b_c": 3, "x/c": 3, "y/b_c": 3})
    with pytest.raises(DataError) as caught:
        inner(folder)
    (fault,) = caught.value.faults
    assert (fault.where, fault.hint.partition(",")[0]) == ("class 'a_b_c'", "rename one of them")
    assert fault.what == "several folders would give a class of this name: a/b_c, a_b/c"


paths = st.lists(st.sampled_from(["a", "b", "c d", "e-f"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=100, deadline=None)
@given(st.sets(paths, min_size=1, max_size=12))
def test_every_folder_has_a_name_of_its_own_that_no_other_folder_changes_but_one_of_its_name(folders):
    names = choose_names(folders)
    assert len(set(names.values())) == len(folders) == len(names)
    assert all("/" not in name for name in names.values())
    for folder in folders:
        last = folder.rpartition("/")[2]
        alone = sum(other.rpartition("/")[2] == last for other in folders) == 1
        assert names[folder] == (last if alone else folder.replace("/", "_"))
