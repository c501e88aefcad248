"""`classifold.check`, `split`, `train`: settings as arguments, results as values, Ctrl-C as in Python."""

from __future__ import annotations

import copy
import json
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import classifold as package
from classifold.api.config import Config
from classifold.api.steps import _choose_settings, check, split, train
from classifold.errors import ClassifoldError, DataError, RunError, SettingsError, UsageError
from made_photos import draw_photos, write_settings


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures in the current folder."""
    monkeypatch.chdir(tmp_path)
    draw_photos(tmp_path / "photos", count=10)
    return Path("photos")


def test_check_says_what_is_there_and_what_splitting_would_do(photos: Path) -> None:
    found = check(photos, quick=True)
    assert found.is_ready
    assert found.source == photos
    assert {name: row["kept"] for name, row in found.classes.items()} == dict.fromkeys(found.classes, 10)
    assert found.counts is not None
    assert sum(sum(one.values()) for one in found.counts.values()) == 30
    assert repr(found) == "Check('photos', 3 classes, ready)"
    assert [one.name for one in Path().iterdir()] == ["photos"]


def test_check_returns_what_is_wrong_and_raises_nothing_for_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = check(tmp_path / "empty")
    assert not found.is_ready
    assert found.counts is None
    assert found.faults[0].startswith("error: ")
    assert repr(found).endswith(f"{len(found.faults)} problem)")


def test_split_puts_the_sets_beside_the_folder(photos: Path) -> None:
    (photos / "blue" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = split(photos, PERCENTAGE_EVAL=0.3)
    assert done.path == Path("photos-split")
    assert list(done.unreadable) == ["blue/damaged.png"]
    assert done.unreadable["blue/damaged.png"]
    assert sum(done.counts["evaluation"].values()) == pytest.approx(9, abs=3)
    assert repr(done).startswith("Split('photos-split', training ")
    with pytest.raises(DataError):
        split(photos, UNREADABLE_PICTURES="fail")


def test_a_split_is_no_folder_of_pictures(photos: Path) -> None:
    split(photos)
    for function in (check, split):
        with pytest.raises(UsageError, match=r"classifold.train\('photos-split'\)"):
            function("photos-split")


@pytest.mark.parametrize("function", [check, split, train])
def test_an_empty_name_is_not_the_current_folder(function: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="the folder's name is empty"):
        function("")


@pytest.mark.parametrize("function", [check, split, train])
@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("x" * 300, "File name too long"),
        ("y/" * 2040, "File name too long"),
        ("a\0b", "null byte"),
        ("~\0", "null byte"),
        (3, "expected a path, as text or pathlib.Path, got 3"),
        (b"photos", "got b'photos'"),
        (None, "got None"),
    ],
)
def test_a_path_that_cannot_be_looked_up_is_one_error(
    function: Callable[..., Any], folder: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        function(folder)
    assert len(caught.value.faults) == 1
    assert len(str(caught.value)) < 250


def test_a_name_that_leaves_no_room_for_an_ending_is_an_error_of_ours(tmp_path: Path) -> None:
    draw_photos(tmp_path / ("p" * 253), count=10)
    with pytest.raises(ClassifoldError, match="too long"):
        split(tmp_path / ("p" * 253))


def test_a_folder_that_may_not_be_entered_is_one_error(
    photos: Path, ordinary_python: Callable[[str, Path], str]
) -> None:
    code = """
import classifold
for call in (classifold.check, classifold.split, classifold.train, classifold.Run, classifold.load):
    for path in ("photos", "photos/blue"):
        try:
            call(path)
        except classifold.ClassifoldError as error:
            print(error)
"""
    photos.chmod(0)
    try:
        said = ordinary_python(code, photos.resolve().parent)
    finally:
        photos.chmod(0o755)
    assert said.count("the path cannot be looked up (Permission denied), got 'photos") == 10
    assert said.count("error:") == 10


def test_a_path_object_may_give_bytes_and_a_tilde_is_the_home_folder(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Entry:
        def __fspath__(self) -> bytes:
            return b"photos"

    assert check(Entry(), quick=True).is_ready  # type: ignore[arg-type]
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert check("~/photos", quick=True).source == Path.cwd() / "photos"


@pytest.mark.parametrize("function", [check, split, train])
def test_a_dict_is_no_config_and_the_error_says_how_to_make_one(
    function: Callable[..., Any], photos: Path
) -> None:
    with pytest.raises(UsageError, match=r"config: .*, got a dict\nhint: classifold\.Config\(\*\*values\)"):
        function(photos, config={"EPOCHS": 1})
    with pytest.raises(UsageError, match="config: expected a path"):
        function(photos, config=3)


def test_a_missing_settings_file_is_told_without_an_option_of_the_command(photos: Path) -> None:
    with pytest.raises(SettingsError, match="the settings file does not exist") as caught:
        check(photos, config="no such file.py")
    assert "--config" not in str(caught.value)
    assert "config= takes the path" in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1, 0.0])
def test_a_time_limit_is_above_0_as_in_the_command(photos: Path, limit: float) -> None:
    with pytest.raises(UsageError, match=rf"time_limit: expected minutes above 0, got {limit}\nhint: leave"):
        train(photos, time_limit=limit)


@pytest.mark.parametrize("limit", ["5", True, float("nan"), 1e9])
def test_a_time_limit_that_is_no_time_is_refused_as_the_setting(photos: Path, limit: Any) -> None:
    with pytest.raises(SettingsError, match="setting TIME_LIMIT"):
        train(photos, time_limit=limit)


def test_what_is_given_twice_is_refused(photos: Path) -> None:
    with pytest.raises(
        UsageError, match="given twice, got time_limit=5 and TIME_LIMIT=6\nhint: leave one out"
    ):
        train(photos, time_limit=5, TIME_LIMIT=6)
    with pytest.raises(UsageError, match="start and BACKBONE_WEIGHTS both name"):
        train(photos, start="first", BACKBONE_WEIGHTS="imagenet")


@pytest.mark.parametrize("argument", [{"resume": 5}, {"resume": "a\0b"}, {"start": 5}, {"start": "x" * 300}])
def test_a_run_to_begin_from_is_a_path(photos: Path, argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises(UsageError, match=f"{name}: "):
        train(photos, **argument)


@pytest.mark.parametrize("function", [check, split, train])
def test_all_wrong_settings_are_told_at_once_with_the_cure(
    function: Callable[..., Any], photos: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        function(photos, EPOCH=5, BATCH_SIZE="many")
    assert isinstance(caught.value, ClassifoldError)
    said = str(caught.value)
    assert "setting EPOCH (argument): this setting does not exist\nhint: did you mean EPOCHS?" in said
    assert "setting BATCH_SIZE (argument): expected a whole number" in said


def test_the_pictures_are_named_once(photos: Path) -> None:
    with pytest.raises(SettingsError, match="argument DATA_LOCAL_DIR: the pictures are named already"):
        check(photos, DATA_LOCAL_DIR="elsewhere")


def test_arguments_override_the_config_and_the_config_the_defaults(tmp_path: Path) -> None:
    config = Config(EPOCHS=7, BATCH_SIZE=4)
    chosen = _choose_settings(tmp_path, config, {"EPOCHS": 9})
    assert (9, 4, str(tmp_path)) == (chosen.EPOCHS, chosen.BATCH_SIZE, chosen.DATA_LOCAL_DIR)
    assert _choose_settings(tmp_path, None, {}).EPOCHS == Config().EPOCHS


def test_a_recipe_that_is_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    config = Config(RECIPE="quick", BATCH_SIZE=4)
    assert config.EPOCHS == 0
    chosen = _choose_settings(tmp_path, config, {"RECIPE": "balanced"})
    assert (chosen.EPOCHS, chosen.BATCH_SIZE) == (Config().EPOCHS, 4)


def test_a_settings_file_is_read_only_where_it_is_named(photos: Path) -> None:
    file = Path("container/modeling/config.py")
    file.parent.mkdir(parents=True)
    file.write_text("EPOCHS = 3\n_ = open('it was run', 'w').close()\n")
    check(photos, quick=True)
    assert not Path("it was run").exists()
    assert _choose_settings(photos, str(file), {"BATCH_SIZE": 2}).EPOCHS == 3
    assert Path("it was run").exists()
    with pytest.raises(SettingsError, match="the settings file does not exist"):
        check(photos, config="no such file.py")


def test_a_config_is_checked_when_it_is_made_and_cannot_be_changed() -> None:
    with pytest.raises(SettingsError, match="did you mean EPOCHS"):
        Config(EPOCH=3)
    with pytest.raises(SettingsError, match="expected"):
        Config(EPOCHS="many")
    config = Config(EPOCHS=3)
    with pytest.raises(SettingsError, match=r"EPOCHS: a Config cannot be changed\nhint: .*Config\(EPOCHS="):
        config.EPOCHS = 4  # type: ignore[misc]
    assert config.model_fields_set == {"EPOCHS"}
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config


def test_what_cannot_be_resumed_or_started_from_is_told_in_the_words_of_python(photos: Path) -> None:
    with pytest.raises(RunError, match=r"`classifold.train\('photos'\)` begins a run"):
        train("photos", resume=True)
    with pytest.raises(RunError, match="there is no such run"):
        train("photos", start="nothing")


def test_training_without_its_extra_says_what_to_install_before_anything_is_written(
    photos: Path, run_python: Callable[..., Any]
) -> None:
    code = """
        import importlib.util, classifold
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name in ("keras", "tensorflow") else find(name)
        try:
            classifold.train("photos")
        except classifold.ClassifoldError as error:
            print(error)
    """
    answer = run_python("-c", textwrap.dedent(code), cwd=Path.cwd())
    assert 'hint: pip install "classifold[train] @ ' in answer.out
    assert not Path("photos-split").exists()


INTERRUPTED = """
import threading, classifold

def train(**more):
    return classifold.train("photos", config="settings.py", EPOCHS=60, **more)

try:
    train(archive=True)
except classifold.ClassifoldError:
    raise SystemExit("Ctrl-C must not be one of our errors")
except KeyboardInterrupt as error:
    print(error, flush=True)
    printed = str(error).rpartition(": ")[2]

def resume():
    print(eval(printed))

thread = threading.Thread(target=resume)  # as a web server or a notebook's widget would
thread.start()
thread.join()
"""


@pytest.mark.slow
def test_ctrl_c_saves_the_state_and_the_call_that_it_prints_resumes_it_from_any_thread(
    photos: Path, own_backbone: str
) -> None:
    write_settings(Path("settings.py"), own_backbone, IMAGE_SIZE=32)
    with Path("log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        end = time.monotonic() + 300
        while "fine-tuning epoch 1 of 60" not in Path("log").read_text():
            assert process.poll() is None, Path("log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
    err = Path("log").read_text()
    assert process.returncode == 0, err
    interrupted, resumed = out.splitlines()
    assert interrupted.startswith("interrupted after ")
    assert interrupted.endswith(
        ": classifold.train('photos', config='settings.py', archive=True, EPOCHS=60, resume=True)"
    )
    assert "--resume" not in interrupted
    (run_dir,) = Path("runs").iterdir()
    assert resumed.startswith(f"Run('{run_dir}', accuracy ")
    assert (run_dir / "model.tar.gz").is_file()
    assert json.loads((run_dir / "config.json").read_text())["EPOCHS"] == 60


def test_the_package_offers_these_functions() -> None:
    assert (package.check, package.split, package.train, package.Config) == (check, split, train, Config)
