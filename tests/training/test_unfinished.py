"""`train --resume` and `--from`: after any end the run goes on, and what cannot be gone on with is told."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.asking import asked_for
from classifold.cli.options import check_train_options, choose_beginning
from classifold.errors import RunError, UsageError
from classifold.settings.config import Config
from classifold.settings.loader import load_config
from classifold.training.beginning import save_beginning
from classifold.training.unfinished import (
    find_start,
    find_unfinished,
    list_unfinished,
    remove_whole,
    tell_unfinished,
)
from classifold.trust.reference import load_reference
from made_runs import leave_out_progress


def leave(
    runs_dir: Path, name: str, *, seconds_ago: float, size: int = 10**6, has_state: bool = True
) -> Path:
    """What a run that stopped leaves."""
    folder = runs_dir / f".{name}.checkpoint"
    folder.mkdir(parents=True)
    if has_state:
        (folder / "checkpoint-000001.bin").write_bytes(bytes(size))
        (folder / "checkpoint-000001.json").write_text("{}")
        when = time.time() - seconds_ago
        os.utime(folder / "checkpoint-000001.json", (when, when))
    return folder


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Two runs that stopped, one that has saved nothing, and one that is whole."""
    runs_dir = tmp_path / "runs"
    leave(runs_dir, "old", seconds_ago=9000)
    leave(runs_dir, "new", seconds_ago=60, size=3_000_000)
    leave(runs_dir, "bare", seconds_ago=0, has_state=False)
    leave(runs_dir, "whole", seconds_ago=0)
    (runs_dir / "whole").mkdir()
    (runs_dir / "lost.interrupted").mkdir()
    return runs_dir


def refuse(runs_dir: Path, name: str) -> str:
    with pytest.raises(RunError) as error:
        find_unfinished(runs_dir, name)
    return str(error.value)


def test_the_newest_run_with_a_saved_state_is_gone_on_with_where_none_is_named(runs_dir: Path):
    assert [one.name for one in list_unfinished(runs_dir)] == ["new", "old", "bare"]
    assert find_unfinished(runs_dir, "") == "new"


@pytest.mark.parametrize("name", ["old", "old.interrupted", "runs/old", "runs/old.interrupted/"])
def test_a_run_is_named_by_itself_or_by_its_folder(name: str, runs_dir: Path):
    assert find_unfinished(runs_dir, name) == "old"


def test_an_unknown_name_lists_those_that_there_are_with_what_they_take(runs_dir: Path):
    text = refuse(runs_dir, "odl")
    assert "there is no run of this name" in text
    assert "new (20" in text
    assert ", 3 MB); old (20" in text


def test_what_cannot_be_gone_on_with_says_why(runs_dir: Path, tmp_path: Path):
    assert "this run is complete" in refuse(runs_dir, "whole")
    assert f"classifold train --from {runs_dir / 'lost.interrupted'}" in refuse(runs_dir, "lost")
    text = refuse(tmp_path / "nowhere", "")
    assert "there is no run here that stopped before its end" in text
    assert "hint: `classifold train` begins a run" in text


def test_a_run_under_way_is_not_gone_on_with(runs_dir: Path):
    working = runs_dir / ".new.partial"
    working.mkdir()
    held = os.open(working, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert find_unfinished(runs_dir, "") == "old"
        assert "this run is under way" in refuse(runs_dir, "new")
    finally:
        os.close(held)
    assert find_unfinished(runs_dir, "") == "new"


def test_a_new_run_tells_of_those_that_stopped_and_removes_none_but_of_whole_ones(runs_dir: Path):
    told: list[str] = []
    remove_whole(runs_dir)
    tell_unfinished(runs_dir, data="x", tell=told.append)
    (line,) = told
    assert line.startswith("3 runs stopped before the end (4 MB in hidden folders of ")
    assert line.endswith("classifold train --resume new resumes it")
    save_beginning(runs_dir / ".new.checkpoint", {"settings": {}, "versions": {}, "backend": "", "data": "y"})
    told.clear()
    tell_unfinished(runs_dir, data="x", tell=told.append)
    assert told[0].startswith("new stopped before the end, and cannot be resumed with the present pictures: ")
    tell_unfinished(runs_dir, data="y", tell=told.append)
    assert told[1].endswith("classifold train --resume new resumes it")
    left = {path.name for path in runs_dir.iterdir()}
    assert left == {".old.checkpoint", ".new.checkpoint", ".bare.checkpoint", "whole", "lost.interrupted"}


def test_a_start_is_a_path_or_the_name_of_a_run(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "none").write_text("weights")
    monkeypatch.chdir(tmp_path)
    assert find_start(runs_dir, "whole") == str(runs_dir / "whole")
    assert find_start(runs_dir, "lost") == str(runs_dir / "lost.interrupted")
    assert find_start(runs_dir, "none") == str(tmp_path / "none")
    with pytest.raises(RunError, match="there is no such run"):
        find_start(runs_dir, "imagenet")


def test_from_is_a_setting_like_any_other_and_resume_knows_no_docker(runs_dir: Path, tmp_path: Path):
    (tmp_path / "config.py").write_text(f"RUNS_DIR = {str(runs_dir)!r}\n")

    def load(overrides: tuple[str, ...]) -> Config:
        return load_config(tmp_path / "config.py", overrides=overrides)

    def choose(**options: Any) -> Any:
        return choose_beginning(load, (), **{"resumed": None, "start": None, **options})

    assert choose()[0].BACKBONE_WEIGHTS == "imagenet"
    weights = choose(start="whole")[0].BACKBONE_WEIGHTS
    assert weights == str(runs_dir / "whole")
    assert choose(start="whole", resumed="old")[1] == "old"
    assert choose()[1] is None
    with pytest.raises(UsageError, match="--docker"):
        check_train_options(in_docker=True, resumed="")


def test_the_note_on_a_stopped_run_repeats_the_options_of_that_run_and_not_todays(tmp_path: Path) -> None:
    folder = leave(tmp_path, "old", seconds_ago=60)
    facts = {"settings": {}, "versions": {}, "backend": "tensorflow"}
    with asked_for("photos", options=["--set", "EPOCHS=3"]):
        save_beginning(folder, facts)
    said: list[str] = []
    with asked_for("photos", options=["--set", "EPOCHS=9"]):
        tell_unfinished(tmp_path, data="x", tell=said.append)
    assert said[0].endswith("; classifold train photos --set EPOCHS=3 --resume old resumes it")


# Runs


def find_states(started: Any) -> list[Path]:
    return list(started.runs_dir.glob(".*.checkpoint"))


def find_printed_call(text: str) -> list[str]:
    """The words after `classifold train` in the hint that says how to resume."""
    (line,) = (line for line in text.splitlines() if "to resume where it stopped" in line)
    return shlex.split(line.rpartition(": classifold train ")[2])


def read_rows(started: Any) -> list[Any]:
    (state,) = find_states(started)
    newest = max(state.glob("*.json"))
    return json.loads(newest.read_text())["rows"]


def expect_same_runs(one: Path, other: Path, keras: Any) -> None:
    """Weights, history but for the seconds, predictions and metrics are the same to the last bit."""
    models = [keras.models.load_model(path / "model.keras", compile=False) for path in (one, other)]
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)
    for name in ("predictions.csv", "metrics.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    references = [load_reference(path / "reference.npz") for path in (one, other)]
    np.testing.assert_array_equal(references[0].points, references[1].points)
    assert (references[0].keys, references[0].scale) == (references[1].keys, references[1].scale)
    histories = [(path / "history.csv").read_text().splitlines() for path in (one, other)]
    place = histories[0][0].split(",").index("seconds")
    rows = [[line.split(",")[:place] + line.split(",")[place + 1 :] for line in lines] for lines in histories]
    assert rows[0] == rows[1]


def test_a_run_killed_at_a_random_moment_and_in_its_export_is_the_straight_run_in_the_end(
    start_train: Callable[..., Any], finished, children, keras
):
    # 1. Anywhere.
    phases = json.loads((finished.run_dir / "environment.json").read_text())["seconds"]
    started = start_train()
    time.sleep(np.random.default_rng(5).uniform(0.1, 0.6) * sum(phases.values()))
    started.process.kill()
    assert started.process.wait() == -signal.SIGKILL
    state = find_states(started)

    # 2. When the model is calibrated and every format is being written; what checks them ends as well.
    started = start_train(*["--resume"] * bool(state), again=started)
    started.wait_for(
        lambda: list(started.runs_dir.glob(".*/reference.npz")) and children(started.process.pid)
    )
    (child,) = children(started.process.pid)
    started.process.kill()
    started.process.wait()
    end = time.monotonic() + 120
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    (state,) = find_states(started)
    name = state.name.removeprefix(".").removesuffix(".checkpoint")

    # 3. To the end, without an epoch more.
    started = start_train("--resume", again=started)
    assert started.process.wait(600) == 0, started.stderr()
    assert "note: resumed from epoch 3 of fine-tuning" in started.stderr()
    assert "\nfine-tuning epoch " not in started.stderr()
    assert [path.name for path in started.runs_dir.iterdir()] == [name]
    expect_same_runs(started.runs_dir / name, finished.run_dir, keras)


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing_and_other_settings_are_refused(
    start_train: Callable[..., Any],
):
    endless = {"EARLY_STOPPING_PATIENCE": 0, "CHECKPOINT_MINUTES": 60.0}
    started = start_train("--set", "HEAD_EPOCHS=100000", **endless)
    started.wait_for(lambda: "\nhead epoch 4 of " in started.stderr())
    started.process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    assert started.end(signal.SIGINT) == 130
    # It did not wait for the best model to be written.
    assert not list(started.runs_dir.glob("*.interrupted"))
    (state,) = find_states(started)
    name = state.name.removeprefix(".").removesuffix(".checkpoint")
    checked, looking, starting, *lines = [
        line for line in leave_out_progress(started.stderr()) if not line.startswith("head epoch ")
    ]
    assert checked == "data check: nothing that spoils the scores"
    assert looking.startswith("looking for the pictures in ")
    assert starting.startswith("starting TensorFlow (")
    num_epochs = started.stderr().count("\nhead epoch ")
    where = rf"(batch \d of epoch {num_epochs + 1}|epoch {num_epochs}) of the head"
    assert re.match(f"error: training: interrupted after {where}", lines[0])
    assert lines[1].endswith(f" --set HEAD_EPOCHS=100000 --resume {name}")
    assert len(lines) == 2
    # By time alone only the first epoch would be there.
    assert len(read_rows(started)) == num_epochs

    # Interrupted again, before it trains. The printed command has all that was given.
    again = start_train(*find_printed_call(started.stderr()), again=started, **endless)
    again.wait_for(lambda: list(again.runs_dir.glob(".*.partial")))
    assert again.end(signal.SIGINT) == 130
    assert find_printed_call(again.stderr()) == find_printed_call(started.stderr())
    assert len(read_rows(again)) == num_epochs

    again = start_train("--resume", again=started, **endless, HEAD_EPOCHS=99)
    assert again.process.wait(600) == 1
    assert "error: setting HEAD_EPOCHS: the checkpoint in" in again.stderr()
    assert "was made with 100000, got 99" in again.stderr()
    assert "without --resume a run starts from scratch" in again.stderr()
    assert len(read_rows(again)) == num_epochs


def test_a_run_that_fails_after_its_training_keeps_what_was_learned_and_one_that_learned_nothing_does_not(
    start_train: Callable[..., Any], sets_dir: Path, tmp_path: Path
):
    sets = tmp_path / "sets"
    shutil.copytree(sets_dir, sets)
    for path in (sets / "evaluation").rglob("*.png"):
        path.write_bytes(b"no picture")
    failed = start_train(SPLIT_LOCAL_DIR=str(sets), HEAD_EPOCHS=1, EPOCHS=0)
    assert failed.process.wait(600) == 1
    (state,) = find_states(failed)
    assert [path.name for path in failed.runs_dir.iterdir()] == [state.name]
    name = state.name.removeprefix(".").removesuffix(".checkpoint")
    assert (
        "note: what was learned until epoch 1 of the head is kept; to resume where it stopped"
        in failed.stderr()
    )
    assert find_printed_call(failed.stderr())[-2:] == ["--resume", name]

    other = start_train(SPLIT_LOCAL_DIR=str(sets), BACKBONE="no_such_preset", again=failed)
    assert other.process.wait(600) == 1
    assert f"note: {name} stopped before the end" in other.stderr()
    assert [path.name for path in failed.runs_dir.iterdir()] == [state.name]
