from __future__ import annotations

import os
import socket
import unicodedata

import pytest

from classifold.dataset.layout import find_own_split
from classifold.dataset.scan import load_sets, scan_folder
from classifold.dataset.walk import iter_pictures
from classifold.errors import DataError

PICTURE = b"GIF89a" + bytes(40)


def put(root, *keys, content=PICTURE):
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def keys(root):
    return [picture.key for picture in iter_pictures(root)]


def test_classes_and_pictures_come_in_one_order_whatever_the_disk_s(tmp_path):
    names = ["b/2.jpg", "b/10.jpg", "a/Z.jpg", "a/é.jpg", "a/z.jpg", "B/x.jpg"]
    put(tmp_path, *names)
    scan = scan_folder(tmp_path)
    assert scan.class_names == ("B", "a", "b")
    assert [picture.key for picture in scan.pictures] == [
        "B/x.jpg",
        "a/Z.jpg",
        "a/z.jpg",
        "a/é.jpg",
        "b/10.jpg",
        "b/2.jpg",
    ]


def test_a_name_is_the_same_whether_the_disk_composes_its_accents_or_not(tmp_path):
    put(tmp_path, unicodedata.normalize("NFD", "Köln/café.jpg"), "日本/写真 1.jpg")
    scan = scan_folder(tmp_path)
    assert scan.class_names == ("Köln", "日本")
    assert [picture.key for picture in scan.pictures] == ["Köln/café.jpg", "日本/写真 1.jpg"]
    assert all(picture.path.exists() for picture in scan.pictures)


def test_names_that_are_not_utf8_have_different_printable_keys(tmp_path):
    (tmp_path / "a").mkdir()
    for name in (b"\xff.jpg", b"\xfe.jpg", "é 100%.jpg".encode()):
        with open(os.fsencode(tmp_path) + b"/a/" + name, "wb") as file:  # noqa: PTH123
            file.write(PICTURE)
    pictures = list(iter_pictures(tmp_path))
    assert [picture.key for picture in pictures] == ["a/%FE.jpg", "a/%FF.jpg", "a/é 100%.jpg"]
    assert all(picture.path.exists() for picture in pictures)


def test_hidden_and_junk_files_are_passed_over_and_counted(tmp_path):
    put(tmp_path, "a/1.jpg", "a/.DS_Store", "a/._1.jpg", "a/Thumbs.db", "__MACOSX/a/1.jpg", ".git/x/1.jpg")
    put(tmp_path, "a/.ipynb_checkpoints/1.jpg", "readme.txt")
    put(tmp_path, "a/notes.txt", content=b"hello")
    put(tmp_path, "a/deep.psd", content=b"8BPS" + bytes(60))
    scan = scan_folder(tmp_path)
    assert [picture.key for picture in scan.pictures] == ["a/1.jpg"]
    assert scan.passed_over == {
        "Photoshop picture, which is not read": 1,
        "hidden": 4,
        "left by the system": 2,
        "no picture": 1,
        "outside the class folders": 1,
    }


def test_what_is_a_picture_follows_from_content_but_a_promised_one_is_never_passed_over(tmp_path):
    put(tmp_path, "a/photo", "a/photo.txt", "a/PHOTO.JPG")
    put(tmp_path, "a/broken.jpg", content=b"<html>404</html>")
    put(tmp_path, "a/empty.PNG", content=b"")
    assert keys(tmp_path) == ["a/PHOTO.JPG", "a/broken.jpg", "a/empty.PNG", "a/photo", "a/photo.txt"]


def test_folders_below_a_class_belong_to_it(tmp_path):
    put(tmp_path, "a/1.jpg", "a/2019/july/2.jpg", "a/2018/3.jpg", "b/4.jpg")
    assert keys(tmp_path) == ["a/1.jpg", "a/2018/3.jpg", "a/2019/july/2.jpg", "b/4.jpg"]


def test_a_link_to_itself_is_a_broken_link(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    for place in ("circle", "a/circle.jpg"):
        (tmp_path / place).symlink_to(tmp_path / place)
    scan = scan_folder(tmp_path)
    assert [picture.key for picture in scan.pictures] == ["a/1.jpg", "b/2.jpg"]
    assert scan.passed_over == {"broken link": 1, "outside the class folders": 1}
    assert find_own_split(tmp_path) is None


def test_a_class_may_be_a_link_and_links_cannot_make_a_circle(tmp_path):
    put(tmp_path, "elsewhere/1.jpg", "root/b/2.jpg")
    root = tmp_path / "root"
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "above").symlink_to(root)
    (root / "b" / "circle").symlink_to(root / "b")
    (root / "b" / "gone.jpg").symlink_to("nowhere")
    (root / "b" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    scan = scan_folder(root)
    assert [picture.key for picture in scan.pictures] == ["a/1.jpg", "b/2.jpg", "b/3.jpg"]
    assert scan.passed_over == {"broken link": 1, "link to a folder": 1, "link to a folder above": 1}


def test_pipes_are_passed_over_and_not_waited_for(tmp_path):
    put(tmp_path, "a/1.jpg")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    scan = scan_folder(tmp_path)
    assert (len(scan.pictures), scan.passed_over) == (1, {"not an ordinary file": 1})


def test_an_empty_class_folder_is_noted_and_is_no_class(tmp_path):
    put(tmp_path, "a/1.jpg")
    (tmp_path / "b").mkdir()
    scan = scan_folder(tmp_path)
    assert (scan.class_names, scan.empty_classes) == (("a",), ("b",))


def test_the_sets_of_an_own_split_are_loaded_without_a_split(tmp_path):
    put(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "val/b/4.jpg", "test/b/5.jpg")
    sets = load_sets(tmp_path)
    assert sets.class_names == ("a", "b")
    assert {name: [p.key for p in pictures] for name, pictures in sets.pictures.items()} == {
        "training": ["a/1.jpg", "b/2.jpg"],
        "validation": ["a/3.jpg", "b/4.jpg"],
        "evaluation": ["b/5.jpg"],
    }
    assert sets.notes == ["class 'a' has no evaluation pictures"]


def test_the_fingerprint_follows_from_the_files_and_not_from_where_they_are(tmp_path):
    files = ("train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "val/b/4.jpg", "test/a/5.jpg", "test/b/5.jpg")
    one, two = (load_sets(put(tmp_path / name, *files)).fingerprint for name in ("one", "two"))
    assert one == two
    put(tmp_path / "two", "train/a/6.jpg")
    assert load_sets(tmp_path / "two").fingerprint != one


def test_every_fault_of_the_sets_is_told_at_once(tmp_path):
    put(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "val/b/2.jpg")
    with pytest.raises(DataError) as caught:
        load_sets(tmp_path)
    assert [(fault.where, fault.what) for fault in caught.value.faults] == [
        (str(tmp_path), "there are no evaluation pictures"),
        (str(tmp_path), "class 'b' has no training pictures"),
    ]


@pytest.mark.parametrize(
    "read", [scan_folder, find_own_split, load_sets, lambda root: list(iter_pictures(root))]
)
def test_no_such_folder_and_a_file_in_its_place_are_named_with_a_cure(tmp_path, read):
    put(tmp_path, "file")
    for name, what in (
        ("nowhere", "there is no such folder"),
        ("file", "it is a file, not a folder"),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        (fault,) = caught.value.faults
        assert (fault.where, fault.what) == (str(tmp_path / name), what)
        assert fault.hint


def test_a_folder_that_was_never_split_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="run `classifold split` first"):
        load_sets(put(tmp_path, "a/1.jpg", "b/2.jpg"))


def test_links_out_of_the_data_folder_are_followed_and_told(make_classes, split):
    folder = make_classes({"cat": 4, "dog": 4})
    outside = make_classes({"owl": 4, "cats": 3}, name="outside")
    (folder / "owl").symlink_to(outside / "owl")
    for number, path in enumerate(sorted((outside / "cats").iterdir())):
        (folder / "cat" / f"link{number}.png").symlink_to(os.path.relpath(path, folder / "cat"))
    (folder / "dog" / "inside.png").symlink_to(next((folder / "dog").iterdir()))
    summary = split(folder)
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == 15
    (classes,) = [note for note in summary.notes if "class folder is a link" in note]
    assert classes == (
        f"1 class folder is a link out of the data folder and was followed: owl -> {outside / 'owl'}"
    )
    (pictures,) = [note for note in summary.notes if "pictures are links out" in note]
    assert pictures.startswith(
        "3 pictures are links out of the data folder and were followed, such as cat/link"
    )
    assert str(outside / "cats") in pictures


def test_links_out_of_a_user_s_own_sets_are_told_where_they_are_trained_on(tmp_path):
    put(tmp_path, "elsewhere/1.jpg", *(f"own/{s}/{c}/2.jpg" for s in ("train", "val", "test") for c in "ab"))
    (tmp_path / "own" / "test" / "a" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (note,) = load_sets(tmp_path / "own").notes
    assert note.endswith(f": a/3.jpg -> {tmp_path / 'elsewhere' / '1.jpg'}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_sockets_are_never_opened_wherever_they_lie(tmp_path, make_classes, split, monkeypatch):
    folder = make_classes({"cat": 4, "dog": 4})
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "cat" / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (folder / "cat" / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    (folder / "link").symlink_to(tmp_path / "pipe.jpg")
    (folder / "gone").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder / "dog")  # the path of a socket must be short
        listener.bind("socket.jpg")
        summary = split(folder)
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == 8
    assert "skipped: 3 not ordinary files, 3 outside the class folders" in summary.notes


def test_the_first_link_that_is_passed_over_is_named(make_classes, split):
    folder = make_classes({"cat": 4, "dog": 4})
    outside = make_classes({"daisy": 2}, name="outside") / "daisy"
    (folder / "dog" / "out").symlink_to(outside)
    (folder / "cat" / "gone.jpg").symlink_to("nowhere")
    (folder / "cat" / "lost.jpg").symlink_to("nowhere")
    (folder / "cat" / "loop").symlink_to("loop")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to(folder)
    (note,) = [note for note in split(folder).notes if note.startswith("skipped")]
    assert note == (
        "skipped: 3 broken links (such as cat/gone.jpg -> nowhere), "
        f"1 link to a folder (dog/out -> {outside}), 1 link to a folder above (up -> {folder}), "
        "1 outside the class folders"
    )
