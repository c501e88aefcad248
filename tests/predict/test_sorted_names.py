from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.dataset.target_disk import fold_name, make_safe
from classifold.predict.sorted_names import (
    PARTIAL_DIR,
    UNSURE_DIR,
    escape_name,
    iter_file_names,
    make_file_name,
    name_folders,
)

ODD = st.text(st.sampled_from("aAbBcCoOnNuUxX.%/\\:_ \x00\n\t25fF\u0301\u00e9\u00df\ud800") | st.characters())
NAMES = st.lists(ODD.filter(bool), min_size=1, max_size=8, unique=True)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("daisy", "daisy"),
        ("たんぽぽ", "たんぽぽ"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("CON", "%43ON"),
        ("nul.txt", "%6Eul.txt"),
        ("console", "console"),
        ("_unsure", "%5Funsure"),
        ("_Unsure", "%5FUnsure"),
        ("_other", "_other"),
        ("50 %", "50 %"),
        ("50%25", "50%2525"),
        ("what?", "what%3F"),
        ("end. ", "end.%20"),
        ("new\nline", "new%0Aline"),
    ],
)
def test_a_class_whose_name_is_no_folder_name_gets_one_that_can_be_turned_back(
    name: str, folder: str
) -> None:
    assert name_folders([name]) == {name: folder}
    assert unquote(folder) == name


@settings(max_examples=300, deadline=None)
@given(name=ODD.filter(bool))
def test_every_escaped_name_is_safe_and_can_be_turned_back(name: str) -> None:
    escaped = escape_name(name)
    assert unquote(escaped, errors="surrogatepass") == name
    assert make_safe(escaped) == escaped
    assert escaped not in ("", ".", "..")
    assert "/" not in escaped
    assert not escaped.startswith(".")
    assert fold_name(escaped) != UNSURE_DIR
    escaped.encode()


@settings(max_examples=300, deadline=None)
@given(names=NAMES | st.lists(st.text(min_size=50, max_size=300), min_size=1, max_size=4, unique=True))
def test_classes_have_folders_of_their_own_on_disks_that_ignore_case_too(names: list[str]) -> None:
    folders = name_folders(names)
    assert list(folders) == names
    folded = {fold_name(folder) for folder in folders.values()} | {UNSURE_DIR, PARTIAL_DIR}
    assert len(folded) == len(names) + 2
    assert all(0 < len(os.fsencode(folder)) <= 130 for folder in folders.values())
    assert name_folders(names) == folders


def test_classes_that_differ_only_in_case_or_spelling_are_kept_apart() -> None:
    accent = unicodedata.normalize("NFD", "rosé")
    folders = name_folders(["Rose", "rose", "rosé", accent])
    assert folders["Rose"] == "Rose"
    assert folders["rose"].startswith("rose-")
    assert folders["rosé"] == "rosé"
    assert folders[accent] != accent


def test_a_class_of_300_characters_gets_a_short_folder(tmp_path: Path) -> None:
    first, second = "x" * 300, "x" * 299 + "y"
    folders = name_folders([first, second])
    for folder in folders.values():
        assert folder.startswith("x" * 100)
        (tmp_path / folder).mkdir()


@pytest.mark.parametrize(
    ("name", "suffix", "wanted"),
    [
        ("https://host/photos/rose.jpg", "", "rose.jpg"),
        ("s3://bucket/photos/rose", ".jpg", "rose.jpg"),
        ("clip.mp4#t=12.5", ".png", "clip.mp4#t=12.5.png"),
        ("-", ".jpg", "picture.jpg"),
        ("https://host/", ".png", "host.png"),
        ("https://host/..", ".png", "picture.png"),
        ("https://host/a/.bashrc", ".png", "bashrc.png"),
        ("https://host/a:b?.jpg", "", "a_b_.jpg"),
        ("C:\\photos\\nul.jpg", "", "_nul.jpg"),
        ("rose.JPG", ".jpg", "rose.JPG"),
    ],
)
def test_a_picture_from_elsewhere_gets_a_plain_file_name(name: str, suffix: str, wanted: str) -> None:
    assert make_file_name(name, suffix) == wanted


@settings(max_examples=300, deadline=None)
@given(name=ODD | st.text(min_size=100, max_size=400), digest=st.just("0123456789abcdef" * 4))
def test_whatever_a_picture_is_called_its_copy_stays_in_its_folder(name: str, digest: str) -> None:
    wanted = make_file_name(name, ".png")
    own = name.replace("/", "").replace("\0", "").strip(".") or "a"
    for one in (wanted, *iter_file_names(wanted, digest), *iter_file_names(own, digest)):
        assert os.sep not in one
        assert one not in ("", ".", "..")
        assert not one.startswith(".") or own.startswith(".")
    assert len(os.fsencode(wanted)) <= 130
    assert make_safe(wanted) == wanted
