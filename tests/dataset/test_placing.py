"""The pictures of a split are files of their own, under names that the disk takes and tells apart."""

from __future__ import annotations

import json
import os

import pytest

from classifold.dataset.scan import load_sets
from classifold.errors import DataError, DiskError


@pytest.fixture
def folder(make_classes):
    return make_classes({"cat": 8, "dog": 8})


def pictures_of(folder):
    return sorted(path for path in folder.rglob("*.png"))


def read_record(summary):
    return json.loads((summary.split_dir / "split.json").read_text(encoding="utf-8"))


def inodes(folder):
    return {path.stat().st_ino for path in pictures_of(folder)}


def test_changing_a_picture_of_the_split_leaves_the_original_as_it_was(folder, split):
    before = {path: path.read_bytes() for path in pictures_of(folder)}
    sets = split(folder).split_dir
    for path in pictures_of(sets):
        with path.open("r+b") as file:  # in place, as editors do
            file.write(b"edited")
    assert {path: path.read_bytes() for path in pictures_of(folder)} == before


def test_the_last_note_says_what_the_files_are(folder, split):
    size = sum(path.stat().st_size for path in pictures_of(folder))
    copied = split(folder, SPLIT_FILES="copy")
    where = copied.split_dir.name
    assert copied.notes[-1] == f"16 pictures were copied into {where} ({size / 1e6:,.1f} MB)"
    linked = split(folder, SPLIT_FILES="link")
    what = "hard links, which take no disk space: changing one changes its original"
    assert linked.notes[-1] == f"16 pictures are in {where} as {what}"
    assert inodes(linked.split_dir) == inodes(folder)


def test_a_copy_has_the_time_and_the_privacy_of_its_original(folder, split):
    for path in pictures_of(folder):
        path.chmod(0o400)
        os.utime(path, ns=(10**18, 10**18 + 7))
    for path in pictures_of(split(folder).split_dir):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_mtime_ns == 10**18 + 7


def test_splitting_again_copies_only_what_is_new(split, make_classes):
    folder = make_classes({"cat": 30, "dog": 30})
    first = split(folder)
    before, record = inodes(first.split_dir), (first.split_dir / "split.json").read_bytes()
    second = split(folder)
    assert inodes(second.split_dir) == before
    assert (second.split_dir / "split.json").read_bytes() == record
    make_classes({"cat": 2})
    third = split(folder)
    assert len(inodes(third.split_dir) & before) == 60
    assert len(pictures_of(third.split_dir)) == 62
    assert {path.stat().st_nlink for path in pictures_of(third.split_dir)} == {1}


def test_hard_links_become_copies_and_copies_hard_links(folder, split):
    linked = split(folder, SPLIT_FILES="link").split_dir
    assert {path.stat().st_nlink for path in pictures_of(linked)} == {2}
    copied = split(folder).split_dir
    assert {path.stat().st_nlink for path in pictures_of(copied)} == {1}
    assert not inodes(copied) & inodes(folder)
    assert inodes(split(folder, SPLIT_FILES="link").split_dir) == inodes(folder)


def test_two_pictures_of_one_content_are_two_files(make_classes, split):
    make_classes({"cat": 5, "dog": 5}, name="pets/train")
    own = make_classes({}, name="pets")
    for path in pictures_of(own / "train"):
        for name in ("val", "test"):
            copy = own / name / path.relative_to(own / "train")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for _ in range(2):
        sets = split(own).split_dir
        assert len(inodes(sets)) == len(pictures_of(sets)) == 30


def test_a_picture_that_is_a_link_is_copied_from_where_it_points(folder, split, tmp_path):
    path = pictures_of(folder)[0]
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    for way in ("link", "copy"):
        sets = split(folder, SPLIT_FILES=way).split_dir
        assert len(pictures_of(sets)) == 16
        assert not any(picture.is_symlink() for picture in pictures_of(sets))


# Room


def test_copies_that_take_more_than_half_of_the_room_are_hard_links(mount, make_classes, split, tmp_path):
    disk = mount("size=4m")
    pets = disk / "pets"
    make_classes({"cat": 4, "dog": 4}).rename(tmp_path / "drawn")
    for path in pictures_of(tmp_path / "drawn"):
        place = pets / path.relative_to(tmp_path / "drawn")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes() + bytes(150_000))  # what follows the end of a PNG is nothing
    assert "8 pictures were copied into " in split(pets).notes[-1]  # 1.2 of 2.8 MB
    for path in pictures_of(disk / "pets-split"):
        path.unlink()
    (disk / "pets-split" / "split.json").unlink()
    (disk / "filler").write_bytes(bytes(900_000))
    linked = split(pets, SPLIT_LOCAL_DIR=str(disk / "other"))
    assert "8 pictures are in other as hard links" in linked.notes[-1]
    (disk / "filler").write_bytes(bytes(2_200_000))
    with pytest.raises(DiskError) as caught:
        split(pets, SPLIT_LOCAL_DIR=str(disk / "third"), SPLIT_FILES="copy")
    assert "the copies of the pictures need 1 MB" in str(caught.value)
    assert 'set SPLIT_FILES = "link"' in caught.value.faults[0].hint
    assert not (disk / "third").exists()


def test_why_pictures_on_another_disk_are_not_linked_is_told(mount, make_classes, split):
    folder = make_classes({"cat": 4, "dog": 4})
    disk = mount("size=4m")
    settings = {"SPLIT_LOCAL_DIR": str(disk / "sets"), "SPLIT_FILES": "link"}
    why = "hard links cannot cross disks, and the pictures are on another one"
    assert split(folder, **settings).notes[-1].endswith(f" MB: {why})")
    for path in pictures_of(folder):
        path.write_bytes(path.read_bytes() + bytes(1_000_000))
    with pytest.raises(DiskError) as caught:
        split(folder, **settings)
    (fault,) = caught.value.faults
    assert fault.what.startswith(f"{why}; the copies of the pictures need 8 MB, and ")
    assert fault.hint.endswith(
        "SPLIT_LOCAL_DIR to a folder on the pictures' own disk: hard links take no space"
    )


# Clones


def test_where_the_disk_has_clones_they_take_no_room(mount_image, make_classes, split, tmp_path):
    disk = mount_image("btrfs")
    (disk / "pets").mkdir()
    for path in pictures_of(make_classes({"cat": 5, "dog": 5})):
        place = disk / path.relative_to(tmp_path)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(path.read_bytes() + bytes(1_000_000))
    os.sync()
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    for _ in range(2):
        summary = split(disk / "pets")
        what = "clones, which take disk space only where they or the originals change"
        assert summary.notes[-1] == f"10 pictures were copied into {summary.split_dir.name} ({what})"
    os.sync()
    assert free - os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize < 5_000_000
    assert not inodes(summary.split_dir) & inodes(disk / "pets")
    assert load_sets(summary.split_dir).fingerprint == summary.fingerprint
    path = pictures_of(summary.split_dir)[0]
    original = disk / "pets" / path.parent.name / path.name
    before = original.read_bytes()
    path.write_bytes(b"edited")
    assert original.read_bytes() == before


# Names that the disk does not take


def test_names_that_the_disk_tells_apart_by_nothing_become_unique(mount_image, make_classes, split, tmp_path):
    disk = mount_image("exfat")
    folder = make_classes({"cat": 10, "dog": 4, "dog/sub": 3, "dog/Sub": 3})
    names = [
        "P.png",
        "p.png",
        "caf\u00e9.png",
        "CAF\u00c9.png",
        "12:30:01.png",
        "why?.png",
        "CON.png",
        "x" * 251,
    ]
    for path, name in zip(sorted((folder / "cat").iterdir()), names, strict=False):
        path.rename(path.with_name(name if "." in name else f"{name}.png"))
    for name in ("sub", "Sub"):
        min((folder / "dog" / name).iterdir()).rename(folder / "dog" / name / "same.png")
    for _ in range(2):
        summary = split(folder, SPLIT_LOCAL_DIR=str(disk / "sets"))
        assert sum(sum(counts.values()) for counts in summary.counts.values()) == 20
        assert len(pictures_of(disk / "sets")) == 20
        sets = load_sets(disk / "sets")
        assert sets.fingerprint == summary.fingerprint
        assert not any("changed since" in note for note in sets.notes)
    places = {f"{one['set']}/{one['key']}" for one in read_record(summary)["pictures"]}
    assert places == {path.relative_to(disk / "sets").as_posix() for path in pictures_of(disk / "sets")}
    assert {one["source"] for one in read_record(summary)["pictures"]} == {
        path.relative_to(folder).as_posix() for path in pictures_of(folder)
    }
    (note,) = [note for note in summary.notes if "have another name in the split" in note]
    assert " is cat/" in note


def test_classes_that_cannot_lie_side_by_side_are_refused_together(mount_image, make_classes, split):
    disk = mount_image("exfat")
    folder = make_classes({"Dog": 4, "dog": 4, "cat: black": 4, "owl?": 4, "eel": 4})
    (folder / "eel" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError) as caught:
        split(folder, SPLIT_LOCAL_DIR=str(disk / "sets"), UNREADABLE_PICTURES="fail")
    where = f"the disk of {disk / 'sets'}"
    assert [(fault.where, fault.what) for fault in caught.value.faults] == [
        ("class 'cat: black'", f"its name is not accepted by {where}"),
        ("class 'dog'", f"{where} takes it and 'Dog' for the same folder"),
        ("class 'owl?'", f"its name is not accepted by {where}"),
    ]
    assert all("SPLIT_LOCAL_DIR" in fault.hint for fault in caught.value.faults)
    assert list(disk.iterdir()) == []


def test_a_split_folder_whose_own_name_is_refused(mount_image, folder, split):
    disk = mount_image("exfat")
    for name in ("a:b", "a:b/sets"):
        with pytest.raises(DiskError, match="its disk does not accept a folder of this name"):
            split(folder, SPLIT_LOCAL_DIR=str(disk / name))
    assert list(disk.iterdir()) == []


SPLIT = """
import json, sys
from classifold.settings.loader import build_config
from classifold.dataset.split import split_dataset
from classifold.errors import ClassifoldError
settings = dict(zip(("DATA_LOCAL_DIR", "SPLIT_LOCAL_DIR", "SPLIT_FILES"), sys.argv[1:], strict=True))
try:
    print(json.dumps(split_dataset(build_config({**settings, "NUM_WORKERS": 2})).notes))
except ClassifoldError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.parametrize("way", ["auto", "link"])
def test_characters_that_the_disk_refuses_are_replaced(folder, run_python, poor_disk, tmp_path, way):
    path = min((folder / "cat").iterdir())
    path.rename(path.with_name("12:30:01.png"))
    target = tmp_path / "disk" / "sets"
    target.parent.mkdir()
    done = run_python("-c", SPLIT, folder, target, way, env=poor_disk(folder=target.parent, refused=":?"))
    assert done.err == ""
    assert any("1 picture has another name in the split" in note for note in json.loads(done.out))
    assert len(pictures_of(target)) == 16
    (renamed,) = [one for one in pictures_of(target) if one.name.startswith("12_30_01-")]
    assert renamed.read_bytes() == (folder / "cat" / "12:30:01.png").read_bytes()


def test_a_class_that_the_disk_refuses_is_named(folder, run_python, poor_disk, tmp_path):
    (folder / "cat").rename(folder / "cat: black")
    target = tmp_path / "disk" / "sets"
    target.parent.mkdir()
    done = run_python("-c", SPLIT, folder, target, "auto", env=poor_disk(folder=target.parent, refused=":"))
    assert "error: class 'cat: black': its name is not accepted by the disk of" in json.loads(done.out)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("lock_error", [37, 38, 95], ids=["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_disk_without_locks_is_split_to_and_it_is_said(folder, run_python, poor_disk, tmp_path, lock_error):
    done = run_python("-c", SPLIT, folder, tmp_path / "sets", "auto", env=poor_disk(lock_error=lock_error))
    assert len(pictures_of(tmp_path / "sets")) == 16
    assert (
        done.err
        == f"note: the disk of {tmp_path / 'sets'} does not support locks: let no other run write there now\n"
    )
