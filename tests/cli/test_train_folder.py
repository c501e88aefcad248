from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from made_runs import CLASSES, paint, tiny_settings

pytestmark = pytest.mark.slow
Classifold = Callable[..., Any]
# As little training as gives a run: the head alone, found and not trained in epochs.
LITTLE = {"EPOCHS": 0, "HEAD_PENALTIES": (0.1,)}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures of each of three classes in `photos`, below the current folder."""
    monkeypatch.chdir(tmp_path)
    for class_name in CLASSES:
        Path("photos", class_name).mkdir(parents=True)
        for number in range(12):
            paint(class_name, number).save(f"photos/{class_name}/{number}.png")
    return Path("photos")


@pytest.fixture
def options(own_backbone: str, keras: Any) -> list[str]:
    """What makes a training short: `--set NAME=VALUE` for each setting."""
    settings = {**tiny_settings(own_backbone), **LITTLE}
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def test_a_folder_of_pictures_becomes_a_run_and_the_settings_file_gives_the_same(
    classifold: Classifold, photos: Path, options: list[str], own_backbone: str
) -> None:
    answer = classifold("train", "photos/", "--open", *options)
    assert answer.code == 0, answer.err
    assert answer.err.startswith("dividing the pictures of photos into three sets\n")
    assert sorted(path.name for path in Path().iterdir()) == ["photos", "photos-split", "runs"]
    [run_dir] = Path("runs").iterdir()
    sentence = [line for line in answer.out.splitlines() if line.startswith("The model named ")]
    assert len(sentence) == 1
    assert "evaluation pictures correctly" in sentence[0]
    assert f"Run folder: {run_dir}" in answer.out
    # There is no browser here, which is not an error.
    assert "note: no browser could be opened; open " in answer.err
    assert f"{run_dir.resolve()}/report.html" in answer.err

    # The template's way: the settings in the file, split and train.
    settings = {**tiny_settings(own_backbone), **LITTLE, "DATA_LOCAL_DIR": "photos", "SPLIT_LOCAL_DIR": "s"}
    Path("container/modeling").mkdir(parents=True)
    Path("container/modeling/config.py").write_text(
        "".join(f"{name} = {value!r}\n" for name, value in {**settings, "RUNS_DIR": "others"}.items())
    )
    assert classifold("split").code == 0
    answer = classifold("train", "--json")
    other = Path(json.loads(answer.out)["run_dir"])
    assert other.parent == Path("others")
    for name in ("predictions.csv", "metrics.json", "history.csv"):
        if name == "history.csv":
            assert (other / name).read_text().count("\n") == (run_dir / name).read_text().count("\n")
        else:
            assert (other / name).read_bytes() == (run_dir / name).read_bytes()


def test_a_second_train_does_not_split_again_and_a_split_is_trained_on_as_it_is(
    classifold: Classifold, photos: Path, options: list[str]
) -> None:
    Path("photos", CLASSES[0], "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert classifold("split", "photos").code == 0
    shutil.rmtree("photos")
    answer = classifold("train", "photos-split", "--json", *options)
    assert answer.code == 0, answer.err
    assert "dividing" not in answer.err
    said = json.loads(answer.out)
    assert said["run_dir"].startswith("runs/")
    # What the split left out is part of what a script reads.
    assert any("damaged.png" in note for note in said["notes"])
    assert sorted(path.name for path in Path().iterdir()) == ["photos-split", "runs"]
    # Without the pictures of the run, its report keeps those that it shows, and says so.
    page = Path(said["run_dir"], "report.html")
    before = page.read_text().count("data:image/jpeg")
    shutil.rmtree("photos-split")
    answer = classifold("report", said["run_dir"], "--json")
    [note] = json.loads(answer.out)["notes"]
    assert note.startswith("no folder holds exactly the pictures of this run: ")
    assert f"note: {note}\n" in answer.err
    assert page.read_text().count("data:image/jpeg") == before > 0


def test_a_listing_is_split_packed_and_trained_on(
    classifold: Classifold, photos: Path, options: list[str]
) -> None:
    rows = [f"{path},{path.parent.name}\n" for path in sorted(photos.rglob("*.png"))]
    Path("list.csv").write_text("file_name,label\n" + "".join(rows))
    answer = classifold("train", "list.csv", *options)
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in Path().iterdir()) == [
        *("list-split", "list-split-shards", "list.csv", "photos", "runs")
    ]


@pytest.mark.parametrize("command", ["check", "split"])
def test_a_split_is_not_split(classifold: Classifold, photos: Path, command: str) -> None:
    assert classifold("split", "photos").code == 0
    answer = classifold(command, "photos-split")
    assert answer.code == 2
    assert answer.err == (
        f"error: classifold {command} photos-split: expected a folder of pictures, got a split of one, or "
        "its shards\nhint: name the folder of its pictures; to train on it as it is: "
        "classifold train photos-split\n"
    )


def test_a_missing_folder_is_named_before_anything_is_written(
    classifold: Classifold, photos: Path, options: list[str]
) -> None:
    answer = classifold("train", "foto", *options)
    assert answer.code == 1
    assert answer.err.startswith(
        "dividing the pictures of foto into three sets\nerror: foto: there is no such"
    )
    assert [path.name for path in Path().iterdir()] == ["photos"]
