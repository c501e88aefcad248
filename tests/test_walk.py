"""The README's walk, as a new user takes it: each step in a process of its own, in an empty folder."""

from __future__ import annotations

import csv
import json
import pickle
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from classifold import names
from made_strangers import draw_strangers

pytestmark = pytest.mark.slow
# Small enough for a test, with both stages in it.
SMALL = (
    "IMAGE_SIZE=64",
    "HEAD_PENALTIES=[0.1, 0.01]",
    "EPOCHS=1",
    "AUGMENTATION_VARIANTS=1",
    "BOOTSTRAP_SAMPLES=100",
)


@dataclass(frozen=True)
class Walk:
    """A project folder after the walk, and what its last step printed."""

    folder: Path
    run_dir: Path
    trained: Any


@pytest.fixture(scope="module")
def walk(root: Path, tmp_path_factory: pytest.TempPathFactory, run_python: Callable[..., Any]) -> Walk:
    folder = tmp_path_factory.mktemp("walk")
    settings = folder / names.CONFIG_FILE
    settings.parent.mkdir(parents=True)
    settings.write_text((root / names.CONFIG_FILE).read_text())
    words = ("-m", "classifold.cli.main")
    drawn = run_python(*words, "example", "data/flowers", "--pictures-per-class", "12", cwd=folder)
    assert drawn.code == 0, drawn.err
    divided = run_python(root / "data_handler.py", cwd=folder)
    assert divided.code == 0, divided.err
    small = [word for setting in SMALL for word in ("--set", setting)]
    trained = run_python(*words, "train", "--archive", *small, cwd=folder)
    assert trained.code == 0, trained.err
    (run_dir,) = [path for path in (folder / "runs").iterdir() if not path.name.startswith(".")]
    return Walk(folder, run_dir, trained)


def test_the_walk_ends_with_scores_classes_and_the_run_folder(walk: Walk) -> None:
    lines = walk.trained.out.splitlines()
    for start in ("accuracy ", "macro F1 ", "daisy ", "tulips "):
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert f"Run folder: {walk.run_dir.relative_to(walk.folder)}" in lines
    assert re.fullmatch(r"efficientnet-lite0-\d{4}(-\d\d){5}", walk.run_dir.name)


def test_a_log_sees_a_line_an_epoch_and_no_progress_bar(walk: Walk) -> None:
    said = walk.trained.out + walk.trained.err
    epochs = re.findall(
        r"^(head|fine-tuning) epoch (\d+) of 1: validation loss \S+, accuracy \S+; ", said, re.MULTILINE
    )
    tried = re.findall(r"^head (\d)/\d: regularization \S+: validation loss ", said, re.MULTILINE)
    assert tried == ["1", "2"]
    assert epochs == [("fine-tuning", "1")]
    assert len(re.findall(r"^chosen: regularization ", said, re.MULTILINE)) == 1
    assert "\r" not in said
    assert "\x1b" not in said


def test_the_run_folder_has_every_artefact_and_nothing_else(walk: Walk) -> None:
    found = {path.name for path in walk.run_dir.iterdir()}
    assert found == {*names.ARTEFACTS, *names.LATER_ARTEFACTS, names.CHECK_JSON, names.MODEL_ARCHIVE}
    assert {path.name for path in (walk.run_dir / "checkpoint").iterdir()} >= {
        "keras_metadata.pb",
        "saved_model.pb",
        "variables",
    }
    assert [path.name for path in (walk.folder / "runs").iterdir()] == [walk.run_dir.name]


def test_lite0_learns_the_made_flowers_and_every_form_agrees(walk: Walk) -> None:
    metrics = json.loads((walk.run_dir / "metrics.json").read_text())
    assert metrics["scores"]["accuracy"]["value"] > 0.4  # chance is 0.2
    assert max(json.loads((walk.run_dir / "environment.json").read_text())["verification"].values()) <= 1e-4


def test_the_settings_of_the_run_are_those_it_was_given(walk: Walk) -> None:
    config = json.loads((walk.run_dir / "config.json").read_text())
    assert config["IMAGE_SIZE"] == 64
    assert pickle.loads((walk.run_dir / "config_dict.pkl").read_bytes())["IMAGE_SIZE"] == 64


def test_predict_gives_what_the_evaluation_gave(walk: Walk, run_python: Callable[..., Any]) -> None:
    evaluation = walk.folder / "data" / "flowers-split" / "evaluation"
    words = (
        "-m",
        "classifold.cli.main",
        "predict",
        walk.run_dir,
        evaluation,
        "--format",
        "json",
        "--top-k",
        "1",
    )
    answer = run_python(*words)
    assert answer.code == 0, answer.err
    said = {Path(row["path"]).relative_to(evaluation).as_posix(): row for row in json.loads(answer.out)}
    with (walk.run_dir / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == set(said)
    for row in rows:
        assert said[row["path"]]["predicted_class"] == row["predicted_class"]
        assert said[row["path"]]["confidence"] == pytest.approx(float(row["confidence"]), abs=1e-4)


def test_noise_blank_pictures_and_text_are_unknown_unless_an_answer_is_asked_for(
    walk: Walk, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    words = ("-m", "classifold.cli.main", "predict", walk.run_dir, *draw_strangers(tmp_path))
    answer = run_python(*words, "--format", "json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [row["path"] for row in rows if not row["unknown"]] == []
    assert all(row["distance"] > 1 and row["predicted_class"] for row in rows)
    text = run_python(*words, "--top-k", "1").out
    assert all(line.startswith("unknown (") for line in text.splitlines())
    assert text.count(": unlike the training pictures (distance 1.") == len(rows)
    assert "unknown" not in run_python(*words, "--always-answer").out


def test_the_code_on_the_page_of_the_run_folder_reads_every_form_of_the_model(
    walk: Walk, root: Path, run_python: Callable[..., Any]
) -> None:
    text = (root / "docs" / "run_folder.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    picture = next((walk.folder / "data" / "flowers-split" / "evaluation").rglob("*.jpg"))
    keep = "if 'probabilities' in globals():\n    answers.append([float(x) for x in probabilities[0]])\n"
    code = "import json\nanswers = []\n" + "".join(f"{block}\n{keep}" for block in blocks)
    for placeholder, real in (("RUN", walk.run_dir), ("a.jpg", picture), ("size=224", "size=64")):
        assert placeholder in code
        code = code.replace(placeholder, str(real))
    answer = run_python("-c", f"{code}\nprint(json.dumps([classes, answers]))")
    assert answer.code == 0, answer.err
    classes, answers = json.loads(answer.out.splitlines()[-1])
    assert list(classes) == sorted(classes)
    assert len(answers) >= 3
    for one in answers:
        assert one == pytest.approx(answers[0], abs=1e-4)
        assert sum(one) == pytest.approx(1, abs=1e-4)


def test_the_archive_unpacks_to_the_run_folder(walk: Walk, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", walk.run_dir / names.MODEL_ARCHIVE, "-C", tmp_path], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        *names.ARTEFACTS,
        *names.LATER_ARTEFACTS,
        names.CHECK_JSON,
    }
    for name in ("model.h5", "classes.json", "metrics.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (walk.run_dir / name).read_bytes()
