from __future__ import annotations

from pathlib import Path

import pytest

from classifold.dataset.leftovers import HIDDEN
from classifold.dataset.walk import FOLDER_LINK
from classifold.pictures.limits import PictureError
from classifold.predict.sources import Passed, file_source, show_path, unreadable_source


def test_a_name_that_is_not_utf_8_or_no_path_at_all_can_be_shown() -> None:
    assert show_path(Path("a\udcff.jpg")) == r"a\xff.jpg"
    assert show_path("\ud800") == r"\ud800"
    assert file_source(Path("a.jpg")).read() == Path("a.jpg")


def test_an_unreadable_source_tells_its_reason_when_it_is_read() -> None:
    source = unreadable_source("-", "too large")
    with pytest.raises(PictureError, match="too large"):
        source.read()


def test_what_is_passed_over_is_counted_by_ending_the_most_frequent_first() -> None:
    passed = Passed()
    assert passed.describe() == []
    for name in ("a.txt", "a.XMP", "b.xmp", "clip.mov", "README"):
        passed.add(name, remark="install av" if name.endswith("mov") else "")
    passed.add("x", reason=HIDDEN)
    passed.add("y", reason=FOLDER_LINK)
    passed.add("z.jxl", reason="JPEG XL picture, which is not read")
    assert passed.describe() == [
        "passed over 8 files: 2 .xmp, 1 .txt, 1 .mov, 1 without an ending, 1 .jxl, 1 hidden, "
        "1 link to a folder",
        ".mov: install av",
        ".jxl: pictures in a format that is not read; save them as JPEG or PNG",
    ]


def test_what_can_be_done_about_several_kinds_is_said_once() -> None:
    passed = Passed()
    for number, ending in enumerate(("psd", "dds", "blp", "fli", "eps")):
        for _ in range(9 - number):
            passed.add(f"a.{ending}", reason="DDS picture, which is not read")
    passed.add("clip.mov", remark="install av")
    for ending in ("jxl", "qoi", "exr", "hdr", "fits", "ras"):
        passed.add(f"a.{ending}", reason="picture, which is not read")
    told = passed.describe()
    assert told[1:] == [
        ".psd, .dds, .blp, .fli, .eps, .jxl, .qoi, .exr and 3 other endings: "
        "pictures in formats that are not read; save them as JPEG or PNG",
        ".mov: install av",
    ]
    assert max(map(len, told)) < 140


def test_ten_thousand_endings_take_no_more_memory_or_room_than_a_few() -> None:
    passed = Passed()
    for number in range(10_000):
        passed.add(f"a.{number}")
    passed.add("a." + "x" * 100)
    assert passed.total == 10_001
    [shown] = passed.describe()
    assert shown.startswith("passed over 10,001 files: 9,801 with other endings, ")
    assert len(shown) < 200


def test_an_ending_cannot_steer_the_terminal() -> None:
    passed = Passed()
    passed.add("a.\x1b[2J")
    assert passed.describe() == ["passed over 1 file: 1 without an ending"]
