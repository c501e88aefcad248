"""The container's `train` on a made /opt/ml: done, failed, stopped, gone on from, killed."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from classifold import names
from classifold.container.main import deliver_run, describe_machine
from classifold.errors import RunError
from classifold.sagemaker.ml_folder import MlFolder
from made_runs import leave_out_progress

BACKBONE = """
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    for index in range(2):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu", name=f"conv{index}")(x)
    return keras.Model(pixels, x, name="tiny")
"""
SETTINGS = {
    "BACKBONE_WEIGHTS": None, "IMAGE_SIZE": 16, "BATCH_SIZE": 8, "HEAD_EPOCHS": 2, "EPOCHS": 2,
    "FINE_TUNE_SHARE": 1.0, "AUGMENTATION_VARIANTS": 1, "BOOTSTRAP_SAMPLES": 100, "BACKEND": "tensorflow",
    "EARLY_STOPPING_PATIENCE": 0, "HEAD_PENALTIES": (),
}  # fmt: skip
REACHED = {"model.keras", "classes.json", "config.json", "history.csv"}


@dataclass
class Job:
    """A job laid out in a folder, and the process that trains it."""

    ml: MlFolder
    scratch: Path
    process: subprocess.Popen[str] | None = None

    @property
    def log_path(self) -> Path:
        return self.ml.root.parent / "log.txt"

    def start(self) -> None:
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "classifold.container.main"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "CLASSIFOLD_ML_DIR": str(self.ml.root),
                    "TRAINING_JOB_NAME": "colours-job",
                    "TMPDIR": str(self.scratch),
                },
            )

    def log(self) -> str:
        return self.log_path.read_text()

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + 600
        while words not in self.log():
            assert self.process.poll() is None, f"ended too early:\n{self.log()}"
            assert time.monotonic() < end, f"waited too long:\n{self.log()}"
            time.sleep(0.02)

    def wait(self) -> int:
        return self.process.wait(600)

    def run(self) -> int:
        self.start()
        return self.wait()

    def set(self, **settings: Any) -> None:
        path = self.ml.config_dir / names.HYPERPARAMETERS_JSON
        texts = json.loads(path.read_text())
        for name, value in settings.items():
            texts[name] = value if isinstance(value, str) else json.dumps(value)
        path.write_text(json.dumps(texts))

    def failure(self) -> str:
        return self.ml.failure_path.read_text()

    def files(self) -> set[str]:
        return {path.name for path in self.ml.model_dir.iterdir()}


def lay_out(folder: Path, draw_colours: Callable[..., Path]) -> Job:
    ml = MlFolder(folder / "ml")
    channel = {"TrainingInputMode": "File"}
    ml.write(hyperparameters={}, channels={"colours": channel}, checkpoint_uri="s3://bucket/checkpoints/")
    for set_name, count in (("training", 8), ("validation", 3), ("evaluation", 4)):
        draw_colours(ml.channel_dir("colours") / set_name, count=count)
    (folder / "my_model.py").write_text(BACKBONE)
    (folder / "scratch").mkdir()
    job = Job(ml, folder / "scratch")
    job.set(BACKBONE=f"{folder}/my_model.py:build", **SETTINGS)
    return job


@pytest.fixture
def job(tmp_path: Path, draw_colours: Callable[..., Path]) -> Iterator[Job]:
    one = lay_out(tmp_path, draw_colours)
    yield one
    if one.process is not None:
        one.process.kill()
        one.process.wait()


@pytest.mark.slow
def test_a_job_leaves_every_artefact_and_says_what_it_does(job: Job, tmp_path: Path) -> None:
    from classifold.predict.predictor import load_predictor

    assert job.run() == 0, job.log()
    assert job.files() == {*names.ARTEFACTS, *names.LATER_ARTEFACTS}
    lines = leave_out_progress(job.log())
    assert lines[0].startswith("classifold ")
    assert lines[1] == "job colours-job: 3 classes; 24 training, 9 validation, 12 evaluation pictures"
    assert lines[2].startswith("starting TensorFlow (")
    assert lines[3] == "reading 24 training pictures"
    assert [line.partition(":")[0] for line in lines if line.startswith(("head ", "fine-tuning "))] == [
        f"{stage} epoch {n} of 2" for stage in ("head", "fine-tuning") for n in (1, 2)
    ]
    assert lines[-2].startswith("evaluation: ")
    assert lines[-1] == f"done: the run is in {job.ml.model_dir}, checked"
    assert not job.ml.failure_path.exists()
    assert list(job.scratch.glob("classifold-*")) == []
    settings = json.loads((job.ml.model_dir / "config.json").read_text())
    assert settings["IMAGE_SIZE"] == 16
    assert settings["DATA_NAME"] == "colours"
    assert load_predictor(job.ml.model_dir).class_names == ("blue", "green", "red")


def test_wrong_settings_end_with_exit_code_2_and_the_cure_in_the_failure_file(job: Job) -> None:
    job.set(EPOCH=3, IMAGE_SIZE=2)
    assert job.run() == 2
    assert job.failure().startswith("error: setting EPOCH")
    assert "did you mean EPOCHS?" in job.failure()
    assert "IMAGE_SIZE" in job.failure()
    assert job.failure().strip() in job.log()
    assert job.files() == set()


@pytest.mark.slow
def test_faulty_data_end_with_exit_code_1_and_the_cause_first(job: Job) -> None:
    for path in (job.ml.channel_dir("colours") / "training").rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert job.run() == 1, job.log()
    first = job.failure()[: names.FAILURE_LIMIT].splitlines()[0]
    assert "none of its pictures can be read" in first
    assert job.files() == set()


def test_a_mistake_of_our_own_shows_the_end_of_the_traceback_first(job: Job) -> None:
    # SageMaker never gives such a name: what then happens is not foreseen.
    with job.log_path.open("w") as log:
        environment = {**os.environ, "TRAINING_JOB_NAME": "no/such/folder", "TMPDIR": str(job.scratch)}
        process = subprocess.run(
            [sys.executable, "-m", "classifold.container.main"],
            env={**environment, "CLASSIFOLD_ML_DIR": str(job.ml.root)},
            stdout=log,
            stderr=log,
            check=False,
        )
    assert process.returncode == 1
    shown = job.failure()[: names.FAILURE_LIMIT]
    assert shown.splitlines()[0].startswith("FileNotFoundError: ")
    assert shown.splitlines()[1].startswith("at ")
    assert "a mistake in classifold itself" in shown
    assert "Traceback (most recent call last)" in job.failure()
    assert "Traceback (most recent call last)" in job.log()


@pytest.mark.slow
def test_a_stopped_job_leaves_the_best_model_and_goes_on_when_it_is_started_again(job: Job) -> None:
    job.set(EPOCHS=60)
    job.start()
    job.wait_for("fine-tuning epoch 10 of ")
    asked = time.monotonic()
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143, job.log()
    assert time.monotonic() - asked < 100  # of the 120 seconds that SageMaker gives
    assert job.files() == REACHED
    assert any(job.ml.checkpoint_dir.iterdir())
    assert not job.ml.failure_path.exists()
    assert f"stopped: the best model so far is in {job.ml.model_dir}" in job.log()

    assert job.run() == 0, job.log()
    assert "\nfine-tuning epoch 9 of " not in job.log()
    assert job.files() == {*names.ARTEFACTS, *names.LATER_ARTEFACTS}
    with (job.ml.model_dir / "history.csv").open(newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 63))


@pytest.mark.slow
def test_a_job_that_is_stopped_before_it_learned_anything_says_so(job: Job) -> None:
    job.start()
    job.wait_for("job colours-job")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143, job.log()
    assert job.files() == set()
    assert "stopped: nothing was learned yet" in job.log()
    assert list(job.scratch.glob("classifold-*")) == []
    assert not job.ml.failure_path.exists()


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="several hosts train on JAX")
@pytest.mark.slow
def test_a_host_that_is_stopped_names_the_others_since_one_of_them_may_have_died(job: Job) -> None:
    said = {"hosts": ["algo-1", "algo-2"], "current_host": "algo-1"}
    (job.ml.config_dir / names.RESOURCE_CONFIG_JSON).write_text(json.dumps(said))
    job.set(BACKEND="auto")
    job.start()
    job.wait_for("host algo-1, number 1 of 2")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143, job.log()
    assert job.failure().startswith("error: host algo-1: it was stopped, as SageMaker does when another host")
    assert "(algo-2) ended" in job.failure()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system has no /proc")
@pytest.mark.slow
def test_a_job_that_is_killed_for_want_of_memory_says_so(job: Job) -> None:
    job.start()
    job.wait_for("job colours-job")
    children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    assert job.wait() == 137
    lines = job.failure().splitlines()
    assert lines[0] == "error: training: it was killed, most likely because the memory ran out"
    assert lines[1].startswith("hint: choose a larger INSTANCE_TYPE")


@pytest.mark.parametrize("name", ["model.onnx", "report.html", "checkpoint"])
def test_a_run_without_all_its_artefacts_is_not_done(tmp_path: Path, name: str) -> None:
    run_dir, ml = tmp_path / "run", MlFolder(tmp_path / "ml")
    ml.model_dir.mkdir(parents=True)
    for artefact in set(names.ARTEFACTS) - {name}:
        if artefact == "checkpoint":
            (run_dir / artefact / "variables").mkdir(parents=True)
        else:
            run_dir.mkdir(exist_ok=True)
            (run_dir / artefact).write_text("{}")
    with pytest.raises(RunError, match=f"{name} is missing"):
        deliver_run(run_dir, ml)


def test_a_run_that_left_nothing_is_not_done(tmp_path: Path) -> None:
    ml = MlFolder(tmp_path / "ml")
    ml.model_dir.mkdir(parents=True)
    with pytest.raises(RunError, match="no run folder"):
        deliver_run(tmp_path / "run", ml)


def test_a_model_that_does_not_load_is_not_done(tmp_path: Path) -> None:
    run_dir, ml = tmp_path / "run", MlFolder(tmp_path / "ml")
    ml.model_dir.mkdir(parents=True)
    (run_dir / "checkpoint" / "variables").mkdir(parents=True)
    for artefact in set(names.ARTEFACTS) - {"checkpoint"}:
        (run_dir / artefact).write_text("{}")
    with pytest.raises(RunError, match=r"model\.onnx does not load"):
        deliver_run(run_dir, ml)


def test_the_machine_is_described_in_one_line(tmp_path: Path) -> None:
    line = describe_machine(tmp_path)
    assert "\n" not in line
    for words in ("classifold ", "Python ", " cores", " GB memory", "GPU", " GB disk free"):
        assert words in line


def test_nothing_heavy_is_imported_before_signals_are_answered(run_python: Callable[..., Any]) -> None:
    heavy = "{'numpy', 'keras', 'tensorflow', 'pydantic', 'boto3', 'onnxruntime', 'click', 'rich'}"
    answer = run_python("-c", f"import classifold.container.main, sys; print({heavy} & set(sys.modules))")
    assert answer.out.strip() == "set()"


def test_no_value_of_the_environment_is_printed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "k3epth1s")
    job.set(EPOCH=3)
    assert job.run() == 2
    assert "k3epth1s" not in job.log() + job.failure()
