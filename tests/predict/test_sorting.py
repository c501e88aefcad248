from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.errors import DataError, DiskError, UsageError
from classifold.predict.predictor import Prediction
from classifold.predict.sorting import open_sorter
from classifold.predict.sorting_check import check_sort_dir
from classifold.predict.sources import Source, file_source
from made_models import COLOURS

Classifold = Callable[..., Any]
Save = Callable[..., Path]
NAMES = ("daisy", "a/b")


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def answer(source: Source | Path, index: int = 0, *, unknown: bool = False) -> Prediction:
    shares = np.zeros(2, np.float32)
    shares[index] = 1
    return Prediction(source if isinstance(source, Source) else file_source(source), shares, unknown=unknown)


@pytest.fixture
def photos(tmp_path: Path, save_plain: Save) -> Path:
    """Two folders with a picture of each colour, under the same names with different content."""
    for number, folder in enumerate(("one", "two")):
        for colour, rgb in COLOURS.items():
            path = tmp_path / "photos" / folder / f"{colour}.png"
            save_plain(path, tuple(max(0, value - number) for value in rgb))
            os.utime(path, ns=(10**18, 10**18 + number))
    return tmp_path / "photos"


def test_pictures_are_copied_into_a_folder_per_class_and_a_second_call_changes_nothing(
    classifold: Classifold, run_dir: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    goal = tmp_path / "sorted"
    done = classifold("predict", run_dir, photos, "--sort-into", goal)
    assert done.code == 1  # one could not be read
    assert done.err.splitlines()[-1] == f"6 pictures were copied into {goal}"
    found = listed(goal)
    assert [name for name in found if "-" not in name] == ["blue/blue.png", "green/green.png", "red/red.png"]
    assert len(found) == 6
    copies = {(path.read_bytes(), path.stat().st_mtime_ns) for path in goal.rglob("*.png")}
    assert copies == {(path.read_bytes(), path.stat().st_mtime_ns) for path in photos.glob("*/*.png")}
    assert (photos / "broken.png").exists()

    before = {name: (goal / name).stat().st_ino for name in found}
    (photos / "broken.png").unlink()
    done = classifold("predict", run_dir, photos / "two", photos / "one", "--sort-into", goal)
    assert done.code == 0
    assert done.err.splitlines()[-1] == f"0 pictures were copied into {goal}, 6 were there already"
    assert {name: (goal / name).stat().st_ino for name in listed(goal)} == before


def test_unknown_pictures_are_put_aside(
    classifold: Classifold, run_dir: Path, photos: Path, tmp_path: Path
) -> None:
    goal = tmp_path / "sorted"
    done = classifold("predict", run_dir, photos / "one", "--threshold", "1", "--sort-into", goal)
    assert done.code == 0
    assert listed(goal) == ["_unsure/blue.png", "_unsure/green.png", "_unsure/red.png"]
    assert done.err.splitlines()[-1].endswith("; 3 of them unknown, in _unsure")


def test_nothing_is_overwritten(classifold: Classifold, run_dir: Path, photos: Path, tmp_path: Path) -> None:
    goal = tmp_path / "sorted"
    (goal / "red").mkdir(parents=True)
    (goal / "red" / "red.png").write_bytes(b"mine")
    (goal / "blue" / "blue.png").mkdir(parents=True)
    (goal / "green").mkdir()
    (goal / "green" / "green.png").symlink_to("nowhere")
    done = classifold("predict", run_dir, photos / "one", "--sort-into", goal)
    assert done.code == 0
    assert (goal / "red" / "red.png").read_bytes() == b"mine"
    assert (goal / "green" / "green.png").readlink() == Path("nowhere")
    for colour in COLOURS:
        [copy] = (goal / colour).glob(f"{colour}-*.png")
        assert copy.read_bytes() == (photos / "one" / f"{colour}.png").read_bytes()


def test_links_take_no_space_and_outlive_the_original(
    classifold: Classifold, run_dir: Path, photos: Path, tmp_path: Path
) -> None:
    goal = tmp_path / "sorted"
    done = classifold("predict", run_dir, photos, "--sort-into", goal, "--link")
    assert done.code == 0
    assert done.err.splitlines()[-1] == f"6 pictures were linked into {goal}"
    inodes = {path.stat().st_ino for path in photos.glob("*/*.png")}
    assert {path.stat().st_ino for path in goal.glob("*/*.png")} == inodes
    done = classifold("predict", run_dir, photos, "--sort-into", goal, "--link")
    assert done.err.splitlines()[-1] == f"0 pictures were linked into {goal}, 6 were there already"
    for path in photos.glob("*/*.png"):
        path.unlink()
    assert all(path.stat().st_size for path in goal.glob("*/*.png"))


def test_on_another_disk_links_are_symbolic_and_lead_to_the_picture_from_everywhere(
    classifold: Classifold, run_dir: Path, photos: Path, mount: Callable[..., Path], monkeypatch: Any
) -> None:
    goal = mount("size=1m") / "sorted"
    monkeypatch.chdir(photos)
    done = classifold("predict", run_dir, "one", "--sort-into", goal, "--link")
    assert done.code == 0
    assert done.err.splitlines()[-1] == "3 are symbolic links: the pictures must stay where they are"
    assert (goal / "red" / "red.png").readlink() == photos / "one" / "red.png"
    done = classifold("predict", run_dir, "one", "--sort-into", goal, "--link")
    assert done.err.splitlines()[-1] == f"0 pictures were linked into {goal}, 3 were there already"


@pytest.mark.parametrize("kind", ["vfat", "exfat"])
def test_a_disk_of_a_camera_has_no_links_and_ignores_case(
    classifold: Classifold,
    run_dir: Path,
    photos: Path,
    mount_image: Callable[..., Path],
    save_plain: Save,
    kind: str,
) -> None:
    goal = mount_image(kind) / "sorted"
    save_plain(photos / "one" / "RED.PNG", (250, 0, 0))
    save_plain(photos / "one" / "re:d?.png", (249, 0, 0))
    for expected in (("8 pictures were", ""), ("0 pictures were", ", 8 were there already")):
        done = classifold("predict", run_dir, photos, "--sort-into", goal)
        assert done.code == 0
        assert done.err.splitlines()[-1] == f"{expected[0]} copied into {goal}{expected[1]}"
        assert len(listed(goal)) == 8
    done = classifold("predict", run_dir, photos, "--sort-into", goal.with_name("linked"), "--link")
    assert done.code == 1
    assert "this disk has neither hard links to the pictures nor symbolic links" in done.err


def test_a_full_disk_is_told_in_one_line_and_leaves_whole_pictures_only(
    classifold: Classifold, run_dir: Path, mount: Callable[..., Path], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (150, 150, 3), np.uint8)).save(path)
    goal = mount("size=300k") / "sorted"
    done = classifold("predict", run_dir, tmp_path / "photos", "--sort-into", goal)
    assert done.code == 1
    *_, said, error, hint = done.err.splitlines()
    assert error.startswith(f"error: {goal}/")
    assert error.endswith(".png: the disk is full")
    assert hint.startswith("hint: free some space")
    placed = listed(goal)
    assert 0 < len(placed) < 6
    were = "picture was" if len(placed) == 1 else "pictures were"
    assert said.startswith(f"{len(placed)} {were} copied into {goal}")
    for name in placed:
        assert (goal / name).read_bytes() == (tmp_path / "photos" / Path(name).name).read_bytes()


@pytest.mark.parametrize("in_output", [False, True])
def test_a_full_disk_ends_with_the_number_of_pictures_that_were_sorted(
    classifold: Classifold, run_dir: Path, mount: Callable[..., Path], tmp_path: Path, in_output: bool
) -> None:
    noise = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (150, 150, 3), np.uint8)).save(path)
    disk = mount("size=1m")
    goal = disk / "sorted"
    output = (disk if in_output else tmp_path) / "a.csv"
    done = classifold("predict", run_dir, tmp_path / "photos", "--sort-into", goal, "--output", output)
    assert done.code == 1
    assert not output.exists()
    *_, said, error, hint = done.err.splitlines()  # a slow machine shows its progress before
    assert said.startswith(f"{len(listed(goal))} pictures were copied into {goal}")
    assert error.startswith(f"error: {disk}/")
    assert error.endswith(": the disk is full")
    assert hint.startswith("hint: free some space")
    # Once there is room, the same command does the rest.
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    number = len(listed(goal))
    done = classifold("predict", run_dir, tmp_path / "photos", "--sort-into", goal, "--output", output)
    assert (done.code, len(listed(goal))) == (0, 40)
    assert f"{40 - number} pictures were copied into {goal}, {number} were there already" in done.err


def test_a_killed_call_leaves_whole_pictures_and_is_finished_by_the_next(
    colour_run: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0)
    photos, goal = tmp_path / "photos", tmp_path / "sorted"
    photos.mkdir()
    for number in range(120):
        Image.fromarray(noise.integers(0, 255, (120, 120, 3), np.uint8)).save(photos / f"{number:03}.bmp")
    command = [sys.executable, "-P", "-m", "classifold", "predict", str(colour_run), str(photos)]
    command += ["--sort-into", str(goal)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(goal.rglob("*.bmp")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    placed = list(goal.glob("*/*.bmp"))
    assert placed
    assert all(path.read_bytes() == (photos / path.name).read_bytes() for path in placed)

    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = f"{120 - len(placed)} pictures were copied into {goal}, {len(placed)} were there already"
    assert done.stderr.splitlines()[-1].startswith(expected.replace("1 were", "1 was"))
    names = sorted(path.name for path in goal.glob("*/*.bmp"))
    assert names == sorted(path.name for path in photos.iterdir())


def test_old_unfinished_copies_are_removed_and_those_of_a_running_call_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = tmp_path / "sorted" / ".partial"
    partial.mkdir(parents=True)
    (partial / "123-old").write_bytes(b"half")
    with open_sorter(tmp_path / "sorted", NAMES):
        assert [path.name for path in partial.iterdir()] == ["123-old"]
    now = time.time
    monkeypatch.setattr("classifold.predict.sorting.time.time", lambda: now() + 3700)
    with open_sorter(tmp_path / "sorted", NAMES):
        assert list(partial.iterdir()) == []
    assert not partial.exists()


def test_pictures_from_elsewhere_are_saved_from_their_bytes_or_as_png(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "JPEG")
    frame = np.full((4, 5, 3), 7, np.uint8)
    goal = tmp_path / "sorted"
    with open_sorter(goal, NAMES) as sorter:
        for _ in range(2):
            for name, given in (
                ("https://host/rose", file.getvalue()),
                ("-", bytearray(file.getvalue() + b"\0")),
                ("clip.mp4#t=0.5", frame),
                ("scan", Image.new("L", (2, 2), 5)),
            ):
                sorter.place(answer(Source(name, None, lambda: b""), 1), given)
    assert (sorter.sorted.placed, sorter.sorted.already) == (4, 4)
    assert listed(goal) == [
        f"a%2Fb/{name}" for name in ("clip.mp4#t=0.5.png", "picture.jpg", "rose.jpg", "scan.png")
    ]
    assert sorter.notes == ["the folder of class 'a/b' is a%2Fb"]
    assert (goal / "a%2Fb" / "rose.jpg").read_bytes() == file.getvalue()
    assert np.array_equal(np.asarray(Image.open(goal / "a%2Fb" / "clip.mp4#t=0.5.png")), frame)


def test_a_picture_that_vanished_after_it_was_classified_is_named(tmp_path: Path) -> None:
    reason = "the file cannot be read: No such file or directory"
    for is_linking in (False, True):
        with open_sorter(tmp_path / "sorted", NAMES, is_linking=is_linking) as sorter:
            for number in range(5):
                path = tmp_path / f"{number}.jpg"
                sorter.place(answer(path), path)
        how = "linked" if is_linking else "copied"
        assert sorter.sorted.describe(tmp_path, is_linking=is_linking)[-5:] == [
            f"5 pictures could not be {how}:",
            *(f"  {tmp_path}/{number}.jpg: {reason}" for number in range(3)),
            "  and 2 more",
        ]


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    with contextlib.suppress(OSError):
        path.write_bytes(b"1")
    if not path.exists():
        pytest.skip("this disk takes only UTF-8")
    with open_sorter(tmp_path / "sorted", NAMES) as sorter:
        sorter.place(answer(path), path)
        path.write_bytes(b"2")
        sorter.place(answer(path), path)
    assert {os.fsencode(one.name)[:4] for one in (tmp_path / "sorted" / "daisy").iterdir()} == {b"caf\xe9"}
    assert sorter.sorted.placed == 2


def test_a_folder_among_the_pictures_or_the_explanations_is_refused(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    (tmp_path / "link").symlink_to(photos)
    for folder in (photos, photos / "sorted", tmp_path / "link" / "sorted", tmp_path):
        with pytest.raises(DataError, match="would be in one folder"):
            check_sort_dir(folder, pictures=[photos])
    check_sort_dir(photos, pictures=[photos / "a.jpg"])
    check_sort_dir(tmp_path / "sorted", pictures=[photos])
    with pytest.raises(UsageError, match="are inside each other"):
        check_sort_dir(tmp_path / "why" / "x", pictures=[], explain_dir=tmp_path / "why")
    with pytest.raises(DataError, match="it is a file, not a folder"):
        check_sort_dir(photos / "a.jpg", pictures=[])
    with pytest.raises(DiskError, match="no such folder"):
        check_sort_dir(tmp_path / "none" / "sorted", pictures=[])


@pytest.mark.parametrize("pattern", ["**/*.png", "*"])
def test_a_pattern_finds_nothing_in_the_folder_that_is_sorted_into(
    classifold: Classifold, run_dir: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.chdir(photos)
    shutil.rmtree("two")
    assert classifold("predict", run_dir, "one", "--sort-into", "../sorted").code == 0
    Path("../sorted").rename("sorted")
    Path("sorted/red/red.png").rename("sorted/blue/moved by hand.png")
    before = listed(photos)
    done = classifold("predict", run_dir, pattern, "--sort-into", "sorted")
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("1 picture was copied into sorted, 2 were there already")
    assert [name for name in listed(photos) if name not in before] == ["sorted/red/red.png"]


def test_pictures_beside_their_folders_are_sorted_into_the_folder_that_they_are_in(
    classifold: Classifold, run_dir: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos / "one")
    assert classifold("predict", run_dir, "red.png", "blue.png", "--sort-into", ".").code == 0
    assert listed(Path()) == ["blue.png", "blue/blue.png", "green.png", "red.png", "red/red.png"]


def test_link_is_only_for_sorting(classifold: Classifold, run_dir: Path, photos: Path) -> None:
    done = classifold("predict", run_dir, photos, "--link")
    assert done.code == 2
    assert "error: --link: it is only for --sort-into" in done.err


def test_explained_pictures_are_sorted_too(
    classifold: Classifold, colour_run: Path, photos: Path, tmp_path: Path
) -> None:
    goal = tmp_path / "sorted"
    done = classifold(
        "predict", colour_run, photos / "one", "--explain", tmp_path / "why", "--sort-into", goal
    )
    assert done.code == 0, done.err
    assert listed(goal) == ["blue/blue.png", "green/green.png", "red/red.png"]
