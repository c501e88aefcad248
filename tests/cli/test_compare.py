from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from made_runs import Finished


@pytest.fixture
def runs(finished: Finished, tmp_path: Path) -> tuple[Path, Path]:
    """A real run and a copy of it in which one right answer was changed to a wrong one."""
    first, second = (shutil.copytree(finished.run_dir, tmp_path / name) for name in ("first", "second"))
    table, scores = second / "predictions.csv", second / "metrics.json"
    lines = table.read_text(encoding="utf-8").splitlines()
    place = next(number for number, line in enumerate(lines) if ",true," in line)
    key, true, _, share, _, *shares = lines[place].split(",")
    other = next(name for name in ("blue", "green") if name != true)
    lines[place] = ",".join([key, true, other, share, "false", *shares])
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    metrics = json.loads(scores.read_text())
    row = metrics["confusion_matrix"][metrics["class_names"].index(true)]
    row[metrics["class_names"].index(true)] -= 1
    row[metrics["class_names"].index(other)] += 1
    scores.write_text(json.dumps(metrics))
    return first, second


@pytest.mark.slow
def test_a_real_run_is_compared_as_text_json_and_page(
    runs: tuple[Path, Path], classifold: Callable[..., Any], project: Path
) -> None:
    answer = classifold("compare", *runs)
    assert answer.code == 0
    assert "B is better on 0 pictures and worse on 1" in answer.out
    assert answer.err.count("note: ") == 1
    assert max(map(len, answer.out.partition("\nB is better")[0].splitlines())) <= 60
    page = project / "page.html"
    answer = classifold("compare", *runs, "--json", "--html", page)
    said = json.loads(answer.out)
    assert (said["pairs"][0]["worse"], said["num_pictures"]) == (1, 15)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert said["page"] == str(page)


def test_one_run_is_a_mistake_in_usage(classifold: Callable[..., Any], project: Path) -> None:
    answer = classifold("compare", "runs/first")
    assert answer.code == 2
    assert "expected two runs or more, got 1 run" in answer.err


def test_a_missing_run_is_a_mistake_in_data(classifold: Callable[..., Any], project: Path) -> None:
    answer = classifold("compare", "runs/first", "runs/second")
    assert answer.code == 1
    assert answer.err.count("no such run folder") == 2


def test_a_page_in_a_folder_that_is_not_there_is_refused_before_any_work(
    classifold: Callable[..., Any], project: Path
) -> None:
    answer = classifold("compare", "runs/first", "runs/second", "--html", "no/such/page.html")
    assert answer.code == 1
    assert "no: no such folder" in answer.err or "no/such: no such folder" in answer.err


def test_a_page_in_place_of_a_runs_file_is_refused_before_any_work(
    classifold: Callable[..., Any], project: Path
) -> None:
    run_dir = project / "runs" / "first"
    run_dir.mkdir(parents=True)
    (run_dir / "metrics.json").write_text("{}")
    answer = classifold("compare", "runs/first", "runs/second", "--html", "runs/first/metrics.json")
    assert answer.code == 1
    assert "runs/first/metrics.json: this file belongs to the run in first" in answer.err
    assert (run_dir / "metrics.json").read_text() == "{}"
