"""A folder is replaced whole or not at all, also when the process is killed at any moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from classifold.dataset.replacement import replace_folder
from classifold.errors import DataError, DiskError

FILES = 40


def fill(folder, text):
    for number in range(FILES):
        (folder / f"{number}.txt").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_whole_with_nothing_beside_it(tmp_path):
    with replace_folder(tmp_path / "made" / "sets") as new:
        fill(new, "new")
        assert not (tmp_path / "made" / "sets").exists()
    assert len(names(tmp_path / "made" / "sets")) == FILES
    assert names(tmp_path / "made") == ["sets"]


def test_an_old_folder_is_replaced_whole(tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "old.txt").write_text("old")
    with replace_folder(tmp_path / "sets") as new:
        fill(new, "new")
    assert "old.txt" not in names(tmp_path / "sets")
    assert names(tmp_path) == ["sets"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_everything_as_it_was(tmp_path, error):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "old.txt").write_text("old")
    with pytest.raises(error), replace_folder(tmp_path / "sets") as new:  # noqa: PT012
        fill(new, "new")
        raise error
    assert names(tmp_path) == ["sets"]
    assert names(tmp_path / "sets") == ["old.txt"]


def test_a_block_that_puts_nothing_in_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "old.txt").write_text("old")
    inode = (tmp_path / "sets").stat().st_ino
    with replace_folder(tmp_path / "sets"):
        pass
    assert names(tmp_path) == ["sets"]
    assert names(tmp_path / "sets") == ["old.txt"]
    assert (tmp_path / "sets").stat().st_ino == inode


def test_the_hidden_folder_is_not_named_when_the_disk_refuses(tmp_path):
    with pytest.raises(DiskError) as error, replace_folder(tmp_path / "sets") as new:  # noqa: PT012
        (new / "file").mkdir()
        (new / "file").write_text("text")
    assert [fault.where for fault in error.value.faults] == [str(tmp_path / "sets")]


def test_a_failure_takes_back_the_folders_that_were_made_above(tmp_path):
    with pytest.raises(ValueError, match="bad"), replace_folder(tmp_path / "a" / "b" / "sets"):
        raise ValueError("bad")
    assert names(tmp_path) == []


def test_a_link_to_the_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "sets").symlink_to(tmp_path / "disk")
    with replace_folder(tmp_path / "sets") as new:
        fill(new, "new")
    assert (tmp_path / "sets").is_symlink()
    assert len(names(tmp_path / "disk")) == FILES


def test_an_old_folder_that_stepped_aside_for_nothing_returns(tmp_path):
    (tmp_path / ".sets.classifold-old").mkdir()
    (tmp_path / ".sets.classifold-old" / "old.txt").write_text("old")
    (tmp_path / ".sets.classifold-new").mkdir()
    (tmp_path / ".sets.classifold-new" / "half.txt").write_text("half")
    with pytest.raises(ValueError, match="look"), replace_folder(tmp_path / "sets"):  # noqa: PT012
        assert names(tmp_path / "sets") == ["old.txt"]
        raise ValueError("look")
    assert names(tmp_path) == ["sets"]


def test_two_runs_on_one_folder_do_not_mix(tmp_path):
    with replace_folder(tmp_path / "sets") as new:
        fill(new, "first")
        with pytest.raises(DataError, match="another run"), replace_folder(tmp_path / "sets"):
            pass
    assert len(names(tmp_path / "sets")) == FILES


def test_a_file_above_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match="it is a file, not a folder"),
        replace_folder(tmp_path / "file" / "sets"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DiskError, match="permission denied"), replace_folder(tmp_path / "locked" / "sets"):
        pass


# Replays each state that a kill can leave, by stopping the process at every rename, touch and delete in turn.
DIE_AT_STEP = """
import os, signal, sys
from pathlib import Path
from classifold.dataset import replacement
steps = int(sys.argv[2])

def counted(function):
    def call(*args, **kwargs):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

for name in ("rename", "touch", "unlink", "mkdir"):
    setattr(Path, name, counted(getattr(Path, name)))
os.unlink = counted(os.unlink)
replacement.shutil.rmtree = counted(replacement.shutil.rmtree)
with replacement.replace_folder(Path(sys.argv[1])) as new:
    for number in range(5):
        with open(new / f"{number}.txt", "w") as file:
            file.write("new")
"""


def test_a_kill_between_any_two_steps_is_mended_by_the_next_run(tmp_path):
    target = tmp_path / "sets"
    for steps in range(50):
        target.mkdir(exist_ok=True)
        for path in list(target.iterdir()):
            path.unlink()
        for number in range(5):
            (target / f"{number}.txt").write_text("old")
        done = subprocess.run([sys.executable, "-c", DIE_AT_STEP, str(target), str(steps)], check=False)
        with pytest.raises(ValueError, match="look"), replace_folder(target):  # noqa: PT012
            # The earlier folder or the new one is there, whole, before anything else is done.
            texts = {path.read_text() for path in target.iterdir() if not path.name.startswith(".")}
            assert texts in ({"old"}, {"new"})
            assert len([path for path in target.iterdir() if not path.name.startswith(".")]) == 5
            raise ValueError("look")
        assert names(tmp_path) == ["sets"]
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert steps > 5


def test_a_kill_while_an_old_folder_is_deleted_in_its_place_is_mended_by_the_next_run(tmp_path):
    # As on an overlay, where the old folder cannot step aside.
    new = tmp_path / ".sets.classifold-new"
    for folder in (tmp_path / "sets", new):
        folder.mkdir()
    (tmp_path / "sets" / "half of the old.txt").write_text("old")
    fill(new, "new")
    for mark in (".classifold-complete", ".classifold-replacing", ".classifold-lock"):
        (new / mark).touch()
    with pytest.raises(ValueError, match="look"), replace_folder(tmp_path / "sets"):  # noqa: PT012
        assert names(tmp_path / "sets") == sorted(f"{number}.txt" for number in range(FILES))
        raise ValueError("look")
    assert names(tmp_path) == ["sets"]


WAIT = """
import sys, time
from pathlib import Path
from classifold.dataset.replacement import replace_folder
with replace_folder(Path(sys.argv[1])) as new:
    (new / "half.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_s_lock_dies_with_it(tmp_path):
    target = tmp_path / "sets"
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, str(target)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(DataError, match="another run"), replace_folder(target):
            pass
        process.kill()
        process.wait()
    with replace_folder(target) as new:
        assert not (new / "half.txt").exists()
        fill(new, "new")
    assert names(tmp_path) == ["sets"]
