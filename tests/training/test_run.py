"""A whole run by the command: what it leaves, what is left when it fails, and how it is interrupted."""

from __future__ import annotations

import csv
import errno
import json
import re
import shutil
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold import names
from classifold.errors import ClassifoldError, DataError, DiskError, RunError, SettingsError
from classifold.settings.config import Config
from made_runs import leave_out_progress

CLASSES = ["blue", "green", "red stripes"]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What a run leaves


def test_the_run_folder_has_every_artefact_and_nothing_else(finished):
    assert sorted(path.name for path in finished.run_dir.iterdir()) == sorted(
        [*names.ARTEFACTS, *names.LATER_ARTEFACTS, names.CHECK_JSON]
    )
    assert [path.name for path in finished.run_dir.parent.iterdir()] == [finished.run_dir.name]


def test_the_template_finds_its_checkpoint_as_it_knows_it(finished):
    content = {path.name for path in (finished.run_dir / "checkpoint").iterdir()}
    assert content == {"assets", "keras_metadata.pb", "saved_model.pb", "variables"}


def test_the_run_is_named_by_algorithm_and_time(finished):
    assert names.ALGORITHM_NAME_PATTERN.fullmatch(finished.run_dir.name)
    assert finished.run_dir.name.startswith("tiny-20")
    assert finished.run_dir.name.count("-") == 6


def test_the_history_goes_through_both_stages_and_marks_one_epoch(finished):
    rows = read_rows(finished.run_dir / "history.csv")
    assert [row["stage"] for row in rows] == ["head"] * 4 + ["fine_tune"] * 3
    assert [int(row["epoch"]) for row in rows] == list(range(1, 8))
    assert [row["best"] for row in rows].count("true") == 1
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_a_log_saw_what_begins_and_one_line_per_epoch_and_nothing_else(finished):
    checked, looking, starting, *lines = leave_out_progress(finished.err)
    assert checked == "data check: nothing that spoils the scores"
    assert looking.startswith("looking for the pictures in ")
    assert starting.startswith("starting TensorFlow (")
    epochs = [f"head epoch {n} of 4" for n in range(1, 5)] + [
        f"fine-tuning epoch {n} of 3" for n in range(1, 4)
    ]
    told = [line.partition(":")[0] for line in lines]
    assert [line for line in told if not line.startswith("kept ")] == epochs
    # Each stage ends with the epoch that is kept.
    assert [line.startswith("kept ") for line in told].index(True) == 4
    assert told[-1].startswith("kept ")
    assert len(told) == 9


def test_what_was_learned_shows_in_the_evaluation(finished):
    metrics = read_json(finished.run_dir / "metrics.json")
    assert metrics["num_pictures"] == 15
    assert metrics["unreadable"] == []
    assert metrics["class_names"] == CLASSES
    assert metrics["scores"]["accuracy"]["value"] > 0.7


def test_the_predictions_are_those_of_the_metrics_and_of_predict(finished, sets_dir):
    from classifold.predict.predictor import load_predictor

    rows = read_rows(finished.run_dir / "predictions.csv")
    assert len({row["path"] for row in rows}) == 15
    right = sum(row["correct"] == "true" for row in rows)
    metrics = read_json(finished.run_dir / "metrics.json")
    assert right / 15 == pytest.approx(metrics["scores"]["accuracy"]["value"])
    assert all(row["path"].startswith(row["true_class"] + "/") for row in rows)
    predictor = load_predictor(finished.run_dir)
    paths = [sets_dir / "evaluation" / row["path"] for row in rows]
    for row, prediction in zip(
        rows, predictor.predict_paths(paths, batch_size=4, num_workers=1), strict=True
    ):
        given = [float(row[f"p:{name}"]) for name in CLASSES]
        np.testing.assert_allclose(prediction.probabilities, given, atol=2e-6)


def test_what_is_promised_of_errors_follows_from_the_evaluation_pictures(finished):
    """The validation pictures chose the head and the epoch, and would promise too much."""
    answering = read_json(finished.run_dir / "classes.json")["answering"]
    assert answering["num_pictures"] == 15
    rows = read_rows(finished.run_dir / "predictions.csv")
    near = [row for row in rows if float(row["distance"]) <= answering["max_distance"]]
    for step in answering["error_steps"]:
        # predictions.csv has six decimals, and the step's confidence is rounded down.
        answered = [row for row in near if float(row["confidence"]) >= step["min_confidence"] - 2e-6]
        wrong = sum(row["correct"] == "false" for row in answered)
        assert (wrong + 1) / (len(answered) + 1) <= step["max_error"] + 1e-5
    least = min(answering["error_steps"], key=lambda step: step["max_error"])
    sure = [row for row in near if float(row["confidence"]) >= least["min_confidence"] - 2e-6]
    assert least["max_error"] >= 1 / (len(sure) + 1) - 1e-5
    for row in rows:
        unsure = float(row["confidence"]) < answering["min_confidence"]
        assert row["unknown"] == str(unsure or row not in near).lower()


def test_every_form_was_verified_in_a_fresh_process(finished):
    environment = read_json(finished.run_dir / "environment.json")
    forms = environment["verification"]
    assert set(forms) == {
        "checkpoint (TensorFlow)",
        "checkpoint (tf_keras)",
        "checkpoint (TFSMLayer)",
        "model.h5",
        "model.keras",
        "model.onnx",
    }
    assert all(0 <= difference <= 1e-4 for difference in forms.values())


def test_the_environment_tells_of_machine_data_and_time(finished, sets_dir):
    environment = read_json(finished.run_dir / "environment.json")
    assert environment["backend"] == "tensorflow"
    assert environment["data"]["dir"] == str(sets_dir)
    assert environment["data"]["counts"]["training"] == dict.fromkeys(CLASSES, 12)
    assert environment["data"]["counts"]["evaluation"] == dict.fromkeys(CLASSES, 5)
    phases = {"start", "reading", "head", "fine_tune", "export", "calibrate", "evaluate", "verify"}
    assert set(environment["seconds"]) == phases
    assert 100 < environment["peak_memory_mb"] < 5000
    assert {"keras", "tensorflow", "numpy", "onnxruntime"} <= set(environment["packages"])


def test_the_settings_are_written_down_and_can_be_read_back(finished):
    from classifold.settings.loader import build_config

    config = read_json(finished.run_dir / "config.json")
    config["HEAD_LAYERS"] = tuple(config["HEAD_LAYERS"])
    assert build_config(config).IMAGE_SIZE == 32


def test_the_model_card_is_the_same_in_every_form(finished, keras):
    import zipfile

    import h5py
    import onnx

    run = finished.run_dir
    card = (run / "classes.json").read_text(encoding="utf-8")
    with zipfile.ZipFile(run / "model.keras") as archive:
        cards = {"keras": archive.read("classifold.json").decode()}
        assert archive.testzip() is None
    with h5py.File(run / "model.h5") as file:
        cards["h5"] = file.attrs["classifold"]
    cards["checkpoint"] = (run / "checkpoint" / "assets" / "classifold.json").read_text(encoding="utf-8")
    props = {prop.key: prop.value for prop in onnx.load(run / "model.onnx").metadata_props}
    cards["onnx"] = props["classifold"]
    assert cards == dict.fromkeys(cards, card)
    content = json.loads(card)
    assert content["class_names"] == CLASSES
    assert content["run"] == run.name
    assert content["image_size"] == 32


# Two runs, and interruptions


def fit_key(path: Path, keras: Any) -> list[np.ndarray]:
    return keras.models.load_model(path / "model.keras", compile=False).get_weights()


# A line about an epoch, or about the one that is kept at the end of a stage.
EPOCH = re.compile(r"(kept )?(head|fine-tuning) ")


def is_log(started: Any, stage: str, count: int = 1) -> Callable[[], bool]:
    return lambda: f"\n{stage} epoch {count} of " in started.stderr()


def expect_interrupted(started: Any, code: int) -> Path:
    """Return the folder that was kept, once the command ended as it should."""
    assert code == 130, started.stderr()
    checked, looking, starting, *lines = [
        line for line in leave_out_progress(started.stderr()) if not EPOCH.match(line)
    ]
    assert checked == "data check: nothing that spoils the scores"
    assert looking.startswith("looking for the pictures in ")
    assert starting.startswith("starting ")
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], started.stderr()
    state, kept = sorted(started.runs_dir.iterdir())
    assert kept.name.endswith(".interrupted")
    name = kept.name.removesuffix(".interrupted")
    assert state.name == f".{name}.checkpoint"
    assert 2 <= len(list(state.glob("checkpoint-*"))) <= 4
    assert sorted(path.name for path in kept.iterdir()) == [
        "classes.json",
        "config.json",
        "history.csv",
        "model.keras",
    ]
    assert re.search(rf": classifold train .*--resume {name}$", lines[1])
    return kept


def test_an_interruption_of_the_export_keeps_the_model_which_is_that_of_any_run_with_this_seed(
    start_train, finished, children, keras
):
    started = start_train()
    # Not sooner: a process that is just being started is not yet known to the one that must end it.
    started.wait_for(
        lambda: list(started.runs_dir.glob(".*/reference.npz")) and children(started.process.pid)
    )
    (child,) = children(started.process.pid)
    kept = expect_interrupted(started, started.end(signal.SIGINT))
    assert not Path(f"/proc/{child}").exists()
    # The same settings in another process: the same weights, to the last bit.
    for one, other in zip(fit_key(kept, keras), fit_key(finished.run_dir, keras), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(read_rows(kept / "history.csv")) == 7


def test_ctrl_c_keeps_the_best_so_far_and_its_hint_goes_on_until_sigterm_ends_that_too(
    start_train, children, keras
):
    first = start_train(HEAD_EPOCHS=100_000, EARLY_STOPPING_PATIENCE=0)
    first.wait_for(is_log(first, "head", 3))
    kept = expect_interrupted(first, first.end(signal.SIGINT))
    rows = read_rows(kept / "history.csv")
    assert {row["stage"] for row in rows} == {"head"}
    assert [row["best"] for row in rows].count("true") == 1
    model = keras.models.load_model(kept / "model.keras", compile=False)
    shares = model.predict_on_batch(np.full((2, 32, 32, 3), 90, np.float32))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)

    second = start_train(BACKBONE_WEIGHTS=str(kept), HEAD_EPOCHS=0, EPOCHS=100_000, EARLY_STOPPING_PATIENCE=0)
    second.wait_for(is_log(second, "fine-tuning", 2))
    again = expect_interrupted(second, second.end(signal.SIGTERM))
    # It went on from where the first was: the frozen part has its very weights.
    np.testing.assert_array_equal(fit_key(again, keras)[0], fit_key(kept, keras)[0])
    assert float(read_rows(again / "history.csv")[0]["loss"]) < float(rows[0]["loss"])
    assert children(second.process.pid) == []


def test_jax_trains_both_stages_as_quietly_and_its_model_is_tensorflows_too(start_train, keras):
    import importlib.util

    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    started = start_train(BACKEND="jax", EPOCHS=100_000, EARLY_STOPPING_PATIENCE=0)
    started.wait_for(is_log(started, "fine-tuning", 2))
    kept = expect_interrupted(started, started.end(signal.SIGINT))
    rows = read_rows(kept / "history.csv")
    assert {row["stage"] for row in rows} == {"head", "fine_tune"}
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    model = keras.models.load_model(kept / "model.keras", compile=False)
    shares = model.predict_on_batch(np.full((2, 32, 32, 3), 90, np.float32))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_an_interruption_before_the_first_epoch_keeps_nothing_and_says_so(start_train):
    started = start_train()
    started.wait_for(lambda: list(started.runs_dir.glob(".*.partial")))
    code = started.end(signal.SIGTERM)
    assert code == 130, started.stderr()
    assert "interrupted" in started.stderr()
    assert "Traceback" not in started.stderr()
    assert list(started.runs_dir.iterdir()) == []


# Failures leave nothing; the runs below need no more than the head


@pytest.fixture
def train(tiny: Callable[..., Config], keras: Any, sets_dir: Path, tmp_path: Path) -> Callable[..., Any]:
    """train(RUNS_DIR=...) -> what train_model says of the quickest run, in this process."""
    from classifold.training.run import train_model

    def train(*, archive: bool = False, add_report: Any = None, **settings: Any) -> Any:
        base = {
            "SPLIT_LOCAL_DIR": str(sets_dir),
            "RUNS_DIR": str(tmp_path / "runs"),
            "HEAD_EPOCHS": 1,
            "EPOCHS": 0,
        }
        return train_model(tiny(**{**base, **settings}), archive=archive, add_report=add_report)

    return train


def left_over(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "runs").glob("*")]


def refuse(kind: type[ClassifoldError], train: Callable[..., Any], **settings: Any) -> str:
    """Return what a run says that fails, of lines that are errors and hints."""
    with pytest.raises(kind) as error:
        train(**settings)
    lines = str(error.value).splitlines()
    assert {line.partition(":")[0] for line in lines} <= {"error", "hint"}
    assert any(line.startswith("hint: ") for line in lines)
    return str(error.value)


def test_a_limit_of_time_shortens_the_training_and_a_report_that_fails_leaves_no_folder(
    train, tmp_path: Path
):
    seen, rows = set[str](), list[dict[str, str]]()

    def fail(folder: Path) -> None:
        seen.update(path.name for path in folder.iterdir())
        rows.extend(read_rows(folder / "history.csv"))
        raise RuntimeError("no page")

    fine_tuned = 3e-3  # LEARNING_RATE of the tiny run
    with pytest.raises(RuntimeError, match="no page"):
        train(add_report=fail, HEAD_EPOCHS=4, TIME_LIMIT=0.15, EPOCHS=100_000, EARLY_STOPPING_PATIENCE=0)
    # The learning rate falls with the epochs that were planned: of 100,000 it would still be whole. On a slow
    # machine these are two or three, whose last step is not yet near zero.
    tuned = [row for row in rows if row["stage"] == "fine_tune"]
    assert len(tuned) < 100_000
    if tuned:
        assert float(tuned[-1]["learning_rate"]) < 0.2 * fine_tuned or len(tuned) == 1
    # The run was whole by then: every form was written and verified.
    assert set(names.ARTEFACTS) - {"report.html"} <= seen
    assert left_over(tmp_path) == []


def write_page(folder: Path) -> None:
    for name in (names.REPORT_HTML, names.MODEL_CARD_MD):
        (folder / name).write_text("page")


def test_a_head_that_is_found_and_half_precision_make_a_run_like_any_other_with_report_and_archive(
    train, tmp_path: Path
):
    summary = train(
        archive=True,
        add_report=write_page,
        HEAD_PENALTIES=(0.1, 0.01, 0.001),
        PRECISION="bfloat16",
        EPOCHS=1,
        MAX_ERROR=0.01,
    )
    # Told once, though it holds after the training as well.
    (note,) = [note for note in summary.notes if note.startswith("MAX_ERROR")]
    assert "cannot be kept with 15 evaluation pictures" in note
    rows = read_rows(summary.run_dir / "history.csv")
    assert [row["stage"] for row in rows] == ["head"] * 3 + ["fine_tune"]
    assert [float(row["penalty"]) for row in rows] == [0.1, 0.01, 0.001, 0.0]
    assert summary.metrics["scores"]["accuracy"]["value"] > 0.7
    verification = read_json(summary.run_dir / "environment.json")["verification"]
    assert all(difference <= 1e-4 for difference in verification.values())

    assert left_over(tmp_path) == [summary.run_dir.name]
    assert summary.archive == summary.run_dir / "model.tar.gz"
    with tarfile.open(summary.archive) as archive:
        members = archive.getnames()
    assert {name.partition("/")[0] for name in members} == {*names.ARTEFACTS, *names.LATER_ARTEFACTS}
    assert summary.metrics == read_json(summary.run_dir / "metrics.json")


def test_an_unknown_backbone_leaves_nothing(train, tmp_path: Path):
    assert "did you mean ResNet50?" in refuse(ClassifoldError, train, BACKBONE="ResNet5")
    assert left_over(tmp_path) == []


def test_an_unknown_class_among_the_weights_leaves_nothing(train, tmp_path: Path):
    assert "yellow" in refuse(SettingsError, train, CLASS_WEIGHTS={"yellow": 2.0})
    assert left_over(tmp_path) == []


def test_a_split_that_is_not_there_is_said_before_keras_starts(train, tmp_path: Path):
    assert "classifold split" in refuse(DataError, train, SPLIT_LOCAL_DIR=str(tmp_path / "none"))
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_is_no_number_says_which_settings_to_change(train, tmp_path: Path):
    code = (
        "import keras\n\ndef build(n):\n    pixels = keras.Input((n, n, 3))\n"
        "    return keras.Model(pixels, keras.layers.Rescaling(float('inf'))(pixels))\n"
    )
    (tmp_path / "endless.py").write_text(code)
    text = refuse(RunError, train, BACKBONE=f"{tmp_path / 'endless.py'}:build")
    assert "LEARNING_RATE" in text
    assert left_over(tmp_path) == []


def test_pictures_that_cannot_be_read_are_noted_and_a_set_without_any_other_is_refused(
    train, sets_dir: Path, tmp_path: Path
):
    copy = tmp_path / "sets"
    shutil.copytree(sets_dir, copy)
    for path in (copy / "validation").rglob("*.png"):
        path.write_bytes(b"no picture")
    text = refuse(DataError, train, SPLIT_LOCAL_DIR=str(copy))
    assert "none of its pictures can be read" in text
    assert str(copy / "validation") in text
    assert left_over(tmp_path) == []


def test_a_file_where_the_runs_should_go_is_named(train, tmp_path: Path):
    (tmp_path / "runs").write_text("")
    assert str(tmp_path / "runs") in refuse(DiskError, train)


def test_a_read_only_disk_is_named(train, mount):
    disk = mount("size=1m,ro")
    text = refuse(DiskError, train, RUNS_DIR=str(disk))
    assert "read-only" in text
    assert str(disk) in text
    assert ".partial" not in text


@pytest.mark.parametrize("size", ["20k", "100k", "260k"])
def test_a_full_disk_is_named_whatever_step_fills_it_and_left_as_it_was(size, train, mount):
    disk = mount(f"size={size}")
    text = refuse(DiskError, train, RUNS_DIR=str(disk), CACHE_GB=0.0)
    assert "the disk is full" in text
    assert ".partial" not in text
    assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_a_step_that_is_killed_or_fails_says_so(tmp_path: Path, caplog):
    from classifold.processes import explain_failure, run_module

    with pytest.raises(RunError) as error:
        run_module("classifold.training.export", tmp_path / "no such run")
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert "No such file" in lines[0]
    assert "Traceback" in caplog.text
    assert "memory" in str(explain_failure("export", -9, ""))
    assert "exit code 3" in str(explain_failure("export", 3, ""))
    full = explain_failure("export", 1, "Traceback\nOSError: [Errno 28] No space left on device")
    assert isinstance(full, DiskError)


# A disk without locks


def test_a_disk_without_locks_gets_the_whole_run(start_train, poor_disk, monkeypatch):
    for name, value in poor_disk(lock_error=errno.ENOLCK).items():
        monkeypatch.setenv(name, value)
    one = start_train(EPOCHS=0, HEAD_EPOCHS=1)
    assert one.process.wait(600) == 0, one.stderr()
    (run_dir,) = one.runs_dir.iterdir()
    assert sorted(path.name for path in run_dir.iterdir()) == sorted(
        [*names.ARTEFACTS, *names.LATER_ARTEFACTS, names.CHECK_JSON]
    )
    assert f"the disk of {one.runs_dir} does not support locks: start this run only once" in one.stderr()
