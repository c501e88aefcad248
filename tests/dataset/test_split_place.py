"""SPLIT_LOCAL_DIR is named where nothing can be written beside the pictures, or the sets cannot go there."""

from __future__ import annotations

import os
import subprocess

import pytest

from classifold.dataset.check import check_data
from classifold.errors import DiskError
from classifold.settings.loader import build_config

CURE = "set SPLIT_LOCAL_DIR to a folder that you can write"


def test_a_check_says_that_the_sets_would_lie_among_the_pictures(make_classes):
    folder = make_classes({"cat": 9, "dog": 9})
    values = {"DATA_LOCAL_DIR": str(folder), "SPLIT_LOCAL_DIR": str(folder / "sets")}
    (fault,) = check_data(build_config(values)).faults
    assert "is inside" in fault.what
    assert fault.hint == "set SPLIT_LOCAL_DIR to a folder beside it"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(make_classes, split):
    folder = make_classes({"cat": 9, "dog": 9}, name="theirs/pets")
    folder.parent.chmod(0o500)
    try:
        refused(folder, split)
    finally:
        folder.parent.chmod(0o700)


def test_a_disk_that_is_read_only(mount, make_classes, split):
    disk = mount("size=1m")
    folder = disk / "pets"
    subprocess.run(["cp", "-r", make_classes({"cat": 3, "dog": 3}), folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    refused(folder, split)


def refused(folder, split):
    (fault,) = check_data(build_config({"DATA_LOCAL_DIR": str(folder)})).faults
    assert fault.where == f"{folder}-split"
    assert fault.hint == CURE
    with pytest.raises(DiskError) as caught:
        split(folder)
    (fault,) = caught.value.faults
    assert (fault.where, fault.hint) == (f"{folder}-split", CURE)
