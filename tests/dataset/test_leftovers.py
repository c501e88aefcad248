from __future__ import annotations

import pytest

from classifold.dataset.leftovers import holds_small_copies, reason_to_pass_over
from classifold.dataset.scan import scan_folder

PICTURE = b"GIF89a" + bytes(40)
OF_SYSTEMS = [
    "#recycle",
    "@Recycle",
    "#snapshot",
    "~snapshot",
    "RECYCLER",
    "@eaDir",
    "@tmp",
    "@Recently-Snapshot",
]
OF_SYSTEMS += [
    "$RECYCLE.BIN",
    "FOUND.000",
    "found.012",
    "lost+found",
    "_gsdata_",
    "files_trashbin",
    "__MACOSX",
]
OF_SYSTEMS += ["files_versions", "appdata_ocab12cd34", "Catalog.lrdata", "Photos.photoslibrary", "Thumbs.db"]
OF_SYSTEMS += ["~syncthing~1.jpg.tmp"]
OF_SYSTEMS += [
    "Temporary Items",
    "Network Trash Folder",
    "System Volume Information",
    "1.jpg:Zone.Identifier",
]
HIDDEN = [".stversions", ".stfolder", ".thumbnails", ".dropbox.cache", ".@__thumb", ".Trash-1000", "._1.jpg"]
NAMES_OF_CLASSES = ["cat", "recycle", "recycled", "found", "temporary", "snapshot", "trash", "$5", "@", "#1"]


@pytest.mark.parametrize("name", OF_SYSTEMS)
def test_what_systems_leave_is_known_by_its_name(name):
    assert reason_to_pass_over(name) == reason_to_pass_over(name.upper()) == "left by the system"


@pytest.mark.parametrize("name", HIDDEN)
def test_what_starts_with_a_dot_is_hidden(name):
    assert reason_to_pass_over(name) == "hidden"


@pytest.mark.parametrize("name", NAMES_OF_CLASSES)
def test_names_that_classes_have_are_nobody_s_leftovers(name):
    assert reason_to_pass_over(name) == ""
    assert not holds_small_copies(name)


def put(root, *keys):
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
    return root


@pytest.mark.parametrize("name", [name for name in OF_SYSTEMS if ":" not in name and "." not in name])
def test_a_folder_of_the_system_is_no_class_and_no_part_of_one(tmp_path, name):
    scan = scan_folder(put(tmp_path, "cat/1.gif", "dog/1.gif", f"{name}/2.gif", f"cat/{name}/3.gif"))
    assert scan.class_names == ("cat", "dog")
    assert len(scan.pictures) == 2
    assert scan.passed_over == {"left by the system": 2}


@pytest.mark.parametrize("name", ["thumbs", "Thumbnails", "thumb"])
def test_small_copies_inside_a_class_are_passed_over_and_a_class_of_that_name_is_one(tmp_path, name):
    scan = scan_folder(
        put(tmp_path, "up/1.gif", f"up/{name}/1.gif", f"up/2019/{name}/1.gif", f"{name}/2.gif")
    )
    assert sorted(picture.key for picture in scan.pictures) == sorted([f"{name}/2.gif", "up/1.gif"])
    assert scan.passed_over == {"left by the system": 2}
