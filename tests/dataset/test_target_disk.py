"""Names that a disk does not take or not tell apart get others that every disk does."""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from classifold.dataset.target_disk import (
    changes_endings,
    check_class_names,
    fold_name,
    is_folding,
    iter_safe_keys,
    make_safe,
)
from classifold.errors import DataError

DIGEST = "0123456789abcdef" * 4
NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=300
)
NAMES = NAMES.filter(lambda name: name not in (".", ".."))


@example("x" * 254 + " y", "0")
@example("0", "a." + "x" * 18 + " y")
@given(NAMES, NAMES)
def test_every_key_has_names_at_last_that_any_disk_takes(folder, name):
    *_, safe, last = iter_safe_keys(f"cat/{folder}/{name}", DIGEST)
    assert last.startswith(f"cat/{DIGEST[:24]}")
    assert last.isascii()
    for part in safe.split("/")[1:]:
        assert 0 < len(part.encode()) <= 255
        assert not set(part) & set('<>:"\\|?*\0\n\t')
        assert part == part.rstrip(". ")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("12:30:01", "12_30_01"),
        ('a<b>c"d|e?f*g\\h', "a_b_c_d_e_f_g_h"),
        ("end. .", "end_"),
        ("blank ", "blank_"),
        ("CON", "_CON"),
        ("nul.tar", "_nul.tar"),
        ("com1", "_com1"),
        ("console", "console"),
        ("na\u00efve \u732b", "na\u00efve \u732b"),
    ],
)
def test_what_windows_and_its_disks_refuse_is_replaced(name, safe):
    assert make_safe(name) == safe


def test_the_ending_stays_and_the_content_makes_the_name_unique():
    first, *_ = iter_safe_keys("cat/sub/p 1.jpeg", DIGEST)
    assert first == "cat/sub/p 1-0123456789ab.jpeg"


@given(st.text(string.ascii_letters + "\u00e9\u00c9e\u0301\u00df\u0130"))
def test_what_differs_in_case_or_spelling_folds_to_one(name):
    assert fold_name(name) == fold_name(unicodedata.normalize("NFD", name))
    assert fold_name(name.lower()) == fold_name(fold_name(name.lower()))


def test_a_common_disk_takes_all_names_and_is_left_as_it_was(tmp_path):
    check_class_names(tmp_path, ["Dog", "dog", "cat: black", "end.", "blank "], split_dir=tmp_path)
    assert not is_folding(tmp_path)
    assert not changes_endings(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_class_name_that_is_too_long_is_named_with_a_cure(tmp_path):
    with pytest.raises(DataError) as caught:
        check_class_names(tmp_path, ["cat", "d" * 300], split_dir=tmp_path)
    (fault,) = caught.value.faults
    assert fault.what == f"its name is too long for the disk of {tmp_path}"
    assert "rename the class folder" in fault.hint


def test_many_faults_are_counted(tmp_path):
    with pytest.raises(DataError) as caught:
        check_class_names(tmp_path, [f"{number}{'d' * 300}" for number in range(30)], split_dir=tmp_path)
    assert len(caught.value.faults) == 21
    assert caught.value.faults[20].where == "10 more"


def test_a_disk_that_folds_is_found_out(mount_image):
    disk = mount_image("exfat")
    assert is_folding(disk)
    assert list(disk.iterdir()) == []
