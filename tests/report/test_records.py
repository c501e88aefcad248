from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.errors import RunError
from classifold.report.page import write_report
from classifold.report.records import iter_predictions, read_records

FILES = ("metrics.json", "history.csv", "config.json", "environment.json", "predictions.csv")


def faults_of(run_dir: Path) -> list[tuple[str, str, str]]:
    with pytest.raises(RunError) as caught:
        write_report(run_dir)
    assert not (run_dir / "report.html").exists()
    return [(fault.where, fault.what, fault.hint) for fault in caught.value.faults]


@pytest.fixture
def run_dir(make_run: Callable[..., Any]) -> Path:
    return Path(make_run(pictures=False).run_dir)


def test_a_run_folder_is_read_as_it_was_written(make_run: Callable[..., Any]) -> None:
    made = make_run(pictures=False)
    records = read_records(made.run_dir)
    assert records.metrics.num_pictures == 75
    assert records.metrics.class_names == made.class_names
    assert records.settings["BATCH_SIZE"] == 16
    assert [epoch.epoch for epoch in records.history if epoch.best] == [18]
    rows = list(iter_predictions(made.run_dir))
    assert [row.key for row in rows] == made.keys
    assert [row.correct for row in rows] == list(made.true == made.predicted)
    assert rows[0].true_confidence == pytest.approx(made.probabilities[0, made.true[0]], abs=1e-6)


def test_every_missing_file_is_named_at_once(run_dir: Path) -> None:
    for name in FILES:
        (run_dir / name).unlink()
    faults = faults_of(run_dir)
    assert {where for where, _, _ in faults} == {str(run_dir / name) for name in FILES}
    assert all("missing" in what and hint for _, what, hint in faults)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_or_a_device_in_a_run_folder_is_not_read(run_dir: Path, name: str) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run_dir / name).unlink()
        make(run_dir / name)
        ((where, what, _),) = faults_of(run_dir)
        assert where == str(run_dir / name)
        missing = "this file of the run folder is missing"
        assert what == (missing if name == "predictions.csv" else "it is not an ordinary file")


def test_a_folder_that_is_not_there_is_a_run_error(tmp_path: Path) -> None:
    [(where, what, hint)] = faults_of(tmp_path / "no run")
    assert where.endswith("no run")
    assert what == "no such run folder"
    assert "classifold train" in hint


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b'{"format": 1'])
def test_a_damaged_file_is_named_with_a_cure(run_dir: Path, name: str, content: bytes) -> None:
    (run_dir / name).write_bytes(content)
    [(where, what, hint), *_] = faults_of(run_dir)
    assert name in where
    assert what
    assert "again" in hint


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_never_ends_in_a_crash(run_dir: Path, name: str) -> None:
    whole = (run_dir / name).read_bytes()
    for length in range(1, len(whole), max(1, len(whole) // 9)):
        (run_dir / name).write_bytes(whole[:length])
        faults = []
        try:
            write_report(run_dir).unlink()  # a table cut between two rows is a shorter table
        except RunError as error:
            faults = [*error.faults]
        assert all(name in fault.where for fault in faults)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 3}, "format is wrong"),
        ({"class_names": ["a", "b"]}, "confusion_matrix is not 2 x 2"),
        ({"scores": {}}, "scores has no accuracy"),
        ({"num_pictures": 0}, "num_pictures is wrong"),
        ({"per_class": []}, "per_class does not list"),
        ({"num_pictures": 10**30}, "num_pictures is wrong"),
        ({"confusion_matrix": [[0] * 5] * 5}, "confusion_matrix counts no picture"),
        ({"confusion_matrix": [[-1, *[1] * 4], *[[1] * 5] * 4]}, "confusion_matrix.0.0 is wrong"),
        ({"confusion_matrix": [[10**400, *[1] * 4], *[[1] * 5] * 4]}, "confusion_matrix.0.0 is wrong"),
        ({"scores": {"accuracy": {"value": float("nan")}}}, "scores.accuracy.value is wrong"),
        ({"scores": {"accuracy": {"value": float("inf")}}}, "scores.accuracy.value is wrong"),
    ],
)
def test_metrics_that_do_not_agree_with_themselves_are_refused(
    run_dir: Path, change: dict[str, Any], words: str
) -> None:
    metrics = json.loads((run_dir / "metrics.json").read_text())
    (run_dir / "metrics.json").write_text(json.dumps(metrics | change))
    [(_, what, _), *_] = faults_of(run_dir)
    assert words in what


def test_a_damaged_row_is_named_by_its_line(run_dir: Path) -> None:
    path = run_dir / "predictions.csv"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace("true", "perhaps").replace("false", "perhaps")
    path.write_text("\n".join(lines))
    [(where, what, _)] = faults_of(run_dir)
    assert where == f"{path}, line 4"
    assert "perhaps" in what
    lines[3] = "only,three,cells"
    path.write_text("\n".join(lines))
    assert faults_of(run_dir)[0][0] == f"{path}, line 4"


def test_empty_cells_and_broken_losses_are_gaps(
    run_dir: Path, history_rows: Callable[..., Any], save_history: Callable[..., None]
) -> None:
    rows = history_rows(2, 2, best=3)
    rows[0] |= {"loss": "nan", "val_loss": "", "accuracy": "inf"}
    save_history(run_dir, rows)
    first = read_records(run_dir).history[0]
    assert (first.loss, first.val_loss, first.accuracy) == (None, None, None)
    assert first.val_accuracy is not None


def test_what_a_later_release_adds_does_no_harm(run_dir: Path) -> None:
    for name in ("metrics.json", "environment.json"):
        content = json.loads((run_dir / name).read_text())
        (run_dir / name).write_text(json.dumps(content | {"energy_wh": 12}))
    assert write_report(run_dir).is_file()


@pytest.mark.parametrize(
    ("name", "column", "cell"),
    [
        ("history.csv", "accuracy", "10"),
        ("history.csv", "val_accuracy", "1e308"),
        ("history.csv", "val_accuracy", "-1"),
        ("history.csv", "epoch", "9" * 5_000),
        ("predictions.csv", "confidence", "2"),
        ("predictions.csv", "confidence", "nan"),
        ("predictions.csv", "confidence", ""),
    ],
)
def test_a_figure_that_cannot_be_is_named_by_its_line(
    run_dir: Path, name: str, column: str, cell: str
) -> None:
    lines = (run_dir / name).read_text().splitlines()
    cells = lines[1].split(",")
    cells[lines[0].split(",").index(column)] = cell
    (run_dir / name).write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    with pytest.raises(RunError) as caught:
        write_report(run_dir)
    [fault] = caught.value.faults
    assert fault.where == f"{run_dir / name}, line 2"
    assert "a cell is damaged" in fault.what


def test_a_record_that_would_fill_the_memory_is_not_read(run_dir: Path) -> None:
    with (run_dir / "metrics.json").open("wb") as file:
        file.truncate(300 * 10**6)
    [(where, what, _)] = faults_of(run_dir)
    assert where == str(run_dir / "metrics.json")
    assert what == "it has 300 MB, more than in any run"
