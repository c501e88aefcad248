"""A new project's folder: what is written, from which names, and what is refused."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold import atomic, names
from classifold.errors import DataError, DiskError, SettingsError, UsageError
from classifold.init import new_project
from classifold.init.new_project import make_project
from classifold.init.texts import build_ignored, build_requirements, derive_data_name
from classifold.settings.loader import build_config, load_config
from classifold.settings.rules import derive_project_name

FILES = (
    *("README.md", ".gitignore", names.CONFIG_FILE, "local_env_requirements.txt"),
    *("data_handler.py", "project_manager.py", names.REQUEST_TEMPLATE),
)
Draw = Callable[..., Path]


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_new_project_has_every_file_and_settings_that_load(tmp_path: Path) -> None:
    made = make_project(tmp_path / "Rose Garden")
    assert files_below(made.folder) == set(made.written) == set(FILES)
    assert made.kept == ()
    config = load_config(made.folder / names.CONFIG_FILE)
    assert config == made.config
    assert config.PROJECT_NAME == "rose-garden"
    assert config.TAGS == {"Project": "rose-garden", "Service": "training"}
    assert len((made.folder / "README.md").read_text().splitlines()) == 10


def test_scripts_and_job_template_are_those_of_the_checkout(root: Path, tmp_path: Path) -> None:
    make_project(tmp_path / "roses")
    for name in ("data_handler.py", "project_manager.py", names.REQUEST_TEMPLATE):
        assert (tmp_path / "roses" / name).read_bytes() == (root / name).read_bytes()


def test_no_other_account_can_have_the_buckets_of_a_new_project(tmp_path: Path) -> None:
    config = make_project(tmp_path / "flowers").config
    assert config.BUCKET_NAMESPACE == "account-regional"


@pytest.mark.parametrize("region", ["eu-west-1", "ap-southeast-1", "us-isob-east-1"])
def test_the_longest_name_that_is_derived_fits_into_buckets_of_every_region(
    tmp_path: Path, region: str
) -> None:
    settings = build_config({"PROJECT_REGION": region})
    config = make_project(tmp_path / ("rose " * 30), settings=settings).config
    assert config.PROJECT_NAME == "rose-rose-rose-rose-rose"


@given(st.text())
def test_a_derived_name_is_one_that_a_project_can_have(text: str) -> None:
    name = derive_project_name(text, limit=24)
    if name:
        config = build_config({"PROJECT_NAME": name, "BUCKET_NAMESPACE": "account-regional"})
        assert name == config.PROJECT_NAME


@given(st.text())
def test_a_derived_data_name_is_one_that_pictures_can_have(text: str) -> None:
    build_config(
        {
            "DATA_NAME": derive_data_name(text),
            "UPLOAD_AS": "shards",
            "INPUT_DISTRIBUTION": names.SHARDED_BY_KEY,
        }
    )


@pytest.mark.parametrize(
    ("folder", "name"), [("Blüten größe", "bluten-grosse"), ("a.b_c", "a-b-c"), ("2026", "2026")]
)
def test_a_projects_name_follows_from_its_folders(tmp_path: Path, folder: str, name: str) -> None:
    assert name == make_project(tmp_path / folder).config.PROJECT_NAME


@pytest.mark.parametrize("folder", ["花", "ab", "amzn-s3-demo-x"])
def test_where_no_name_follows_the_path_gives_one_that_stays(tmp_path: Path, folder: str) -> None:
    name = make_project(tmp_path / folder).config.PROJECT_NAME
    assert name.startswith("pictures-")
    assert name == make_project(tmp_path / folder).config.PROJECT_NAME
    assert name != make_project(tmp_path / "other" / folder).config.PROJECT_NAME


def test_a_name_of_ones_own_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    assert make_project(tmp_path / "one", name="petals").config.PROJECT_NAME == "petals"
    with pytest.raises(SettingsError, match='PROJECT_NAME = "my-roses"'):
        make_project(tmp_path / "two", name="My Roses")
    assert not (tmp_path / "two").exists()


# The pictures


def test_pictures_below_the_project_are_named_from_there_and_ignored_by_git(
    tmp_path: Path, draw_colours: Draw
) -> None:
    folder = tmp_path / "shop"
    draw_colours(folder / "my photos", count=1)
    config = make_project(folder, data_dir=folder / "my photos").config
    assert (config.DATA_LOCAL_DIR, config.DATA_NAME) == ("my photos", "my-photos")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    (folder / "runs").mkdir()
    (folder / "runs" / "model.onnx").write_text("")
    words = ["git", "status", "--porcelain", "--untracked-files=all"]
    said = subprocess.run(words, cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout
    assert {line.removeprefix("?? ") for line in said.splitlines()} == set(FILES)


def test_pictures_elsewhere_are_named_as_the_user_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_colours: Draw
) -> None:
    photos = draw_colours(tmp_path / "photos", count=1)
    monkeypatch.chdir(tmp_path)
    assert make_project(Path("one"), data_dir=Path("photos")).config.DATA_LOCAL_DIR == "../photos"
    assert str(photos) == make_project(Path("two"), data_dir=photos).config.DATA_LOCAL_DIR


def test_a_path_of_pictures_that_no_settings_file_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8"):
        make_project(tmp_path / "shop", data_dir=Path(os.fsdecode(b"bl\xfcten")))


def test_a_file_is_no_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(DataError, match="DATA_MANIFEST"):
        make_project(tmp_path / "shop", data_dir=tmp_path / "labels.csv")


def test_among_class_folders_no_project_is_made(tmp_path: Path, draw_colours: Draw) -> None:
    photos = draw_colours(tmp_path / "photos", count=1)
    with pytest.raises(UsageError, match="classifold init PROJECT --data"):
        make_project(photos)
    for inner in (photos, photos / "project"):
        with pytest.raises(UsageError, match="lies in the folder of pictures"):
            make_project(inner, data_dir=photos)
    assert {path.name for path in photos.iterdir()} == {"blue", "green", "red"}


def test_beside_a_split_of_ones_own_no_project_is_made(tmp_path: Path, draw_colours: Draw) -> None:
    draw_colours(tmp_path / "photos" / "train", count=1)
    draw_colours(tmp_path / "photos" / "test", count=1)
    with pytest.raises(UsageError, match="it holds folders of pictures"):
        make_project(tmp_path / "photos")


def test_a_project_with_pictures_below_it_is_no_folder_of_pictures(
    tmp_path: Path, draw_colours: Draw
) -> None:
    draw_colours(tmp_path / "shop" / "photos", count=1)
    draw_colours(tmp_path / "shop" / "photos-split" / "training", count=1)
    make_project(tmp_path / "shop")


def test_whoever_names_the_pictures_may_have_other_folders_of_pictures_in_the_project(
    tmp_path: Path, draw_colours: Draw
) -> None:
    photos = draw_colours(tmp_path / "shop" / "photos", count=1)
    draw_colours(tmp_path / "shop", count=1)
    assert make_project(tmp_path / "shop", data_dir=photos).config.DATA_LOCAL_DIR == "photos"


# What is there already


def test_a_second_time_everything_is_kept(tmp_path: Path) -> None:
    make_project(tmp_path / "roses")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "roses").rglob("*")}
    again = make_project(tmp_path / "roses")
    assert (again.written, set(again.kept)) == ((), set(FILES))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "roses").rglob("*")} == before


def test_all_files_that_differ_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".gitignore").symlink_to("nowhere")
    with pytest.raises(UsageError) as caught:
        make_project(tmp_path)
    (fault,) = caught.value.faults
    assert fault.what.endswith(": README.md, .gitignore")
    assert "--keep" in fault.hint
    assert files_below(tmp_path) == {"README.md", ".gitignore"}


def test_files_that_differ_stay_and_the_others_come_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    made = make_project(tmp_path, is_kept=True)
    assert made.kept == ("README.md",)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert files_below(tmp_path) == set(FILES)


@pytest.mark.parametrize("blocker", ["container", "README.md", "container/modeling/config.py"])
def test_what_stands_in_the_way_of_a_file_is_named(tmp_path: Path, blocker: str) -> None:
    if blocker == "container":
        (tmp_path / blocker).write_text("")
    else:
        (tmp_path / blocker).mkdir(parents=True)
    with pytest.raises(UsageError, match="something else has the name"):
        make_project(tmp_path, is_kept=True)
    assert not (tmp_path / "data_handler.py").exists()


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "roses").write_text("")
    with pytest.raises(UsageError, match="roses: it is a file, not a folder"):
        make_project(tmp_path / "roses")
    with pytest.raises(DiskError, match="it is a file, not a folder"):
        make_project(tmp_path / "roses" / "deeper")
    assert (tmp_path / "roses").read_text() == ""


# Whole or not at all


@pytest.mark.parametrize("number", range(len(FILES)))
def test_an_end_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    left = iter(range(number))

    def write(path: Path) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return atomic.write_whole(path)

    monkeypatch.setattr(new_project, "write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        make_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(KeyboardInterrupt):
        make_project(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(DiskError, match="the disk is full"):
        make_project(tmp_path / "roses")
    assert list(tmp_path.iterdir()) == []


# The texts


def test_gitignore_names_only_what_lies_in_the_project() -> None:
    def folders(**values: object) -> list[str]:
        text = build_ignored(build_config(values)).partition("results\n")[2].partition("\n\n")[0]
        return text.splitlines()

    assert folders() == ["/data/", "/runs/"]
    assert folders(DATA_LOCAL_DIR="../photos", RUNS_DIR="/tmp/x") == ["/data/"]
    assert folders(DATA_LOCAL_DIR="a[b]*") == [
        *("/data/", "/a\\[b\\]\\*/", "/a\\[b\\]\\*-split/", "/a\\[b\\]\\*-split-shards/", "/runs/"),
    ]


class Installed:
    """A distribution as pip leaves it, with the record of where it came from."""

    version = "1.2.3"

    def __init__(self, record: str | None) -> None:
        self.record = record

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.record


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (None, "classifold[train]==1.2.3"),
        ('{"url": "file:///a%20b", "dir_info": {}}', "classifold[train] @ file:///a%20b"),
        (
            '{"url": "https://x.example/c.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
            "classifold[train] @ git+https://x.example/c.git@abc",
        ),
        (
            '{"url": "file:///c.whl", "archive_info": {"hashes": {"sha256": "12"}}}',
            "classifold[train] @ file:///c.whl#sha256=12",
        ),
        ('{"url": "https://x.example/c.whl?token=secret", "archive_info": {}}', ""),
    ],
)
def test_the_requirements_install_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, record: str | None, line: str
) -> None:
    monkeypatch.setattr("classifold.init.texts.distribution", lambda name: Installed(record))
    assert [one for one in build_requirements().splitlines() if not one.startswith("#")] == [line] * bool(
        line
    )
