"""Fixtures: Keras in one interpreter, tiny backbones, made pictures, and runs that ended or are under way."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.dataset.walk import Picture
from classifold.settings.config import Config
from classifold.settings.loader import build_config

SHARED = Path(__file__).parents[2] / "shared" / "data"
SIZE = 32

# Of the lines of a run, those about a step that takes seconds: how many there are depends on the machine.
_PROGRESS = re.compile(
    r"(algo-\d+: )?(starting \w+: |looking for the pictures|converting |testing |computing |preparing |"
    r"writing |reading the |evaluating|checking that |packing |fitting |drawing: |"
    r"(head|fine-tuning) epoch \d+/)"
)


def leave_out_progress(log: str) -> list[str]:
    """Return the lines of a log without those about the progress of a step, which depend on the machine."""
    return [
        line
        for line in log.splitlines()
        if line.startswith("looking for the pictures in ") or not _PROGRESS.match(line)
    ]


# A backbone that trains in no time: residual, with batch normalisation, and small places to cut it.
OWN_BACKBONE = """
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    for index, channels in enumerate((8, 12, 16)):
        conv = keras.layers.Conv2D(channels, 3, 2, padding="same", use_bias=False, name=f"conv{index}")
        x = conv(x)
        x = keras.layers.BatchNormalization(name=f"bn{index}")(x)
        x = keras.layers.ReLU(name=f"relu{index}")(x)
        y = keras.layers.Conv2D(channels, 3, padding="same", name=f"inner{index}")(x)
        x = keras.layers.Add(name=f"add{index}")([x, y])
    return keras.Model(pixels, x, name="tiny")
"""


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on TensorFlow, started as a run starts it."""
    from classifold.training.backend import start_keras

    return start_keras("tensorflow", seed=0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real pictures, where they are beside the project."""
    if not (SHARED / "flowers5_500").is_dir():
        pytest.skip("the real pictures are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_once("sets", draw) -> a folder that `draw` fills, once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make_once(name: str, fill: Callable[[Path], object]) -> Path:
        folder, complete = shared / f"once {name}", shared / f"once {name}.complete"
        with (shared / f"once {name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def own_backbone(make_once: Callable[..., Path]) -> str:
    """A user's function as BACKBONE names it."""
    folder = make_once("own", lambda folder: (folder / "my_model.py").write_text(OWN_BACKBONE))
    return f"{folder / 'my_model.py'}:build"


@pytest.fixture
def tiny(own_backbone: str) -> Callable[..., Config]:
    """tiny(EPOCHS=3) -> settings of a quick run with the tiny backbone."""

    def tiny(**settings: Any) -> Config:
        return build_config({**tiny_settings(own_backbone), **settings})

    return tiny


def tiny_settings(own_backbone: str) -> dict[str, Any]:
    return {
        "ALGORITHM_NAME": "tiny",
        "BACKBONE": own_backbone,
        "BACKBONE_WEIGHTS": None,
        "IMAGE_SIZE": SIZE,
        "BATCH_SIZE": 8,
        "HEAD_PENALTIES": (),
        "HEAD_EPOCHS": 4,
        "EPOCHS": 3,
        "FINE_TUNE_SHARE": 0.5,
        "HEAD_LEARNING_RATE": 1e-2,
        "LEARNING_RATE": 3e-3,
        "AUGMENTATION_VARIANTS": 2,
        "NUM_WORKERS": 2,
        "BOOTSTRAP_SAMPLES": 100,
        "BACKEND": "tensorflow",
    }


def paint(name: str, number: int) -> Image.Image:
    """A noisy picture whose colour and stripes tell its class, and no two of them alike."""
    generator = np.random.default_rng([number, *name.encode()])
    pixels = generator.integers(0, 90, (40, 48, 3))
    rows = np.arange(40)[:, None] // 4 % 2 == 0
    colours = {"blue": (20, 40, 150), "green": (20, 150, 40), "red stripes": (150, 30, 30)}
    pixels = pixels + np.array(colours[name]) * (rows[..., None] if " " in name else 1)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


CLASSES = ("blue", "green", "red stripes")


def draw_sets(folder: Path, counts: Sequence[int] = (12, 5, 5)) -> Path:
    number = 0
    for set_name, count in zip(("training", "validation", "evaluation"), counts, strict=True):
        for class_name in CLASSES:
            (folder / set_name / class_name).mkdir(parents=True)
            for _ in range(count):
                number += 1
                paint(class_name, number).save(folder / set_name / class_name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def sets_dir(make_once: Callable[..., Path]) -> Path:
    """Three sets of pictures of three classes."""
    return make_once("data", lambda folder: draw_sets(folder / "sets")) / "sets"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    """Seven pictures of the three classes."""
    made = []
    for number in range(7):
        class_name = CLASSES[number % 3]
        path = tmp_path / "pictures" / class_name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        paint(class_name, number).save(path)
        made.append(Picture(path=path, class_name=class_name, key=f"{class_name}/{number}.png"))
    return made


@pytest.fixture
def learn(tiny: Callable[..., Config], keras: Any, sets_dir: Path, tmp_path: Path) -> Callable[..., Any]:
    """learn(found, EPOCHS=3) -> the trained part of a tiny run, all of its states, and its facts."""
    from classifold.dataset.scan import load_sets

    def learn(found: Any = None, **options: Any) -> Any:
        own = {name: options.pop(name) for name in [*options] if name.islower()}
        return train_without_export(tiny(**options), load_sets(sets_dir), tmp_path, found=found, **own)

    return learn


def train_without_export(
    config: Config,
    sets: Any,
    scratch_dir: Path,
    *,
    found: Any = None,
    at_every_step: bool = False,
    cache_dir: Path | None = None,
    built: list[Any] | None = None,
) -> Any:
    """Return the trained part of a run, all of its states, and its facts; no format of the model is written.

    That is half of the time of a small run: only what is told of files and forms needs a whole run.
    """
    from classifold.training.backend import start_keras
    from classifold.training.data import opening_data
    from classifold.training.facts import build_facts
    from classifold.training.journal import Clock, Notes
    from classifold.training.learning import build_learning
    from classifold.training.loop import check_learned, train_stages

    start_keras("tensorflow", seed=config.RANDOM_SEED)
    told: Any = {"clock": Clock(), "notes": Notes()}
    learning = build_learning(config, sets, saved=found, this_host=None, clock=told["clock"])
    if built is not None:
        built.append(learning)
    facts, states = build_facts(config, sets, backend="tensorflow"), list[Any]()
    opened = opening_data(
        learning, config, sets, facts=facts, scratch_dir=scratch_dir, cache_dir=cache_dir, **told
    )
    with opened as data:
        states.extend(train_stages(learning, data, config, is_due=lambda: at_every_step, **told))
    check_learned(learning)
    return learning, states, facts


def answer(model: Any, pixels: Any) -> np.ndarray:
    """Return what a model gives, layer by layer: `predict_on_batch` compiles it first, which takes longer."""
    with warnings.catch_warnings(action="ignore"):  # Keras's own networks expect their one input in a list
        return np.asarray(model(pixels, training=False))


def answer_set(model: Any, sets: Any, name: str, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's probabilities for the pictures of a set, (N, C), and the true classes, (N,)."""
    from classifold.pictures.decode import load_picture

    pictures = sets.pictures[name]
    pixels = [load_picture(one.read_bytes(max_pixels=10**6), size=size, max_pixels=10**6) for one in pictures]
    labels = [sets.class_names.index(one.class_name) for one in pictures]
    return answer(model, np.stack(pixels).astype(np.float32)), np.array(labels)


@dataclass(frozen=True)
class Started:
    """A `classifold train` under way."""

    process: subprocess.Popen[str]
    log: Path
    runs_dir: Path

    def wait_for(self, is_there: Callable[[], object], *, seconds: float = 600) -> None:
        """Wait until something is so, while the command runs."""
        end = time.monotonic() + seconds
        while not is_there():
            assert self.process.poll() is None, f"ended too early:\n{self.stderr()}"
            assert time.monotonic() < end, f"waited too long:\n{self.stderr()}"
            time.sleep(0.02)

    def stderr(self) -> str:
        return self.log.read_text()

    def end(self, how: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(300)


@pytest.fixture
def start_train(own_backbone: str, sets_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """start_train("--resume", again=first, EPOCHS=100) -> the command as a process of its own."""
    started: list[Started] = []

    def start_train(*options: str, again: Started | None = None, **settings: Any) -> Started:
        folder = tmp_path / f"train{len(started)}" if again is None else again.log.parent
        one = start(folder, own_backbone, sets_dir, settings, options=options)
        started.append(one)
        return one

    yield start_train
    for one in started:
        one.process.kill()
        one.process.wait()


def start(
    folder: Path,
    own_backbone: str,
    sets_dir: Path,
    settings: dict[str, Any],
    *,
    options: Sequence[str] = (),
) -> Started:
    folder.mkdir(exist_ok=True)
    config = folder / "config.py"
    values = {
        **tiny_settings(own_backbone),
        "SPLIT_LOCAL_DIR": str(sets_dir),
        "RUNS_DIR": str(folder / "runs"),
        **settings,
    }
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    log = folder / "stderr.txt"
    with log.open("w") as errors, (folder / "stdout.txt").open("w") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "classifold.cli.main",
                "train",
                "--json",
                "--config",
                str(config),
                *options,
            ],
            stdout=output,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=folder,
        )
    return Started(process, log, Path(values["RUNS_DIR"]))


@dataclass(frozen=True)
class Finished:
    """A run that ended well, and all that the command printed."""

    run_dir: Path
    out: dict[str, Any]
    err: str
    config: dict[str, Any]


@pytest.fixture(scope="session")
def finished(own_backbone: str, sets_dir: Path, make_once: Callable[..., Path]) -> Finished:
    """The whole command, once for all tests that look at its run folder."""

    def train(folder: Path) -> None:
        one = start(folder / "train", own_backbone, sets_dir, {})
        assert one.process.wait(600) == 0, one.stderr()

    folder = make_once("finished", train) / "train"
    (run_dir,) = (folder / "runs").iterdir()
    out, err = json.loads((folder / "stdout.txt").read_text()), (folder / "stderr.txt").read_text()
    return Finished(run_dir, out, err, json.loads((run_dir / "config.json").read_text()))
