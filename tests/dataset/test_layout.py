"""A split of the user's own is recognised, or refused with what to do; it never becomes two classes."""

from __future__ import annotations

import pytest

from classifold.dataset.check import check_data
from classifold.dataset.class_layout import read_layout
from classifold.dataset.layout import find_own_split, suggest_folder
from classifold.dataset.scan import load_sets
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


def find(root):
    """Return the sets that were found, each by its folder below the root."""
    own = read_layout(root)
    assert own == find_own_split(root)
    return own and {name: path.relative_to(root).as_posix() for name, path in own.items()}


def refusal(root):
    with pytest.raises(DataError) as caught:
        read_layout(root)
    (fault,) = caught.value.faults
    assert fault.where == str(root)
    return fault


@pytest.mark.parametrize(
    ("training", "other", "set_name"),
    [
        ("training", "validation", "validation"),
        ("train", "val", "validation"),
        ("TRAIN", "VALID", "validation"),
        ("Training", "Testing", "evaluation"),
        ("train_set", "test_set", "evaluation"),
        ("trainset", "testset", "evaluation"),
        ("train-images", "test-images", "evaluation"),
        ("dataset_train", "dataset_test", "evaluation"),
        ("X_train", "X_test", "evaluation"),
        ("tr", "te", "evaluation"),
        ("traning", "vaildation", "validation"),
        ("train", "public_test", "evaluation"),
        ("train", "dev", "validation"),
        ("train", "holdout", "evaluation"),
        ("train", "hold-out", "evaluation"),
        ("train", "evaluate", "evaluation"),
        ("train (1)", "test (1)", "evaluation"),
        ("train2017", "val2017", "validation"),
        ("TrainingData", "TestData", "evaluation"),
        ("flowers_train", "flowers_test", "evaluation"),
        ("seg_train", "seg_test", "evaluation"),
        ("entraînement", "validation", "validation"),
        ("Treino", "Teste", "evaluation"),
        ("训练集", "测试集", "evaluation"),
        ("学習データ", "テスト", "evaluation"),
        ("обучение", "тест", "evaluation"),
    ],
)
def test_a_split_of_the_user_s_own_is_recognised_in_any_usual_spelling(tmp_path, training, other, set_name):
    fill(tmp_path, *(f"{folder}/{name}" for folder in (training, other) for name in ("cat", "dog")))
    assert find(tmp_path) == {"training": training, set_name: other}


THREE = [f"{name}/{class_name}" for name in ("train", "val", "test") for class_name in ("cat", "dog")]


@pytest.mark.parametrize(
    "extra",
    [
        ["extra/"],
        ["annotations/1.xml"],
        ["__results__/1.gif"],
        ["unlabelled/1.gif", "unlabelled/2.gif"],
        ["extra/cat/1.gif", "extra/dog/1.gif"],
        ["train/loose.gif"],
        ["test/loose.gif", "readme.txt"],
        [".git/x", "labels.csv"],
    ],
)
def test_what_lies_beside_the_sets_makes_no_classes_of_them(tmp_path, extra):
    put(fill(tmp_path, *THREE), *extra)
    assert find(tmp_path) == {"training": "train", "validation": "val", "evaluation": "test"}


def test_what_lies_beside_the_sets_is_told(tmp_path, paint):
    for number, folder in enumerate([*THREE, "train", "extra"] * 4):
        (tmp_path / "own" / folder).mkdir(parents=True, exist_ok=True)
        paint(number).save(tmp_path / "own" / folder / f"{number}.png")
    put(tmp_path / "own", "empty/")
    report = check_data(build_config({"DATA_LOCAL_DIR": str(tmp_path / "own")}))
    assert report.faults == ()
    assert set(report.classes) == {"cat", "dog"}
    assert "'extra' holds no class folders and was left out" in report.notes
    assert "'empty' holds no pictures and was left out" in report.notes
    (loose,) = [note for note in report.notes if note.startswith("pictures outside the class folders")]
    assert "train/14.png; train/22.png; train/30.png" in loose


@pytest.mark.parametrize(
    ("keys", "sets"),
    [
        # A competition's pictures without labels are no set.
        (["train/cat/1.gif", "train/dog/1.gif", "test/1.gif"], {"training": "train"}),
        (["train/cat/1.gif", "train/dog/1.gif", "test/"], {"training": "train"}),
        (["train/cat/1.gif", "train/dog/1.gif", "test_stg1/1.gif", "test_stg2/1.gif"], {"training": "train"}),
        # A set whose class folders are empty is made from training.
        (["train/cat/1.gif", "train/dog/1.gif", "val/cat/", "val/dog/"], {"training": "train"}),
    ],
)
def test_a_set_without_classes_or_pictures_is_no_set(tmp_path, keys, sets):
    assert find(put(tmp_path, *keys)) == sets


def test_sets_may_lie_in_a_folder_of_their_own_name(tmp_path):
    fill(tmp_path, *(f"seg_{s}/seg_{s}/{c}" for s in ("train", "test") for c in ("sea", "street")))
    put(tmp_path, "seg_pred/seg_pred/1.gif", "seg_pred/seg_pred/2.gif")
    assert find(tmp_path) == {"training": "seg_train/seg_train", "evaluation": "seg_test/seg_test"}


def test_sets_may_lie_in_a_folder_called_images(tmp_path):
    fill(tmp_path, *(f"{s}/images/{c}" for s in ("train", "test") for c in ("sea", "street")))
    assert find(tmp_path) == {"training": "train/images", "evaluation": "test/images"}


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "plane", "car"],
        ["train/2019", "plane", "car"],
        ["train/2019", "train/2020", "test tube", "car"],
        ["train", "test tube", "car"],
        ["tr", "te", "en", "hi"],
        ["test", "plane"],
        ["train station", "bus station", "test tube"],
        ["steam train", "test tube"],
        ["train", "test", "plane", "car"],
        ["trains", "planes"],
        ["dev", "test", "production"],
    ],
)
def test_classes_that_are_called_train_or_test_are_classes(tmp_path, folders):
    assert find(fill(tmp_path, *folders)) is None


@pytest.mark.parametrize(
    "keys",
    [
        ["train/1.gif", "test/1.gif"],
        ["train/1.gif", "test/1.gif", "val/1.gif"],
        ["Training/1.gif", "Testing/1.gif", "extra/1.gif"],
        ["train/1.gif", "test/1.gif", "sample_submission/1.gif"],
        ["train/1.gif", "train/old/2.gif", "test/1.gif"],
        ["X_train/1.gif", "X_test/1.gif"],
        ["seg_train/1.gif", "seg_test/1.gif"],
        ["train/1.gif", "test/cat/1.gif", "test/dog/1.gif"],
        ["train/1.gif", "sample/1.gif"],
        ["train/1.gif", "train (1)/1.gif"],
    ],
)
def test_sets_without_class_folders_are_refused(tmp_path, keys):
    fault = refusal(put(tmp_path, *keys))
    assert "are named like sets" in fault.what
    assert "holds no class folders" in fault.what
    assert "one sub-folder per class" in fault.hint
    assert "DATA_MANIFEST" in fault.hint


@pytest.mark.parametrize("table", ["train.csv", "train/labels.csv", "labels.xlsx"])
def test_a_table_of_labels_beside_the_sets_is_named(tmp_path, table):
    put(tmp_path, "train/1.gif", "test/1.gif", "plane/1.gif", "car/1.gif")
    put(tmp_path, table, "readme.txt", "about.csv", content=b"id,label\n1,cat\n")
    fault = refusal(tmp_path)
    assert f"{tmp_path / table}: set DATA_MANIFEST to it" in fault.hint
    assert "readme" not in fault.hint


def test_two_test_sets_with_classes_beside_training_are_an_error(tmp_path):
    fill(tmp_path, *(f"{s}/{c}" for s in ("train", "public_test", "private_test") for c in ("joy", "fear")))
    assert refusal(tmp_path).what == "private_test and public_test are both the evaluation set"


def test_a_class_that_is_called_as_a_set_is_told(make_classes):
    folder = make_classes({"cat": 4, "dog": 4, "test": 4, "unlabeled": 4})
    report = check_data(build_config({"DATA_LOCAL_DIR": str(folder)}))
    assert set(report.classes) == {"cat", "dog", "test", "unlabeled"}
    line = "taken as a class, although the name is usual for other folders: 'test'; 'unlabeled'"
    assert line in report.notes


def test_sets_without_training_are_refused(tmp_path):
    fault = refusal(fill(tmp_path, "test/a", "val/a"))
    assert (
        "(test, val) are named like validation and evaluation sets, and none like the training set"
        in fault.what
    )


def test_folders_of_one_held_out_set_are_refused(tmp_path):
    assert "(test1, test2) are named like evaluation sets" in refusal(fill(tmp_path, "test1", "test2")).what


def test_two_folders_for_one_set_are_an_error(tmp_path):
    fill(tmp_path / "two", "train/a", "train (1)/a")
    assert refusal(tmp_path / "two").what == "train and train (1) are both the training set"


def test_two_folders_for_one_set_among_others_are_an_error(tmp_path):
    fill(tmp_path, "train/a", "val/a", "validation/a")
    assert refusal(tmp_path).what == "val and validation are both the validation set"


def test_the_inner_folder_is_found_several_levels_down(tmp_path):
    fill(tmp_path, "a/b/c/cat", "a/b/c/dog")
    assert suggest_folder(tmp_path) == tmp_path / "a" / "b" / "c"
    assert suggest_folder(tmp_path / "a" / "b" / "c") is None


@pytest.mark.parametrize("extra", ["extra", "annotations", "sample images"])
def test_training_alone_is_a_split_beside_folders_that_are_no_classes(tmp_path, extra):
    assert find(fill(tmp_path, "train/cat", "train/dog", extra)) == {"training": "train"}


def test_the_sets_are_taken_by_split_and_by_training_alike(make_classes, split):
    for name in ("Training", "Testing", "dev"):
        own = make_classes({"cat": 5, "dog": 5}, name=f"own/{name}").parent
    make_classes({"things": 4}, name="own/extra")
    summary = split(own)
    assert {name: sum(counts.values()) for name, counts in summary.counts.items()} == dict.fromkeys(
        ("training", "validation", "evaluation"), 10
    )
    assert load_sets(own).class_names == load_sets(summary.split_dir).class_names == ("cat", "dog")


def test_a_class_that_training_lacks_is_refused_with_its_set_and_a_cure(make_classes, split):
    own = make_classes({"cat": 5, "dog": 5}, name="own/train").parent
    make_classes({"cat": 2, "Dog": 2, "owl": 2}, name="own/test")
    with pytest.raises(DataError) as caught:
        split(own)
    dog, owl = caught.value.faults
    assert owl.where == "class 'owl'"
    assert owl.what == "it has pictures for evaluation and none for training"
    assert f"add pictures of it to {own / 'train' / 'owl'}, or remove {own / 'test' / 'owl'}" in owl.hint
    assert dog.what == "it has pictures for evaluation and none for training, which has 'dog'"
    assert "give the class one name in all of training, evaluation" in dog.hint
    assert set(split(own, SMALL_CLASSES="skip").counts["evaluation"]) == {"cat"}


def test_a_split_inside_the_data_folder_is_no_class(make_classes, split):
    folder = make_classes({"cat": 5, "dog": 5})
    split(folder, SPLIT_LOCAL_DIR=str(folder.parent / "elsewhere"))
    (folder.parent / "elsewhere").rename(folder / "pets-split")
    summary = split(folder)
    assert set(summary.counts["training"]) == {"cat", "dog"}
    assert "skipped: 1 made by classifold" in summary.notes


def test_the_data_folder_may_not_be_the_one_around_it_and_its_split(make_classes, split, tmp_path):
    folder = make_classes({"cat": 5, "dog": 5}, name="data/pets")
    split(folder)
    report = check_data(build_config({"DATA_LOCAL_DIR": str(tmp_path / "data")}))
    (fault,) = report.faults
    assert f"name {folder} instead" in fault.hint


def test_runs_inside_the_data_folder_are_no_class(make_classes):
    folder = make_classes({"cat": 5, "dog": 5})
    files = ("classes.json", "metrics.json", "model.onnx", "pictures/1.gif")
    put(folder, *(f"runs/lite0-2026/{name}" for name in files[:3]), *(f"a-run/{name}" for name in files))
    report = check_data(build_config({"DATA_LOCAL_DIR": str(folder)}))
    assert set(report.classes) == {"cat", "dog"}
    assert "skipped: 2 made by classifold" in report.notes
    assert "class folder 'runs' holds no pictures and was left out" in report.notes
