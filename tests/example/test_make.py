"""The made example: the same bytes for the same seed, a folder that appears whole or not at all."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifold.errors import DataError, DiskError
from classifold.example import make as example
from classifold.example import photograph
from classifold.example.make import KINDS, Drawing, draw_example

DRAW = """
import sys
from pathlib import Path
from classifold.example.make import draw_example
draw_example(Path(sys.argv[1]), pictures_per_class=60)
"""


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """25 pictures of the real size, drawn coarse, which takes a quarter of the time."""
    drawings = [Drawing(kind, number, seed=5) for kind in KINDS for number in range(1, 6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photograph, "OVERSAMPLING", 1)
        return {drawing.key: Image.open(io.BytesIO(drawing.draw())) for drawing in drawings}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures small and coarse, in a quarter of the time; other processes are not told of it."""
    monkeypatch.setattr(example, "PICTURES_PER_PROCESS", 1000)
    for name, value in (("SMALLEST_SIDE", 60), ("LARGEST_SIDE", 281), ("OVERSAMPLING", 1)):
        monkeypatch.setattr(photograph, name, value)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(
    tmp_path: Path, coarse: None
) -> None:
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        assert draw_example(tmp_path / name, seed=seed, pictures_per_class=1) == 5
    first, second, other = (read_all(tmp_path / name) for name in ("first", "second", "other"))
    assert first == second
    assert first.keys() == other.keys()
    assert all(first[key] != other[key] for key in first)


def test_a_picture_does_not_depend_on_how_many_are_drawn_or_by_how_many_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two kinds are enough; the processes draw in full size.
    monkeypatch.setattr(example, "KINDS", KINDS[:2])
    monkeypatch.setattr(example, "PICTURES_PER_PROCESS", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    draw_example(tmp_path / "flowers", pictures_per_class=2)
    drawn = read_all(tmp_path / "flowers")
    assert drawn == {
        drawing.key: drawing.draw()
        for drawing in [Drawing(kind, number, seed=0) for kind in KINDS[:2] for number in (1, 2)]
    }


def test_classes_and_files_are_named_as_the_users_data_would_be(tmp_path: Path, coarse: None) -> None:
    draw_example(tmp_path / "new" / "flowers", pictures_per_class=1)
    assert sorted(read_all(tmp_path / "new" / "flowers")) == [
        "daisy/daisy_0001.jpg",
        "dandelion/dandelion_0001.jpg",
        "roses/roses_0001.jpg",
        "sunflowers/sunflowers_0001.jpg",
        "tulips/tulips_0001.jpg",
    ]
    assert list_names(tmp_path / "new") == ["flowers"]


def test_pictures_are_jpeg_of_200_to_640_pixels_in_both_orientations(
    pictures: dict[str, Image.Image],
) -> None:
    assert {(picture.format, picture.mode) for picture in pictures.values()} == {("JPEG", "RGB")}
    sizes = [picture.size for picture in pictures.values()]
    assert all(200 <= side <= 640 for size in sizes for side in size)
    assert len(set(sizes)) > 18
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


def test_pictures_vary_in_light_and_in_jpeg_quality(pictures: dict[str, Image.Image]) -> None:
    brightness = [float(np.asarray(picture).mean()) for picture in pictures.values()]
    assert max(brightness) - min(brightness) > 80
    tables = {tuple(picture.quantization[0]) for picture in pictures.values()}  # type: ignore[attr-defined]
    assert len(tables) > 12


def test_no_picture_is_empty_or_one_plain_colour(pictures: dict[str, Image.Image]) -> None:
    contrast = {key: float(np.asarray(picture).std()) for key, picture in pictures.items()}
    assert min(contrast.values()) > 8, contrast


@pytest.mark.slow
def test_the_default_is_at_least_80_different_pictures_a_class(tmp_path: Path, coarse: None) -> None:
    count = draw_example(tmp_path / "flowers")
    drawn = read_all(tmp_path / "flowers")
    assert count == len(drawn) == len(set(drawn.values()))
    for kind in KINDS:
        assert sum(key.startswith(f"{kind}/") for key in drawn) >= 80


def test_an_empty_folder_is_filled(tmp_path: Path, coarse: None) -> None:
    (tmp_path / "flowers").mkdir()
    draw_example(tmp_path / "flowers", pictures_per_class=1)
    assert len(read_all(tmp_path / "flowers")) == 5


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"not empty\nhint: name a new folder"):
        draw_example(tmp_path, pictures_per_class=1)
    assert read_all(tmp_path) == {"mine.txt": b"mine"}


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flowers").write_text("mine")
    with pytest.raises(DataError, match=r"it is a file.*\nhint: move it away"):
        draw_example(tmp_path / "flowers", pictures_per_class=1)
    with pytest.raises(DiskError, match=r"it is a file.*\nhint: move the file away"):
        draw_example(tmp_path / "flowers" / "below", pictures_per_class=1)
    assert read_all(tmp_path) == {"flowers": b"mine"}


def test_the_working_folder_is_not_replaced_under_the_users_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"working folder .*\nhint: name a new folder inside it"):
        draw_example(Path(), pictures_per_class=1)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError) as caught:
        draw_example(tmp_path, seed=-1, pictures_per_class=0)
    assert [fault.where for fault in caught.value.faults] == ["seed", "pictures per class", str(tmp_path)]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_parent_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(DiskError, match="permission denied"):
            draw_example(tmp_path / "flowers", pictures_per_class=1)
    finally:
        tmp_path.chmod(0o755)


@pytest.fixture
def small_disk(mount: Callable[..., Path]) -> Path:
    """A disk that has room for a few pictures only."""
    return mount("size=96k")


@pytest.mark.parametrize("per_process", [5, 1000])
def test_a_full_disk_is_named_and_nothing_is_left(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, per_process: int
) -> None:
    monkeypatch.setattr(example, "PICTURES_PER_PROCESS", per_process)
    with pytest.raises(DiskError, match=r"flowers: the disk is full\nhint: free some space"):
        draw_example(small_disk / "deep" / "flowers", pictures_per_class=4)
    assert list_names(small_disk) == []


def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DiskError, match=r"flowers: the disk is read-only\nhint: choose a folder"):
        draw_example(small_disk / "flowers", pictures_per_class=1)


def test_a_whole_disk_is_not_replaced(small_disk: Path) -> None:
    with pytest.raises(DataError, match="a whole disk cannot be replaced"):
        draw_example(small_disk, pictures_per_class=1)


def wait_for_pictures(parent: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not list(parent.glob(".example-*/*/*.jpg")):
        assert time.monotonic() < deadline, "no picture was begun"
        assert process is None or process.poll() is None, "the drawing ended too early"
        time.sleep(0.02)


def wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process lives on")


@pytest.mark.parametrize("whole_group", [True, False])
def test_an_interrupted_drawing_leaves_nothing_and_no_process(tmp_path: Path, whole_group: bool) -> None:
    command = [sys.executable, "-c", DRAW, str(tmp_path / "flowers")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    wait_for_pictures(tmp_path, process)
    if whole_group:  # as Ctrl-C does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert error.count(b"Traceback") == 1
    assert error.rstrip().endswith(b"KeyboardInterrupt")
    assert list_names(tmp_path) == []
    wait_until_gone(process.pid)


def test_a_drawing_process_that_is_killed_is_reported_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def kill_one() -> None:
        wait_for_pictures(tmp_path)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(DataError, match=r"it was killed, .*\nhint: "):
        draw_example(tmp_path / "flowers", pictures_per_class=60)
    killer.join()
    assert list_names(tmp_path) == []
    assert multiprocessing.active_children() == []
