from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.errors import ClassifoldError, DataError, UsageError
from classifold.predict.output_check import check_answers_file
from made_spots import make_spot_run, write_spots


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a model by itself under another name, and pictures."""
    folder = tmp_path_factory.mktemp("place")
    make_spot_run(folder / "run")
    (folder / "mine.onnx").write_bytes((folder / "run" / "model.onnx").read_bytes())
    write_spots(folder / "photos")
    (folder / "photos" / "answers.csv").write_text("of an earlier call")
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("run/model.onnx", "this file belongs to the run in run"),
        ("run/reference.npz", "this file belongs to the run in run"),
        ("mine.onnx", "this file is read"),
        ("photos/red/0.png", "this file is read"),
        ("photos", "it is a folder"),
        ("no/answers.csv", "no such folder"),
    ],
)
def test_a_file_that_the_answers_would_replace_is_refused(place: Path, name: str, expected: str) -> None:
    with pytest.raises(ClassifoldError, match=expected):
        check_answers_file(place / name, run=place / "mine.onnx", pictures=[place / "photos"])


def test_a_single_picture_is_refused_under_any_name(place: Path, tmp_path: Path) -> None:
    picture = place / "photos" / "red" / "0.png"
    (tmp_path / "link").symlink_to(picture)
    with pytest.raises(DataError, match="this file is read"):
        check_answers_file(tmp_path / "link", run=place / "run", pictures=[picture])


@pytest.mark.parametrize("name", ["new.csv", "run/answers.csv", "photos/answers.csv", "photos/new.png"])
def test_other_files_are_fine(place: Path, name: str) -> None:
    check_answers_file(place / name, run=place / "run", pictures=[place / "photos"])


@pytest.mark.parametrize("name", ["why", "why/index.html", "why/sub/../a.csv", "link/a.csv"])
def test_the_folder_of_the_explanations_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("why")
    with pytest.raises(UsageError, match="it is in the --explain folder"):
        check_answers_file(
            tmp_path / name, run=tmp_path, pictures=[tmp_path], explain_dir=tmp_path / "photos" / ".." / "why"
        )


def test_predict_says_so_before_the_work(classifold: Callable[..., Any], place: Path) -> None:
    before = (place / "run" / "model.onnx").read_bytes()
    answer = classifold("predict", place / "run", place / "photos", "--output", place / "run" / "model.onnx")
    assert (answer.code, answer.out) == (1, "")
    assert (place / "run" / "model.onnx").read_bytes() == before
    why = place / "why"
    answer = classifold("predict", place / "run", place / "photos", "--explain", why, "--output", why)
    assert (answer.code, answer.out) == (2, "")
    assert not why.exists()
