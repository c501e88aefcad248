from __future__ import annotations

from pathlib import Path

import pytest

from classifold.errors import SettingsError
from classifold.settings.config import Config
from classifold.settings.loader import load_config, override_config


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder `photos` in the current one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    return folder


def settings_with(text: str, folder: Path) -> Config:
    Path("config.py").write_text(text)
    return load_config(Path("config.py"), folder=folder)


def test_a_folder_names_the_pictures_and_their_split_lies_beside_it(photos: Path) -> None:
    config = override_config((), folder=photos)
    assert (config.DATA_LOCAL_DIR, str(config.split_dir), config.RUNS_DIR) == (
        "photos",
        "photos-split",
        "runs",
    )


def test_the_other_settings_are_those_of_the_file_and_of_set(photos: Path) -> None:
    Path("config.py").write_text("EPOCHS = 3\nBATCH_SIZE = 8\n")
    config = load_config(Path("config.py"), folder=photos, overrides=("BATCH_SIZE=4",))
    assert (config.EPOCHS, config.BATCH_SIZE, config.DATA_LOCAL_DIR) == (3, 4, "photos")


def test_another_folder_than_the_files_does_not_go_into_the_files_split(photos: Path) -> None:
    config = settings_with('DATA_LOCAL_DIR = "others"\nSPLIT_LOCAL_DIR = "elsewhere"\n', photos)
    assert str(config.split_dir) == "photos-split"
    config = settings_with('DATA_LOCAL_DIR = "./photos/"\nSPLIT_LOCAL_DIR = "elsewhere"\n', photos)
    assert str(config.split_dir) == "elsewhere"
    config = settings_with('DATA_MANIFEST = "list.csv"\n', photos)
    assert (config.DATA_MANIFEST, config.DATA_LOCAL_DIR) == ("", "photos")


def test_a_file_is_a_listing(photos: Path) -> None:
    Path("list.csv").write_text("file_name,label\n")
    config = override_config((), folder=Path("list.csv"))
    assert (config.DATA_MANIFEST, str(config.split_dir)) == ("list.csv", "list-split")


@pytest.mark.parametrize("record", ["split.json", "shards.json"])
def test_a_split_and_shards_are_taken_as_they_are(photos: Path, record: str) -> None:
    (photos / record).write_text("{}")
    assert str(override_config((), folder=photos).split_dir) == "photos"


def test_the_pictures_cannot_be_named_twice(photos: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        override_config(("DATA_LOCAL_DIR=x", "EPOCH=3"), folder=photos)
    assert [fault.where for fault in caught.value.faults] == ["--set DATA_LOCAL_DIR", "setting EPOCH (--set)"]


def test_runs_never_go_into_the_pictures(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = photos.resolve()
    monkeypatch.chdir(photos)
    config = override_config((), folder=Path())
    assert f"{home}-runs" == config.RUNS_DIR
    assert config.split_dir.resolve() == home.with_name("photos-split")
    assert override_config(("RUNS_DIR=here",), folder=Path()).RUNS_DIR == "here"


def test_the_listing_of_the_file_is_not_the_folder_of_the_file(photos: Path) -> None:
    text = 'DATA_LOCAL_DIR = "photos"\nDATA_MANIFEST = "list.csv"\nSPLIT_LOCAL_DIR = "list-split"\n'
    assert str(settings_with(text, photos).split_dir) == "photos-split"
    Path("list.csv").write_text("file_name,label\n")
    assert str(settings_with(text, Path("list.csv")).split_dir) == "list-split"


def test_a_link_to_a_folder_has_the_split_of_the_folder(photos: Path) -> None:
    Path("elsewhere").mkdir()
    Path("link").symlink_to("photos")
    assert override_config((), folder=Path("link")).split_dir == Path("photos-split").resolve()
    Path("link-split").mkdir()
    assert str(override_config((), folder=Path("link")).split_dir) == "link-split"


def test_a_run_folder_and_a_part_of_a_split_are_no_pictures(photos: Path) -> None:
    (photos / "split.json").write_text("{}")
    (photos / "training").mkdir()
    run = Path("run")
    run.mkdir()
    for name in ("classes.json", "model.onnx"):
        (run / name).write_text("{}")
    for folder, what in ((photos / "training", "is a part of the split "), (run, "this is a run folder")):
        with pytest.raises(SettingsError, match=what):
            override_config((), folder=folder)


def test_a_listing_that_is_gone_is_still_a_listing(photos: Path) -> None:
    config = override_config((), folder=Path("list.csv"))
    assert (config.DATA_MANIFEST, str(config.split_dir)) == ("list.csv", "list-split")


def test_paths_that_cannot_be_looked_at_are_for_others_to_refuse(photos: Path) -> None:
    for name in ("x" * 300, "no/" * 3000 + "no"):
        assert name == override_config((), folder=Path(name)).DATA_LOCAL_DIR
