from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold import names
from classifold.dataset.set_names import find_families, is_auxiliary, match_sets, name_set


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train", "training"),
        ("Train - Copy", "training"),
        ("trainImages", "training"),
        ("my training set", "training"),
        ("Validación", "validation"),
        ("Doğrulama", "validation"),
        ("test_cropped", "evaluation"),
        ("HeldOut", "evaluation"),
        ("held_out", "evaluation"),
        ("テスト用", "evaluation"),
        ("train_test", None),
        ("contest", None),
        ("protest", None),
        ("trains", None),
        ("steam train", None),
        ("evening", None),
        ("valley", None),
        ("", None),
        ("123", None),
    ],
)
def test_which_set_a_name_means(name, meant):
    assert name_set(name) == meant


@pytest.mark.parametrize("name", [alias for aliases in names.SET_ALIASES.values() for alias in aliases])
def test_every_alias_means_its_set_in_any_case(name):
    (meant,) = [one for one, aliases in names.SET_ALIASES.items() if name in aliases]
    assert name_set(name) == name_set(name.upper()) == name_set(f"{name}_data") == meant


def test_neighbours_that_differ_in_the_set_alone_are_sets():
    assert match_sets(["rps_train", "rps_test", "rps_extra"]) == {
        "rps_train": "training",
        "rps_test": "evaluation",
    }
    assert match_sets(["train station", "bus station", "test tube"]) == {}


def test_several_such_groups_are_told_apart():
    assert set(find_families(["cat_train", "cat_test", "dog_train", "dog_test", "owl"])) == {
        ("cat",),
        ("dog",),
    }
    assert match_sets(["cat_train", "cat_test", "dog_train", "dog_test"]) == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("annotations", True),
        ("__results__", True),
        ("Extra Images", True),
        ("cat", False),
        ("mask_off", False),
        ("0", False),
    ],
)
def test_which_folders_are_no_classes_by_their_names(name, expected):
    assert is_auxiliary(name) is expected


@given(st.lists(st.text(max_size=12), unique=True, max_size=5))
def test_no_name_breaks_the_reading_of_names(several):
    assert set(match_sets(several)) <= set(several)
