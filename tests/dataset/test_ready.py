from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from classifold.dataset.ready import ensure_split, load_split_notes
from classifold.dataset.split import split_dataset
from classifold.errors import DataError
from classifold.locks import reading_folder
from classifold.settings.config import Config
from classifold.settings.loader import override_config


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_colours: Callable[..., Path]) -> Path:
    """Ten pictures of three colours in `photos`, below the current folder."""
    monkeypatch.chdir(tmp_path)
    return draw_colours(Path("photos"))


def settings(*overrides: str, folder: Path = Path("photos")) -> Config:
    return override_config(overrides, folder=folder)


def test_pictures_are_split_once(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = ensure_split(settings(), is_renewed=True)
    assert first is not None
    told = capfd.readouterr().err
    assert told.startswith("dividing the pictures of photos into three sets\n")
    assert "30 pictures of 3 classes: " in told
    before = Path("photos-split/split.json").stat().st_mtime_ns
    assert ensure_split(settings(), is_renewed=True) is None
    assert capfd.readouterr().err == "photos-split is the split of these pictures already\n"
    assert Path("photos-split/split.json").stat().st_mtime_ns == before


def add(photos: Path) -> None:
    shutil.copy(photos / "red" / "red 0.png", photos / "red" / "new.png")


def replace(photos: Path) -> None:
    shutil.copy(photos / "red" / "red 0.png", photos / "red" / "red 1.png")


def touch(photos: Path) -> None:
    os.utime(photos / "red" / "red 1.png", ns=(1, 1))


def remove(photos: Path) -> None:
    (photos / "red" / "red 1.png").unlink()


def rename(photos: Path) -> None:
    (photos / "red").rename(photos / "rot")


@pytest.mark.parametrize("change", [add, replace, touch, remove, rename])
def test_changed_pictures_are_split_again_and_none_leaves_evaluation(
    photos: Path, capfd: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    ensure_split(settings(), is_renewed=True)
    held_out = {path.read_bytes() for path in Path("photos-split/evaluation").rglob("*.png")}
    change(photos)
    capfd.readouterr()
    assert ensure_split(settings(), is_renewed=True) is not None
    assert capfd.readouterr().err.startswith("the pictures of photos have changed since the last split: ")
    training = {path.read_bytes() for path in Path("photos-split/training").rglob("*.png")}
    assert not training & held_out


def test_other_files_beside_the_pictures_change_nothing(photos: Path) -> None:
    ensure_split(settings(), is_renewed=True)
    (photos / "red" / "notes.txt").write_text("mine")
    (photos / "Thumbs.db").write_bytes(b"x")
    assert ensure_split(settings(), is_renewed=True) is None


def test_other_shares_are_another_split(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensure_split(settings(), is_renewed=True)
    capfd.readouterr()
    assert ensure_split(settings("PERCENTAGE_EVAL=0.3"), is_renewed=True) is not None
    assert capfd.readouterr().err.startswith("the settings of the split have changed: ")


def test_a_split_that_is_there_is_taken_where_it_is_not_to_be_renewed(photos: Path) -> None:
    ensure_split(settings(), is_renewed=True)
    add(photos)
    assert ensure_split(settings(), is_renewed=False) is None


def test_the_split_serves_where_the_pictures_are_gone(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ensure_split(settings(), is_renewed=True)
    photos.rename("away")
    capfd.readouterr()
    assert ensure_split(settings(), is_renewed=True) is None
    assert capfd.readouterr().err == (
        "note: photos is not there; its split in photos-split is used as it is\n"
    )


def test_a_split_of_an_earlier_version_is_made_again(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensure_split(settings(), is_renewed=True)
    record = Path("photos-split/split.json")
    head, _, rest = record.read_text().partition("\n")
    head_read = json.loads(head.rstrip(",") + "}")
    del head_read["made_from"]
    record.write_text(json.dumps(head_read)[:-1] + ",\n" + rest)
    capfd.readouterr()
    assert ensure_split(settings(), is_renewed=True) is not None
    assert "does not say which pictures it was made from" in capfd.readouterr().err


def test_a_folder_that_is_no_split_of_ours_is_never_replaced(photos: Path) -> None:
    Path("photos-split").mkdir()
    Path("photos-split/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not made by classifold"):
        ensure_split(settings(), is_renewed=True)
    assert Path("photos-split/mine.txt").read_text() == "mine"


def test_sets_of_the_users_own_are_taken(tmp_path: Path, photos: Path) -> None:
    for name in ("train", "val", "test"):
        shutil.copytree(photos, f"own/{name}")
    for index, path in enumerate(sorted(Path("own/test").rglob("*.png"))):
        path.write_bytes(path.read_bytes() + b"%d" % index)
    summary = ensure_split(settings(folder=Path("own")), is_renewed=True)
    assert summary is not None
    assert {name: sum(of_set.values()) for name, of_set in summary.counts.items()}["evaluation"] == 30
    assert ensure_split(settings(folder=Path("own")), is_renewed=True) is None
    (tmp_path / "own/test/red/red 0.png").rename(tmp_path / "own/val/red/from test.png")
    assert ensure_split(settings(folder=Path("own")), is_renewed=True) is not None


def test_a_listing_is_split_once_and_again_where_it_changes(photos: Path) -> None:
    rows = [f"{path},{path.parent.name}\n" for path in sorted(photos.rglob("*.png"))]
    listing = Path("list.csv")
    listing.write_text("file_name,label\n" + "".join(rows))
    assert ensure_split(settings(folder=listing), is_renewed=True) is not None
    assert ensure_split(settings(folder=listing), is_renewed=True) is None
    listing.write_text("file_name,label\n" + "".join(rows[1:]))
    assert ensure_split(settings(folder=listing), is_renewed=True) is not None


def test_files_of_the_split_that_are_gone_are_put_back(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ensure_split(settings(), is_renewed=True)
    before = sorted(path for path in Path("photos-split").rglob("*.png"))
    before[0].unlink()
    capfd.readouterr()
    assert ensure_split(settings(), is_renewed=True) is not None
    assert capfd.readouterr().err.startswith("the files in photos-split were changed since it was made: ")
    assert sorted(Path("photos-split").rglob("*.png")) == before
    shutil.rmtree("photos-split/evaluation")
    assert ensure_split(settings(), is_renewed=True) is not None
    assert sorted(Path("photos-split").rglob("*.png")) == before


def test_an_evaluation_picture_that_was_copied_into_training_is_not_trained_on(photos: Path) -> None:
    ensure_split(settings(), is_renewed=True)
    for path in sorted(Path("photos-split/evaluation/red").iterdir()):
        shutil.copy(path, "photos-split/training/red")
    with pytest.raises(DataError, match="classifold did not put there"):
        ensure_split(settings(), is_renewed=True)


def test_a_folder_and_a_listing_of_its_name_do_not_replace_each_others_split(photos: Path) -> None:
    rows = [f"{path},{path.parent.name}\n" for path in sorted(photos.rglob("*.png"))]
    listing = Path("photos.csv")
    listing.write_text("file_name,label\n" + "".join(rows))
    ensure_split(settings(), is_renewed=True)
    for is_renewed in (True, False):
        with pytest.raises(DataError, match="it is the split of photos, and not that"):
            ensure_split(settings(folder=listing), is_renewed=is_renewed)
    with pytest.raises(DataError, match="it is the split of photos, and not"):
        split_dataset(settings(folder=listing))
    other = override_config(("SPLIT_LOCAL_DIR=other-split",), folder=listing)
    assert ensure_split(other, is_renewed=True) is not None


def test_a_split_that_a_training_reads_is_not_replaced(photos: Path) -> None:
    ensure_split(settings(), is_renewed=True)
    add(photos)
    with reading_folder(Path("photos-split")), reading_folder(Path("photos-split")):
        with pytest.raises(DataError, match="a training is reading this folder"):
            ensure_split(settings(), is_renewed=True)
        assert Path("photos-split/split.json").exists()
    assert ensure_split(settings(), is_renewed=True) is not None


def test_the_notes_of_a_split_can_be_read_later(photos: Path) -> None:
    assert load_split_notes(Path("photos-split")) == []
    (photos / "red" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = ensure_split(settings(), is_renewed=True)
    assert summary is not None
    assert any("damaged.png" in note for note in summary.notes)
    assert load_split_notes(Path("photos-split")) == list(summary.notes)
