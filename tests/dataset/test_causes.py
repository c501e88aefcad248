"""A folder without pictures says what is in it instead, and what to do."""

from __future__ import annotations

import pytest

from classifold.dataset.causes import describe_counts, find_cures
from classifold.dataset.check import check_data
from classifold.errors import DataError
from classifold.settings.loader import build_config

VIDEO = b"\0\0\0\x18ftypisom\0\0\0\0isommp42"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "got", "hint"),
    [
        ("1.mp4", VIDEO, "2 files that hold a video", "ffmpeg"),
        ("1.cr2", b"II*\0\x10\0\0\0CR\2\0", "2 camera's raw pictures, which are not read", "as JPEG or TIFF"),
        ("1.dcm", bytes(128) + b"DICM", "2 DICOM pictures, which are not read", "convert"),
        ("1.zip", b"PK\x03\x04", "2 files that hold a ZIP archive or an office document", "unpack"),
        ("1", LFS, "2 files that hold a Git LFS pointer", "git lfs pull"),
        ("1.psd", b"8BPS", "2 Photoshop pictures, which are not read", "save the pictures as JPEG or PNG"),
    ],
)
def test_what_is_there_in_place_of_pictures_is_named(tmp_path, name, content, got, hint, split):
    for class_name in ("cat", "dog"):
        (tmp_path / "pets" / class_name).mkdir(parents=True)
        (tmp_path / "pets" / class_name / name).write_bytes(content.ljust(200, b"\1"))
    with pytest.raises(DataError) as caught:
        split(tmp_path / "pets")
    (fault,) = caught.value.faults
    assert (fault.what, fault.got) == ("it has no class folder with pictures", got)
    assert hint in fault.hint


@pytest.mark.parametrize(
    ("content", "reason", "hint"),
    [
        (LFS, "24 times: the file holds a Git LFS pointer: run `git lfs pull`", "run `git lfs pull`"),
        (b"<html>", "24 times: the file holds a web page", "download the pictures again"),
    ],
)
def test_where_no_picture_can_be_read_one_line_says_why(tmp_path, content, reason, hint, split):
    for class_name in ("cat", "dog"):
        (tmp_path / "pets" / class_name).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "pets" / class_name / f"{number}.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        split(tmp_path / "pets")
    (fault,) = caught.value.faults
    assert fault.where == str(tmp_path / "pets")
    assert fault.what == "none of the 24 pictures can be read, cat/0.jpg among them"
    assert fault.got == reason
    assert fault.hint.startswith(hint)


def test_a_class_of_unreadable_pictures_says_what_makes_them_readable(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 1})
    for number in range(5):
        (folder / "dog" / f"{number}.jpg").write_bytes(LFS)
    with pytest.raises(DataError) as caught:
        split(folder)
    (fault,) = caught.value.faults
    assert fault.got == "1 (5 cannot be read)"
    assert fault.hint.startswith("run `git lfs pull` where the pictures were cloned; add pictures")


def test_a_check_refers_to_no_file_that_is_not_there(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9})
    for number in range(5):
        (folder / "dog" / f"broken{number}.jpg").write_bytes(b"")
    notes = check_data(build_config({"DATA_LOCAL_DIR": str(folder)})).notes
    (note,) = [note for note in notes if note.startswith("5 pictures cannot be read")]
    assert note.endswith("and 2 more")
    (note,) = [note for note in split(folder).notes if note.startswith("5 pictures cannot be read")]
    assert note.endswith("and 2 more in split.json")


def test_pictures_without_class_folders_and_a_table_beside_them(tmp_path, paint):
    for number in range(3):
        paint(number).save(tmp_path / f"{number}.png")
    where = {"DATA_LOCAL_DIR": str(tmp_path), "SPLIT_LOCAL_DIR": f"{tmp_path}-split"}
    (fault,) = check_data(build_config(where)).faults
    assert fault.hint.startswith("sort the pictures into one sub-folder per class, or list the pictures")
    (tmp_path / "labels.csv").write_text("path,label\n")
    (fault,) = check_data(build_config(where)).faults
    assert f"if the classes are in {tmp_path / 'labels.csv'}, set DATA_MANIFEST to it" in fault.hint


def test_pictures_for_detection_say_that_they_have_no_classes(make_classes):
    folder = make_classes({"train/images": 5, "val/images": 5})
    for name in ("train", "val"):
        (folder / name / "labels").mkdir()
        (folder / name / "labels" / "1.txt").write_text("0 0.5 0.5 1 1")
    (fault,) = check_data(build_config({"DATA_LOCAL_DIR": str(folder)})).faults
    assert fault.got == "only 'images'"
    assert fault.hint.startswith("sort the pictures into one sub-folder per class")


def test_each_cure_is_told_once():
    reasons = ["DICOM picture, which is not read", "files that hold a video", "DICOM picture", "no picture"]
    assert [cure.split()[0] for cure in find_cures(reasons)] == ["convert", "take"]


def test_counts_are_said_as_of_one_file_or_of_several():
    reasons = {
        "hidden": "hidden",
        "files that hold a video": "file that holds a video",
        "icon, which is not read": "icon, which is not read",
        "link to a folder": "link to a folder",
    }
    assert describe_counts(dict.fromkeys(reasons, 1)) == ", ".join(f"1 {one}" for one in reasons.values())
    several = "2 hidden, 2 files that hold a video, 2 icons, which are not read, 2 links to folders"
    assert describe_counts(dict.fromkeys(reasons, 2)) == several
    deep = "PFM picture of floating-point values, which is not read"
    assert describe_counts({deep: 2}) == "2 PFM pictures of floating-point values, which are not read"
