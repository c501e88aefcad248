"""A folder gets another name whole, also where the disk cannot rename it."""

from __future__ import annotations

import os
import subprocess

import pytest

from classifold.atomic import is_mount_point, move_folder


@pytest.fixture
def overlay(tmp_path, mount):
    """A folder that came with a container's image: `folder/lower` cannot be renamed there."""
    disk = mount("size=4m")
    for name in ("lower", "upper", "work", "all"):
        (disk / name).mkdir()
    (disk / "lower" / "old" / "deep").mkdir(parents=True)
    (disk / "lower" / "old" / "deep" / "file").write_text("content")
    (disk / "lower" / "old" / "link").symlink_to("deep/file")
    layers = f"lowerdir={disk / 'lower'},upperdir={disk / 'upper'},workdir={disk / 'work'},redirect_dir=off"
    command = ["mount", "-t", "overlay", "overlay", "-o", layers, str(disk / "all")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no overlay can be mounted here")
    yield disk / "all"
    subprocess.run(["umount", "-l", str(disk / "all")], check=True)


def test_a_folder_of_a_lower_layer_is_copied_and_removed(overlay):
    with pytest.raises(OSError, match="cross-device"):
        (overlay / "old").rename(overlay / "new")
    move_folder(overlay / "old", overlay / "new")
    assert sorted(path.name for path in overlay.iterdir()) == ["new"]
    assert (overlay / "new" / "deep" / "file").read_text() == "content"
    assert str((overlay / "new" / "link").readlink()) == "deep/file"


def test_where_the_copy_fails_the_folder_stays_and_the_reason_is_the_disk_s(overlay):
    (overlay / "filler").write_bytes(bytes(100_000))
    (overlay.parent / "lower" / "old" / "large").write_bytes(b"x")
    with (overlay.parent / "fill").open("wb") as file, pytest.raises(OSError, match="No space"):  # noqa: PT012
        while True:
            file.write(bytes(65_536))
            file.flush()
    with pytest.raises(OSError, match="No space left"):
        move_folder(overlay / "old", overlay / "new")
    assert sorted(path.name for path in overlay.iterdir()) == ["filler", "old"]
    assert (overlay / "old" / "deep" / "file").read_text() == "content"


def test_replacing_a_folder_of_a_lower_layer(overlay):
    from classifold.dataset.replacement import replace_folder

    with replace_folder(overlay / "old") as new:
        (new / "file").write_text("new")
    assert sorted(path.name for path in overlay.iterdir()) == ["old"]
    assert [path.name for path in (overlay / "old").iterdir()] == ["file"]


def test_delivering_over_a_folder_of_a_lower_layer(overlay, tmp_path):
    from classifold.atomic import deliver_content

    (tmp_path / "source" / "old").mkdir(parents=True)
    (tmp_path / "source" / "old" / "file").write_text("new")
    deliver_content(tmp_path / "source", overlay)
    assert sorted(path.name for path in overlay.iterdir()) == ["old"]
    assert [path.name for path in (overlay / "old").iterdir()] == ["file"]


def test_on_a_common_disk_a_folder_is_renamed(tmp_path):
    (tmp_path / "old").mkdir()
    inode = (tmp_path / "old").stat().st_ino
    move_folder(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").stat().st_ino == inode
    assert not (tmp_path / "old").exists()


def test_a_folder_of_the_same_disk_that_is_mounted_is_a_mount_point(tmp_path):
    bound = tmp_path / "with a blank"
    for folder in (bound, tmp_path / "other"):
        folder.mkdir()
    assert not is_mount_point(bound)
    command = ["mount", "--bind", str(tmp_path / "other"), str(bound)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a folder")
    try:
        assert is_mount_point(bound)
        assert not is_mount_point(tmp_path)
    finally:
        subprocess.run(["umount", str(bound)], check=True)
