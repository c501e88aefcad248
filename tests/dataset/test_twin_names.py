from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.dataset.check import check_data
from classifold.dataset.twin_names import describe_twins, find_twins
from classifold.settings.loader import build_config


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("Dog", "dog", "capitals"),
        ("STRASSE", "straße", "capitals"),
        ("cat", "cat ", "blanks"),
        ("cat", "\u00a0cat", "blanks"),
        ("a b", "a  b", "blanks"),
        ("owl", "owl\u200b", "invisible letters"),
        ("ha\u00adre", "hare", "invisible letters"),
        ("\ufeffhare", "hare", "invisible letters"),
        ("hare", "hare\u202e", "invisible letters"),
        ("z\u3164", "z", "invisible letters"),
        ("☀", "☀\ufe0f", "invisible letters"),
        ("é", "e\u0301", "how Unicode spells them"),
        ("\uff43at", "cat", "full-width or other special letters"),
        ("ﬁsh", "fish", "full-width or other special letters"),
        ("dog.", "dog", "dots at the end"),
        ("İz", "iz", "capitals"),
        ("IRMAK", "\u0131rmak", "capitals"),
        ("T-shirt", "T_shirt", "hyphens, underscores or blanks"),
        ("c\u0430t", "cat", "letters of another alphabet"),
        ("Big Cat", "big  cat", "blanks and capitals"),
    ],
)
def test_names_that_read_as_one_are_told_with_what_they_differ_in(one, other, how):
    assert find_twins([one, other]) == [(*sorted([one, other]), how)]


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "cats"],
        ["1", "-1"],
        ["12", "1-2", "1 2"],
        ["cafe", "café"],
        ["a", "á"],
        ["+", "-"],
        ["cat", "cat"],
    ],
)
def test_other_names_are_no_twins(names):
    assert find_twins(names) == []


@given(st.text(max_size=8), st.text(max_size=8))
def test_twins_do_not_depend_on_the_order_and_are_never_equal(one, other):
    assert find_twins([one, other]) == find_twins([other, one])
    assert all(first != second and how for first, second, how in find_twins([one, other]))


def test_what_cannot_be_seen_is_shown_as_an_escape():
    (line,) = describe_twins(["owl", "owl\u200b"])
    assert line.startswith(r"classes 'owl' and 'owl\u200b' differ only in invisible letters")
    (line,) = describe_twins(["z", "z\u3164"])
    assert r"'z\u3164'" in line


def test_of_many_pairs_the_first_are_told():
    lines = describe_twins([name for number in range(30) for name in (f"a{number}", f"A{number}")])
    assert len(lines) == 11
    assert lines[-1] == "20 more pairs of class names look the same"


def test_check_and_split_tell_twins(make_classes, split):
    folder = make_classes({"Dog": 4, "dog": 4, "cat": 4, "cat ": 4})
    told = [note for note in split(folder).notes if "differ only" in note]
    assert [note.partition(" differ")[0] for note in told] == [
        "classes 'Dog' and 'dog'",
        "classes 'cat' and 'cat '",
    ]
    notes = check_data(build_config({"DATA_LOCAL_DIR": str(folder)})).notes
    assert [note for note in notes if "differ only" in note] == told


def test_two_folders_of_one_name_are_told(make_classes, split):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    folder = make_classes({composed: 4, apart: 4, "dog": 4})
    summary = split(folder)
    assert sum(counts["café"] for counts in summary.counts.values()) == 8
    assert any("several folders are called 'café'" in note for note in summary.notes)
