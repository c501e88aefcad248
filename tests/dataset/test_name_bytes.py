from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.dataset.check import check_data
from classifold.dataset.name_bytes import check_folder_names, clean_name, guess_encodings, is_utf8
from classifold.dataset.scan import load_sets
from classifold.errors import DataError
from classifold.settings.loader import build_config


@pytest.mark.parametrize(
    ("names", "codec", "title"),
    [
        (["猫", "狗", "马"], "gbk", "GBK"),
        (["玫瑰花"], "gbk", "GBK"),
        (["猫", "いぬ"], "cp932", "Shift-JIS"),
        (["貓", "狗"], "big5", "Big5"),
        (["고양이", "개"], "cp949", "EUC-KR"),
        (["кошка", "Собака"], "cp1251", "Windows-1251"),
        (["café"], "latin-1", "Latin-1"),
        (["Größe", "Äpfel", "été"], "latin-1", "Latin-1"),
    ],
)
def test_the_usual_encodings_are_among_the_guesses(names, codec, title):
    raw = [name.encode(codec) for name in names]
    guesses = {found: python for _, found, python in guess_encodings(raw)}
    assert [one.decode(guesses[title]) for one in raw] == names


def test_what_no_encoding_explains_is_not_guessed():
    assert guess_encodings([b"\x80\x81\x82"]) == []


def test_a_name_keeps_its_letters_and_shows_bytes_that_are_not_utf8():
    assert clean_name("plain %41.jpg") == "plain %41.jpg"
    assert clean_name("e\u0301") == "\u00e9"
    assert clean_name(os.fsdecode(b"caf\xe9 %41")) == "caf%E9 %2541"


@given(st.binary(min_size=1, max_size=12).filter(lambda raw: b"\0" not in raw and b"/" not in raw))
def test_a_clean_name_is_text_that_any_file_can_hold(raw):
    name = os.fsdecode(raw)
    clean = clean_name(name)
    assert clean.encode()
    assert unicodedata.is_normalized("NFC", clean)
    assert is_utf8(name) or "%" in clean


@given(st.sets(st.binary(min_size=1, max_size=3), min_size=2, max_size=6))
def test_names_that_are_not_utf8_stay_different(several):
    strange = [os.fsdecode(raw) for raw in several if not is_utf8(os.fsdecode(raw))]
    assert len({clean_name(name) for name in strange}) == len(strange)


def make_bytes_folder(root: Path, raw: bytes) -> None:
    try:
        os.mkdir(os.fsencode(root) + b"/" + raw)  # noqa: PTH102 - bytes
    except OSError:
        pytest.skip("this disk takes names of UTF-8 alone")


def test_class_folders_that_are_not_utf8_are_all_refused_with_their_reading_and_a_cure(tmp_path, paint):
    for number, text in enumerate(["猫", "狗", "马"]):
        make_bytes_folder(tmp_path, text.encode("gbk"))
        paint(number).save(os.fsdecode(os.fsencode(tmp_path) + b"/" + text.encode("gbk") + b"/1.png"))
    report = check_data(
        build_config({"DATA_LOCAL_DIR": str(tmp_path), "SPLIT_LOCAL_DIR": f"{tmp_path}-split"})
    )
    # The bytes of the third one are UTF-8 by accident.
    assert [fault.where for fault in report.faults] == [f"{tmp_path}/{name}" for name in ("%B9%B7", "%C2%ED")]
    first = report.faults[0]
    assert first.what == "the class folder's name is not UTF-8"
    assert first.got.startswith(r"'\xb9\xb7', which is '狗' in GBK")
    assert f"convmv -f gbk -t utf-8 --notest -r {tmp_path}" in first.hint
    assert first.hint.endswith("; 'è' may be '猫' and needs --nosmart as well")


def test_of_many_such_folders_the_first_are_told():
    folders = [Path("data") / os.fsdecode(b"\xff%d" % number) for number in range(50)]
    with pytest.raises(DataError) as caught:
        check_folder_names(folders)
    assert len(caught.value.faults) == 21
    assert caught.value.faults[20].where == "30 more class folders"


def test_files_that_are_not_utf8_keep_different_names_in_the_split(make_classes, split, contents, paint):
    folder = make_classes({"cat": 4, "dog": 4})
    for number, text in enumerate(["花", "狗", "马"]):
        place = os.fsencode(folder) + b"/cat/" + text.encode("gbk") + b".png"
        try:
            paint(900 + number).save(os.fsdecode(place))
        except OSError:
            pytest.skip("this disk takes names of UTF-8 alone")
    summary = split(folder)
    keys = {key for files in contents(summary.split_dir).values() for key in files}
    assert {"cat/%BB%A8.png", "cat/%B9%B7.png", "cat/%C2%ED.png"} <= keys
    (note,) = [note for note in summary.notes if "not UTF-8" in note]
    assert note.startswith("3 file names are not UTF-8")
    assert load_sets(summary.split_dir).fingerprint == summary.fingerprint
