"""Folders that are no classes are refused: their sub-folders are, or they hold the classes once more."""

from __future__ import annotations

import pytest

from classifold.dataset.check import check_data
from classifold.dataset.class_layout import read_layout
from classifold.errors import DataError
from classifold.settings.loader import build_config

PICTURE = b"GIF89a" + bytes(40)


def put(root, *keys, content=PICTURE):
    """Write files; a key that ends in a slash is an empty folder."""
    for key in keys:
        path = root / key
        if key.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def fill(root, *folders):
    """Put one picture into each folder."""
    return put(root, *(f"{folder}/1.gif" for folder in folders))


def refusal(root):
    with pytest.raises(DataError) as caught:
        read_layout(root)
    (fault,) = caught.value.faults
    assert fault.where == str(root)
    return fault


@pytest.mark.parametrize(
    "folders",
    [
        ["camera1/cat", "camera1/dog", "camera2/cat", "camera2/dog"],
        ["siteA/cat", "siteA/dog", "siteA/owl", "siteB/cat", "siteB/dog"],
        ["a/bike", "a/mug", "b/bike", "b/mug", "b/pen", "c/bike", "c/pen"],
        ["fold1/0", "fold1/1", "fold2/0", "fold2/1"],
    ],
)
def test_folders_that_share_their_sub_folders_are_refused(tmp_path, folders):
    fault = refusal(fill(tmp_path, *folders))
    first = folders[0].split("/")[0]
    assert "hold the same sub-folders" in fault.what
    assert f"name one of them instead, for instance {tmp_path / first}" in fault.hint
    assert "DATA_MANIFEST" in fault.hint


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/2019", "cat/2020", "dog/2019", "dog/2020"],
        ["cat/2019-07-01", "cat/2019-07-02", "dog/2019-07-01", "dog/2019-07-02"],
        ["cat/images", "cat/masks", "dog/images", "dog/masks"],
        ["cat", "cat/close", "cat/far", "dog", "dog/close", "dog/far"],
        ["cat/close", "dog/close"],
        ["cat/kitten", "dog/puppy", "dog/old"],
    ],
)
def test_sub_folders_that_divide_a_class_are_no_classes(tmp_path, folders):
    assert read_layout(fill(tmp_path, *folders)) is None


def test_classes_that_are_divided_into_sets_are_refused(tmp_path):
    fill(tmp_path, "cat/train", "cat/test", "dog/train", "dog/test")
    fault = refusal(tmp_path)
    assert fault.what == "each of its folders (cat, dog) is divided into sets (test, train)"
    assert fault.hint == "swap the two levels: test/cat, test/dog and so on"


def test_several_splits_side_by_side_are_refused(tmp_path):
    fill(tmp_path, *(f"{one}/{s}/{c}" for one in ("a", "b") for s in ("train", "test") for c in ("x", "y")))
    assert refusal(tmp_path).hint == f"name one of them instead, for instance {tmp_path / 'a'}"


@pytest.mark.parametrize(
    "folders", [["cat_train", "cat_test", "dog_train", "dog_test"], ["trainA", "trainB", "testA", "testB"]]
)
def test_classes_and_sets_in_one_name_are_refused(tmp_path, folders):
    fault = refusal(fill(tmp_path, *folders))
    assert "have a class and a set in their names" in fault.what


def test_a_second_copy_of_the_classes_inside_is_refused(tmp_path):
    fault = refusal(fill(tmp_path, "cat", "dog", "pets/cat", "pets/dog"))
    assert fault.what == "pets holds folders with the same names as those beside it (cat, dog)"
    assert fault.hint == f"move {tmp_path / 'pets'} away"


@pytest.mark.parametrize("junk", [["readme.txt"], ["__MACOSX/1.gif"], ["docs/"], ["annotations/1.xml"], []])
@pytest.mark.parametrize("inner", [["cat", "dog"], ["train/cat", "train/dog", "test/cat", "test/dog"]])
def test_a_folder_around_the_classes_is_refused_with_the_inner_one(tmp_path, junk, inner):
    root = tmp_path / "archive"
    fill(root, *(f"pets/{name}" for name in inner))
    put(root, *junk)
    report = check_data(build_config({"DATA_LOCAL_DIR": str(root)}))
    (fault,) = report.faults
    assert f"name {root / 'pets'} instead" in fault.hint


def test_training_beside_one_folder_of_pictures_is_refused(tmp_path):
    fault = refusal(fill(tmp_path, "train/cat", "train/dog", "stuff"))
    assert fault.what == "the classes seem to be in train (cat, dog), and stuff seem not to be classes"


@pytest.mark.parametrize("name", ["test", "val"])
def test_another_set_alone_is_offered_as_the_folder(tmp_path, name):
    fault = refusal(fill(tmp_path, f"{name}/cat", f"{name}/dog", "extra"))
    assert f"name {tmp_path / name} instead" in fault.hint


@pytest.mark.parametrize(
    "inner", [["train/cat", "train/dog", "test/cat", "test/dog"], ["train", "test"], ["tr", "val", "te"]]
)
def test_a_divided_folder_among_others_is_refused(tmp_path, inner):
    fault = refusal(fill(tmp_path, *(f"data/{name}" for name in inner), "models", "pets"))
    assert fault.what.startswith("data is divided into sets (")
    assert f"name {tmp_path / 'data'} instead" in fault.hint


@pytest.mark.parametrize(
    "folders",
    [
        ["apple/fresh", "apple/rotten", "banana/fresh", "banana/rotten"],
        ["cat", "dog", "pets/cat", "pets/dog"],
        ["fruit/apple", "fruit/pear", "annotations"],
    ],
)
def test_innermost_classes_may_have_the_same_names_in_several_folders(tmp_path, folders):
    assert 'CLASS_FOLDER = "innermost"' in refusal(fill(tmp_path, *folders)).hint or "fresh" not in folders[0]
    assert read_layout(tmp_path, class_folder="innermost") is None


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/train", "cat/test", "dog/train", "dog/test"],
        ["cat_train", "cat_test", "dog_train", "dog_test"],
        ["data/train/cat", "data/train/dog", "data/test/cat", "data/test/dog", "models", "pets"],
    ],
)
def test_sets_in_the_wrong_place_are_refused_with_innermost_classes_too(tmp_path, folders):
    with pytest.raises(DataError):
        read_layout(fill(tmp_path, *folders), class_folder="innermost")
