"""Classes that are too small end the work, or are left out and told."""

from __future__ import annotations

import json
import shutil

import pytest

from classifold.dataset.check import check_data
from classifold.errors import DataError
from classifold.settings.loader import build_config

LEFT_OUT = "2 classes have too few pictures and were left out (SMALL_CLASSES): 'eel' (2); 'owl' (1)"


@pytest.fixture
def folder(make_classes):
    return make_classes({"cat": 9, "dog": 9, "eel": 2, "owl": 1})


def test_a_class_with_too_few_pictures_names_the_setting_that_leaves_it_out(folder, split):
    with pytest.raises(DataError) as caught:
        split(folder)
    assert [fault.where for fault in caught.value.faults] == ["class 'eel'", "class 'owl'"]
    assert all('SMALL_CLASSES = "skip"' in fault.hint for fault in caught.value.faults)


def test_small_classes_are_left_out_and_told(folder, split, contents):
    summary = split(folder, SMALL_CLASSES="skip")
    keys = [key for files in contents(summary.split_dir).values() for key in files]
    assert {key.split("/")[0] for key in keys} == {"cat", "dog"}
    assert len(keys) == 18
    assert LEFT_OUT in summary.notes
    assert not any("holds no pictures" in note for note in summary.notes)
    record = json.loads((summary.split_dir / "split.json").read_text(encoding="utf-8"))
    assert record["skipped_classes"] == {"eel": 2, "owl": 1}
    report = check_data(build_config({"DATA_LOCAL_DIR": str(folder), "SMALL_CLASSES": "skip"}))
    assert (report.faults, report.counts) == ((), summary.counts)
    assert LEFT_OUT in report.notes


def test_leaving_classes_out_moves_no_picture_of_the_others(make_classes, split, contents):
    folder = make_classes({"cat": 9, "dog": 9})
    before = contents(split(folder).split_dir)
    make_classes({"owl": 1})
    assert contents(split(folder, SMALL_CLASSES="skip").split_dir) == before


def test_a_class_that_is_small_for_its_copies_or_broken_pictures_is_left_out_too(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9, "eel": 2, "owl": 2})
    shutil.copy(next((folder / "eel").iterdir()), folder / "eel" / "copy.png")
    (folder / "owl" / "broken.png").write_bytes(b"")
    summary = split(folder, SMALL_CLASSES="skip")
    assert set(summary.counts["training"]) == {"cat", "dog"}
    assert any("'eel' (2); 'owl' (2)" in note for note in summary.notes)


def test_classes_of_too_few_groups_are_left_out_too(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9, "eel": 9})
    for number, path in enumerate(sorted((folder / "eel").iterdir())):
        path.rename(path.with_name(f"p{number % 2}_{number}.png"))
    summary = split(folder, SMALL_CLASSES="skip", SPLIT_GROUP_PATTERN=r"(p\d)_")
    assert set(summary.counts["training"]) == {"cat", "dog"}
    assert any("'eel' (2)" in note for note in summary.notes)


def test_two_classes_must_be_left(make_classes, split):
    folder = make_classes({"cat": 9, "eel": 2, "owl": 1})
    with pytest.raises(DataError, match="at least two classes, and the others have too few pictures"):
        split(folder, SMALL_CLASSES="skip")
    assert not folder.with_name("pets-split").exists()


def test_small_classes_of_a_listing_are_left_out_too(tmp_path, split):
    listing = tmp_path / "list.csv"
    rows = [
        f"b,p/{name}/{n}.jpg,9,,{name}{n}"
        for name, count in (("a", 9), ("b", 9), ("c", 2))
        for n in range(count)
    ]
    listing.write_text("\n".join(rows))
    with pytest.raises(DataError, match="SMALL_CLASSES"):
        split(tmp_path, DATA_MANIFEST=str(listing))
    summary = split(tmp_path, DATA_MANIFEST=str(listing), SMALL_CLASSES="skip")
    assert set(summary.counts["training"]) == {"a", "b"}
    assert any("left out (SMALL_CLASSES): 'c' (2)" in note for note in summary.notes)


def test_one_fault_for_each_class_with_a_slash_and_none_for_each_line(tmp_path):
    listing = tmp_path / "list.csv"
    names = ("T-shirt/top", "coat", "bag/pouch")
    lines = [f"s3://b/{n}.jpg,{names[n % 3]}" for n in range(90)]
    listing.write_text("\n".join(["source-ref,label", *lines]))
    report = check_data(build_config({"DATA_MANIFEST": str(listing), "MANIFEST_CLASS": "label"}))
    first, second, rest = report.faults
    assert (first.got, second.got) == ("'T-shirt/top'", "'bag/pouch'")
    assert first.what == "its class name has a slash, so it cannot be a folder name"
    assert first.hint == "call the class 'T-shirt-top' in the listing"
    assert rest.where == "58 more lines"
