from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from classifold.dataset.scan import load_sets
from classifold.errors import DataError, DiskError, SettingsError
from classifold.names import SETS


def faults(caught):
    return [(fault.where, fault.what) for fault in caught.value.faults]


def where_is(contents, split_dir):
    return {data: name for name, files in contents(split_dir).items() for data in files.values()}


def test_every_picture_goes_to_one_set_and_every_class_to_all(make_classes, split, contents):
    folder = make_classes({"cat": 30, "dog": 12, "eel": 3})
    summary = split(folder)
    files = contents(summary.split_dir)
    assert sorted(key for keys in files.values() for key in keys) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png")
    )
    assert all(set(summary.counts[name]) == {"cat", "dog", "eel"} for name in SETS)
    assert summary.split_dir == folder.with_name("pets-split")
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == 45


def test_splitting_again_gives_the_same_folder_and_fingerprint(make_classes, split, contents):
    folder = make_classes({"cat": 20, "dog": 20})
    first = split(folder)
    before = contents(first.split_dir)
    second = split(folder)
    assert contents(second.split_dir) == before
    assert second.fingerprint == first.fingerprint == load_sets(first.split_dir).fingerprint
    assert sorted(path.name for path in folder.parent.iterdir()) == ["pets", "pets-split"]


def test_the_division_is_the_same_on_every_machine(make_classes, split):
    # The numbers follow from the pictures' bytes: a change here mixes the sets of every user.
    folder = make_classes({"cat": 0, "dog": 0})
    for number in range(40):
        for class_name in ("cat", "dog"):
            text = f"P6 {class_name} {number}".encode()
            path = folder / class_name / f"{number}.bmp"
            path.write_bytes(_bmp(text))
    summary = split(folder)
    assert {name: sum(counts.values()) for name, counts in summary.counts.items()} == EXPECTED_COUNTS
    assert summary.fingerprint == EXPECTED_FINGERPRINT


def _bmp(text: bytes) -> bytes:
    """Return a one-row picture whose pixels are the text."""
    row = text.ljust(24, b".")[:24]
    header = b"BM" + (54 + 24).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = [(40, 4), (8, 4), (1, 4), (1, 2), (24, 2), (0, 4), (24, 4), (2835, 4), (2835, 4), (0, 4), (0, 4)]
    return header + b"".join(value.to_bytes(size, "little") for value, size in info) + row


EXPECTED_COUNTS = {"training": 56, "validation": 12, "evaluation": 12}
EXPECTED_FINGERPRINT = "59eb4e71c6eb126b4a53efb537033083bb5fb1a49f4a826a47a7b3a295e78d71"


def test_adding_renaming_and_other_shares_move_nothing_into_training(make_classes, split, contents):
    folder = make_classes({"cat": 40, "dog": 40})
    before = where_is(contents, split(folder).split_dir)
    make_classes({"cat": 30, "eel": 10})
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"renamed {number}.png"))
    for shares in ((0.3, 0.3), (0.01, 0.01), (0.15, 0.15)):
        summary = split(folder, PERCENTAGE_VAL=shares[0], PERCENTAGE_EVAL=shares[1])
        after = where_is(contents, summary.split_dir)
        for data, name in before.items():
            assert name == "training" or after[data] == name
        before = after


def test_every_class_has_its_share_and_more_pictures_or_a_larger_share_keep_it(make_classes, split):
    folder = make_classes({"cat": 87, "dog": 141})
    assert count_held_out(split(folder)) == {"cat": (13, 13), "dog": (21, 21)}
    make_classes({"cat": 30, "eel": 10})
    assert count_held_out(split(folder)) == {"cat": (18, 18), "dog": (21, 21), "eel": (2, 2)}
    larger = split(folder, PERCENTAGE_EVAL=0.3)
    assert count_held_out(larger) == {"cat": (18, 35), "dog": (21, 42), "eel": (2, 3)}
    assert not any("not divided by the shares" in note for note in larger.notes)


def test_a_split_that_an_earlier_version_made_unevenly_is_kept_and_told(make_classes, split, contents):
    folder = make_classes({"cat": 80, "dog": 80})
    first = split(folder, PERCENTAGE_VAL=0.05)
    before = where_is(contents, first.split_dir)
    record = first.split_dir / "split.json"  # earlier versions drew for each picture alone
    record.write_text(record.read_text().replace('"validation": 0.05', '"validation": 0.15'))
    again = split(folder)
    assert where_is(contents, again.split_dir) == before
    (note,) = [note for note in again.notes if "not divided by the shares" in note]
    assert note.startswith(
        "2 classes are not divided by the shares ('cat' has 4 of its 80 pictures in validation instead of 12"
    )
    assert f"since pictures keep the sets they had: delete {first.split_dir}" in note
    make_classes({"cat": 20})
    assert count_held_out(split(folder)) == {"cat": (10, 15), "dog": (4, 12)}


def test_a_set_of_the_user_s_own_that_is_gone_is_made_from_training(make_classes, split):
    own = make_classes({"cat": 40, "dog": 40}, name="pets/train").parent
    make_classes({"cat": 4, "dog": 4}, name="pets/test")
    make_classes({"cat": 4, "dog": 4}, name="pets/val")
    assert count_held_out(split(own)) == {"cat": (4, 4), "dog": (4, 4)}
    shutil.rmtree(own / "val")
    assert count_held_out(split(own)) == {"cat": (6, 4), "dog": (6, 4)}


def count_held_out(summary):
    """Return {class: (pictures in validation, in evaluation)}."""
    validation, evaluation = summary.counts["validation"], summary.counts["evaluation"]
    return {name: (validation[name], evaluation[name]) for name in summary.counts["training"]}


def test_another_seed_divides_anew_only_when_the_folder_is_gone(make_classes, split, contents):
    folder = make_classes({"cat": 40, "dog": 40})
    first = split(folder)
    before = where_is(contents, first.split_dir)
    summary = split(folder, SPLIT_SEED=1)
    assert where_is(contents, summary.split_dir) == before
    assert any("delete" in note and "to divide from scratch" in note for note in summary.notes)
    shutil.rmtree(first.split_dir)
    assert where_is(contents, split(folder, SPLIT_SEED=1).split_dir) != before


def test_what_was_held_out_is_remembered_while_it_is_away(make_classes, split, contents, tmp_path):
    folder = make_classes({"cat": 40, "dog": 40})
    held = {d: n for d, n in where_is(contents, split(folder).split_dir).items() if n != "training"}
    shutil.move(folder / "cat", tmp_path / "away")
    make_classes({"cow": 10})
    split(folder)
    shutil.move(tmp_path / "away", folder / "cat")
    after = where_is(contents, split(folder, PERCENTAGE_VAL=0.01, PERCENTAGE_EVAL=0.01).split_dir)
    assert all(after[data] == name for data, name in held.items())


def test_copies_are_written_once_and_counted(make_classes, split, contents):
    folder = make_classes({"cat": 6, "dog": 6})
    for path in sorted((folder / "cat").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    summary = split(folder)
    assert sum(counts["cat"] for counts in summary.counts.values()) == 6
    assert any("6 exact copies within a class were left out" in note for note in summary.notes)
    record = json.loads((summary.split_dir / "split.json").read_text())
    assert len(record["copies"]) == 6


def test_a_picture_in_two_classes_is_in_no_set_and_named(make_classes, split, contents):
    folder = make_classes({"cat": 6, "dog": 6})
    shutil.copy(next((folder / "cat").iterdir()), folder / "dog" / "which.png")
    summary = split(folder)
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == 11
    (note,) = [note for note in summary.notes if "in two classes" in note]
    assert "dog/which.png" in note
    assert "dog/which.png" not in {key for files in contents(summary.split_dir).values() for key in files}


def test_a_group_is_never_divided(make_classes, split, contents):
    folder = make_classes({"cat": 30, "dog": 30})
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"patient{number % 11}_{number}.png"))
    summary = split(folder, SPLIT_GROUP_PATTERN=r"(patient\d+)_")
    files = contents(summary.split_dir)
    groups = [{key.split("/")[1].split("_")[0] for key in files[name]} for name in SETS]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert any("puts 60 pictures in 11 groups" in note for note in summary.notes)


def test_a_class_of_too_few_groups_says_so(make_classes, split):
    folder = make_classes({"cat": 30, "dog": 30})
    with pytest.raises(DataError) as caught:
        split(folder, SPLIT_GROUP_PATTERN="^[^/]+/")
    assert "in 1 group of SPLIT_GROUP_PATTERN" in str(caught.value)
    assert not folder.with_name("pets-split").exists()


@pytest.mark.parametrize("validation", [None, "val"])
def test_a_split_of_the_user_s_own_is_taken_as_it_is(make_classes, split, contents, validation):
    folder = make_classes({"cat": 20, "dog": 20}, name="pets/train")
    own = make_classes({"cat": 4, "dog": 4}, name="pets/test").parent
    if validation:
        make_classes({"cat": 3, "dog": 3}, name=f"pets/{validation}")
    summary = split(own)
    files = contents(summary.split_dir)
    assert set(files["evaluation"]) == {p.relative_to(own / "test").as_posix() for p in own.glob("test/*/*")}
    if validation:
        assert (len(files["training"]), len(files["validation"])) == (40, 6)
    else:
        assert len(files["training"]) + len(files["validation"]) == 40
        assert set(summary.counts["validation"]) == {"cat", "dog"}
        assert "there was no validation set: a share of training was used for it" in summary.notes
    assert folder.exists()


def test_a_picture_in_two_sets_of_the_user_s_own_is_told_and_left(make_classes, split):
    own = make_classes({"cat": 6, "dog": 6}, name="pets/train").parent
    for name in ("val", "test"):
        shutil.copytree(own / "train", own / name)
    summary = split(own)
    assert {name: sum(counts.values()) for name, counts in summary.counts.items()} == dict.fromkeys(SETS, 12)
    assert any("12 pictures are in two sets of your own split" in note for note in summary.notes)


def test_unreadable_pictures_are_named_and_skipped(make_classes, split):
    folder = make_classes({"cat": 6, "dog": 6})
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (folder / "dog" / "page.png").write_bytes(b"<html>not found</html>")
    summary = split(folder)
    assert [picture.key for picture in summary.unreadable] == ["cat/broken.jpg", "dog/page.png"]
    assert summary.unreadable[1].reason == "the file holds a web page"
    assert any(note.startswith("2 pictures cannot be read and are in no set") for note in summary.notes)


def test_unreadable_pictures_are_fatal_where_the_settings_say_so(make_classes, split):
    folder = make_classes({"cat": 6, "dog": 6})
    for number in range(30):
        (folder / "cat" / f"broken{number:02}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        split(folder, UNREADABLE_PICTURES="fail")
    assert len(caught.value.faults) == 21
    assert faults(caught)[0] == ("cat/broken00.jpg", "the file is empty")
    assert caught.value.faults[20].where == "10 more"
    assert not folder.with_name("pets-split").exists()


def test_notes_name_what_was_passed_over(make_classes, split, paint):
    folder = make_classes({"cat": 6, "dog": 6})
    (folder / "empty").mkdir()
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    paint(9999).save(folder / "loose.png")
    notes = split(folder).notes
    assert "skipped: 1 hidden, 1 outside the class folders" in notes
    assert "pictures outside the class folders are left out: loose.png" in notes
    assert "class folder 'empty' holds no pictures and was left out" in notes


def test_names_that_differ_only_in_their_spelling_do_not_collide(make_classes, split, contents):
    folder = make_classes({"cat": 4, "dog": 4})
    first, second = sorted((folder / "cat").iterdir())[:2]
    first.rename(folder / "cat" / "caf\u00e9.png")
    second.rename(folder / "cat" / "cafe\u0301.png")
    summary = split(folder)
    assert sum(len(files) for files in contents(summary.split_dir).values()) == 8
    assert load_sets(summary.split_dir).fingerprint == summary.fingerprint


def test_the_record_says_where_everything_went(make_classes, split):
    folder = make_classes({"cat": 6, "dog": 6})
    summary = split(folder, SPLIT_SEED=5)
    record = json.loads((summary.split_dir / "split.json").read_text(encoding="utf-8"))
    assert record["seed"] == 5
    assert record["fingerprint"] == summary.fingerprint
    assert record["counts"] == summary.counts
    assert len(record["pictures"]) == 12
    assert set(record["pictures"][0]) == {"set", "key", "source", "sha256", "size", "mtime_ns"}


def test_loading_says_when_the_files_were_changed_since_the_split(make_classes, split):
    summary = split(make_classes({"cat": 9, "dog": 9}))
    victim = next((summary.split_dir / "training" / "cat").iterdir())
    victim.unlink()
    sets = load_sets(summary.split_dir)
    assert sets.fingerprint != summary.fingerprint
    assert any("changed since the split" in note for note in sets.notes)


# Bad input: one line with a cure, and nothing half-written.


def refused(split, folder, **settings):
    before = sorted(path.name for path in folder.parent.iterdir())
    with pytest.raises((DataError, DiskError, SettingsError)) as caught:
        split(folder, **settings)
    assert sorted(path.name for path in folder.parent.iterdir()) == before
    assert all(fault.hint for fault in caught.value.faults)
    return faults(caught)


def test_no_such_folder(tmp_path, split):
    assert refused(split, tmp_path / "nowhere") == [(str(tmp_path / "nowhere"), "there is no such folder")]


def test_an_empty_folder(tmp_path, split):
    (tmp_path / "empty").mkdir()
    assert refused(split, tmp_path / "empty")[0][1] == "it has no class folder with pictures"


def test_pictures_without_class_folders(tmp_path, split, paint):
    (tmp_path / "flat").mkdir()
    paint(1).save(tmp_path / "flat" / "1.png")
    assert refused(split, tmp_path / "flat")[0][1] == "it has no class folder with pictures"


def test_one_class(make_classes, split):
    assert refused(split, make_classes({"cat": 9}))[0][1].startswith(
        "a classifier needs at least two classes"
    )


def test_every_class_with_too_few_pictures_is_named(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 1, "eel": 2})
    what = "too few pictures: expected at least 3, one for each set"
    assert refused(split, folder) == [("class 'dog'", what), ("class 'eel'", what)]


def test_a_class_whose_pictures_are_broken_or_copies_says_so(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 2})
    shutil.copy(next((folder / "dog").iterdir()), folder / "dog" / "copy.png")
    (folder / "dog" / "broken.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        split(folder)
    assert caught.value.faults[0].got == "2 (1 cannot be read, 1 exact copy)"


def test_a_file_where_the_folder_should_be(tmp_path, split):
    (tmp_path / "pets").write_text("")
    assert refused(split, tmp_path / "pets")[0][1] == "it is a file, not a folder"


def test_a_file_where_the_sets_should_go(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9})
    folder.with_name("pets-split").write_text("mine")
    assert refused(split, folder)[0][1] == "it is a file, not a folder"
    assert folder.with_name("pets-split").read_text() == "mine"


def test_a_folder_of_the_user_s_own_is_never_replaced(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9})
    folder.with_name("pets-split").mkdir()
    (folder.with_name("pets-split") / "thesis.txt").write_text("years")
    assert "was not made by classifold" in refused(split, folder)[0][1]
    assert (folder.with_name("pets-split") / "thesis.txt").read_text() == "years"


def test_a_damaged_record_is_no_licence_to_forget(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9})
    record = split(folder).split_dir / "split.json"
    whole = record.read_text()
    for text in ("", "{}", whole[: len(whole) // 2]):
        record.write_text(text)
        assert "it is not known which pictures were held out" in refused(split, folder)[0][1]


@pytest.mark.parametrize("place", ["pets", "pets/cat", "pets/sets", "."])
def test_the_sets_cannot_go_into_the_pictures_nor_around_them(make_classes, split, place, tmp_path):
    folder = make_classes({"cat": 9, "dog": 9})
    assert "is inside" in refused(split, folder, SPLIT_LOCAL_DIR=str(tmp_path / place))[0][1]


def test_a_share_of_nothing(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9})
    assert refused(split, folder, PERCENTAGE_EVAL=0.0)[0][0] == "setting PERCENTAGE_EVAL"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_target(make_classes, split, tmp_path):
    folder = make_classes({"cat": 9, "dog": 9})
    (tmp_path / "locked").mkdir(mode=0o500)
    assert (
        refused(split, folder, SPLIT_LOCAL_DIR=str(tmp_path / "locked" / "sets"))[0][1] == "permission denied"
    )


@pytest.fixture
def small_disk(mount):
    """A disk of 300 kB: another one than the pictures', so they are copied."""
    return mount("size=300k")


def test_where_the_disk_cannot_link_the_pictures_are_copied(make_classes, split, small_disk):
    summary = split(make_classes({"cat": 5, "dog": 5}), SPLIT_LOCAL_DIR=str(small_disk / "sets"))
    assert summary.notes[-1].startswith("10 pictures were copied into sets (")
    assert load_sets(summary.split_dir).fingerprint == summary.fingerprint


def test_a_full_disk_leaves_nothing_and_keeps_the_old(make_classes, split, small_disk, contents):
    folder = make_classes({"cat": 5, "dog": 5})
    target = small_disk / "sets"
    before = contents(split(folder, SPLIT_LOCAL_DIR=str(target)).split_dir)
    for number in range(6):
        (folder / "cat" / f"large{number}.bmp").write_bytes(_bmp(b"%d" % number) + bytes(60_000))
    with pytest.raises(DiskError, match="need"):
        split(folder, SPLIT_LOCAL_DIR=str(target))
    assert contents(target) == before
    (small_disk / "filler").write_bytes(
        bytes((os.statvfs(small_disk).f_bavail - 2) * os.statvfs(small_disk).f_bsize)
    )
    with pytest.raises(DiskError, match="the disk is full"):
        split(folder, SPLIT_LOCAL_DIR=str(target))
    assert contents(target) == before
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "sets"]


def test_a_read_only_disk_is_named_before_anything_is_read(make_classes, split, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DiskError) as caught:
        split(make_classes({"cat": 5, "dog": 5}), SPLIT_LOCAL_DIR=str(small_disk / "sets"))
    assert faults(caught) == [(str(small_disk / "sets"), "the disk is read-only")]


def test_a_mount_point_cannot_be_replaced(make_classes, split, small_disk):
    folder = make_classes({"cat": 5, "dog": 5})
    with pytest.raises(DataError, match="choose a folder inside it"):
        split(folder, SPLIT_LOCAL_DIR=str(small_disk))


SPLIT = """
import sys
from classifold.settings.loader import build_config
from classifold.dataset.split import split_dataset
split_dataset(build_config({"DATA_LOCAL_DIR": sys.argv[1], "NUM_WORKERS": 2}))
"""


def test_a_killed_split_leaves_the_old_sets_and_the_next_one_cleans_up(make_classes, split, contents):
    folder = make_classes({"cat": 60, "dog": 60})
    before = contents(split(folder).split_dir)
    for seconds in (0.15, 0.3, 0.4, 0.5):
        with subprocess.Popen([sys.executable, "-c", SPLIT, str(folder)]) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        summary = split(folder)
        assert contents(summary.split_dir) == before
        assert sorted(path.name for path in folder.parent.iterdir()) == ["pets", "pets-split"]
