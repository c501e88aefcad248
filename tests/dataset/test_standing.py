"""Splitting again never takes away what the user put into the split, or changed there."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from classifold.dataset.check import check_data
from classifold.dataset.standing import is_left_by_system, is_shard_file
from classifold.errors import DataError
from classifold.packing.pack import pack_sets


@pytest.fixture
def folder(make_classes):
    return make_classes({"cat": 8, "dog": 8})


@pytest.fixture
def sets(folder, split):
    return split(folder).split_dir


def refused(split, folder, **settings):
    with pytest.raises(DataError) as caught:
        split(folder, **settings)
    assert all(fault.hint for fault in caught.value.faults)
    return str(caught.value)


def picture_of(sets):
    return min((sets / "training" / "cat").iterdir())


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "training/labels.csv",
        "training/cat/augmented 1.png",
        "training/new class/1.png",
        "validation/.hidden note",
        "evaluation/dog/na\u00efve \u732b.png",
        "runs/model.onnx",
        "training/shard-00000.tar",
    ],
)
def test_a_file_of_the_user_s_stops_the_split_and_stays(folder, sets, split, name):
    (sets / name).parent.mkdir(parents=True, exist_ok=True)
    (sets / name).write_bytes(b"mine")
    before = snapshot(sets)
    assert f"it holds 1 file ({name}) that classifold did not put there" in refused(split, folder)
    assert snapshot(sets) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["pets", "pets-split"]


def test_all_that_is_the_user_s_is_told_at_once_with_its_number(folder, sets, split):
    for number in range(7):
        (sets / "training" / "cat" / f"augmented{number}.png").write_bytes(b"mine")
    picture_of(sets).write_bytes(b"edited")
    said = refused(split, folder)
    first = ", ".join(f"training/cat/augmented{number}.png" for number in range(3))
    assert f"it holds 7 files ({first} and 4 more) that classifold did not put there" in said
    assert "it holds 1 file (training/cat/" in said
    assert "changed since the split" in said


def test_it_is_said_before_any_picture_is_read(folder, sets, split):
    (sets / "notes.txt").write_text("mine")
    (folder / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert "broken" not in refused(split, folder, UNREADABLE_PICTURES="fail")


def test_check_says_it_too(folder, sets, settings):
    (sets / "notes.txt").write_text("mine")
    report = check_data(settings(DATA_LOCAL_DIR=str(folder)))
    assert ["it holds 1 file (notes.txt)" in fault.what for fault in report.faults] == [True]


@pytest.fixture
def settings():
    from classifold.settings.loader import build_config

    return lambda **values: build_config(values)


def test_a_picture_changed_in_place_is_kept(folder, sets, split):
    path = picture_of(sets)
    path.write_bytes(path.read_bytes() + b"edited")
    before = snapshot(sets)
    name = path.relative_to(sets)
    assert f"it holds 1 file ({name}) changed since the split" in refused(split, folder)
    assert snapshot(sets) == before


def test_a_change_that_keeps_size_and_name_is_found(folder, sets, split):
    path = picture_of(sets)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "changed since the split" in refused(split, folder)


def test_a_picture_moved_to_another_class_is_the_user_s_work(folder, sets, split):
    path = picture_of(sets)
    path.rename(sets / "training" / "dog" / path.name)
    assert f"training/dog/{path.name}" in refused(split, folder)


def test_a_link_in_place_of_a_picture_or_folder_is_the_user_s(folder, sets, split, tmp_path):
    path = picture_of(sets)
    path.unlink()
    path.symlink_to(folder / "cat")
    shutil.move(sets / "validation" / "dog", tmp_path / "away")
    (sets / "validation" / "dog").symlink_to(tmp_path / "away", target_is_directory=True)
    assert f"it holds 2 files (training/cat/{path.name}, validation/dog)" in refused(split, folder)


def test_times_alone_are_no_change(folder, sets, split):
    for path in sets.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    split(folder)


def test_a_folder_that_was_copied_from_elsewhere_is_known_by_its_content(folder, sets, split):
    shutil.copytree(sets, sets.with_name("other"), copy_function=shutil.copyfile)
    shutil.rmtree(sets)
    sets.with_name("other").rename(sets)
    split(folder)


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "training/Thumbs.db",
        "training/cat/@eaDir/1.png@SynoEAStream",
        "training/dog/desktop.ini",
        "validation/._1.png",
        ".directory",
        "evaluation/.nfs00000001",
        "training/cat/Icon\r",
    ],
)
def test_what_systems_leave_does_not_count(folder, sets, split, name):
    (sets / name).parent.mkdir(parents=True, exist_ok=True)
    (sets / name).write_bytes(b"")
    split(folder)
    assert not (sets / name).exists()


@pytest.mark.parametrize(
    "name",
    [".gitignore", "notes", "DS_Store", ".classifold", "#recycle", "Photos.photoslibrary", "files_versions"],
)
def test_what_may_be_somebody_s_does_count(name):
    assert not is_left_by_system(name)


def as_an_earlier_version_left_it(sets, folder):
    """Hard links to the originals, and neither size nor time in the record."""
    record = json.loads((sets / "split.json").read_text())
    for entry in record["pictures"]:
        place = sets / entry["set"] / entry["key"]
        place.unlink()
        place.hardlink_to(folder / entry["source"])
        del entry["size"], entry["mtime_ns"]
    lines = [json.dumps({k: v for k, v in record.items() if not isinstance(v, list) or k == "notes"})[:-1]]
    for name in ("pictures", "unreadable", "copies", "conflicts", "held_out_before"):
        entries = ",\n".join(map(json.dumps, record[name]))
        lines.append(f',\n"{name}": [\n{entries}\n]' if entries else f',\n"{name}": [\n]')
    (sets / "split.json").write_text("".join(lines) + "}\n")


def test_a_split_of_an_earlier_version_is_replaced_by_copies(folder, sets, split, contents):
    before = contents(sets)
    as_an_earlier_version_left_it(sets, folder)
    assert json.loads((sets / "split.json").read_text())["pictures"]
    split(folder)
    assert contents(sets) == before
    assert {path.stat().st_nlink for path in sets.rglob("*.png")} == {1}


def test_in_a_split_of_an_earlier_version_changes_are_found(folder, sets, split):
    as_an_earlier_version_left_it(sets, folder)
    (sets / "notes.txt").write_text("mine")
    path = picture_of(sets)
    path.unlink()
    path.write_bytes(b"another picture")
    said = refused(split, folder)
    assert "(notes.txt)" in said
    assert f"(training/cat/{path.name}) changed" in said


def test_a_hard_link_that_was_changed_is_no_loss_as_the_original_has_it(folder, split, contents):
    sets = split(folder, SPLIT_FILES="link").split_dir
    path = picture_of(sets)
    path.write_bytes(path.read_bytes() + b"edited")
    split(folder, SPLIT_FILES="link")
    assert any(data.endswith(b"edited") for files in contents(sets).values() for data in files.values())


# Splits of listings, and shards


@pytest.fixture
def listing(folder, tmp_path):
    rows = [
        {"source-ref": str(path), "size": path.stat().st_size, "sha256": f"{number:064x}"}
        for number, path in enumerate(folder.rglob("*.png"))
    ]
    path = tmp_path / "listing.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {
        "DATA_MANIFEST": str(path),
        "MANIFEST_ROOT": str(folder),
        "SPLIT_LOCAL_DIR": str(tmp_path / "sets"),
    }


def test_an_edited_manifest_is_kept(folder, split, listing):
    sets = split(folder, **listing).split_dir
    split(folder, **listing)  # unchanged
    path = sets / "training.jsonl"
    path.write_text(path.read_text().replace('"cat"', '"dog"'))
    (sets / "notes.txt").write_text("mine")
    before = snapshot(sets)
    said = refused(split, folder, **listing)
    assert "(notes.txt) that classifold did not put there" in said
    assert "(training.jsonl) changed since the split" in said
    assert snapshot(sets) == before


def test_the_manifests_of_an_earlier_version_are_known_by_name(folder, split, listing):
    sets = split(folder, **listing).split_dir
    record = sets / "split.json"
    head, _, rest = record.read_text().partition("\n")
    fields = json.loads(head.rstrip(",") + "}")
    del fields["files"]
    record.write_text(json.dumps(fields)[:-1] + ",\n" + rest)
    split(folder, **listing)


def test_a_folder_of_shards_with_files_of_the_user_s_is_not_replaced(sets, tmp_path):
    shards = tmp_path / "shards"
    pack_sets(sets, shards, shard_mb=1)
    (shards / "training" / "notes.txt").write_text("mine")
    (shards / "split.json").unlink()  # so that it would be written again
    with pytest.raises(DataError, match=r"it holds 1 file \(training/notes.txt\)"):
        pack_sets(sets, shards, shard_mb=1)
    assert (shards / "training" / "notes.txt").read_text() == "mine"
    (shards / "training" / "notes.txt").unlink()
    pack_sets(sets, shards, shard_mb=1)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("shards.json", True),
        (".packed.json", True),
        ("training/shard-00000.tar", True),
        ("training/.shard-00000.tar.json", True),
        ("shard-00000.tar", False),
        ("training/notes.tar", False),
        ("training/shard-00000.tar.gz", False),
        ("training/cat/shard-00000.tar", False),
    ],
)
def test_the_files_of_shards(name, is_ours):
    assert is_shard_file(name) == is_ours
