"""Keras's engine: chosen, started quietly, seeded."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import MissingExtraError, UsageError
from classifold.names import install
from classifold.settings.config import Config
from made_runs import leave_out_progress


def test_the_settings_choose_the_engine(tiny: Callable[..., Config]):
    from classifold.training.backend import choose_backend

    assert choose_backend(tiny(BACKEND="tensorflow")) == "tensorflow"
    assert choose_backend(tiny(BACKEND="jax")) == "jax"


def test_a_machine_without_a_gpu_takes_tensorflow(tiny: Callable[..., Config]):
    from classifold.training.backend import choose_backend

    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    assert choose_backend(tiny(BACKEND="auto")) == "tensorflow"


def test_another_engine_in_the_same_process_is_refused(keras: Any, monkeypatch):
    from classifold.training.backend import start_keras

    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UsageError) as error:
        start_keras("jax", seed=0)
    assert "already runs on tensorflow" in str(error.value)
    assert "new process" in str(error.value)


def test_an_engine_that_is_not_installed_says_what_to_install(keras: Any, monkeypatch):
    from classifold.training.backend import check_engine, start_keras

    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else found(name))
    check_engine("tensorflow")
    with pytest.raises(MissingExtraError) as error:
        start_keras("jax", seed=0)
    assert "packages that are not installed: jax" in str(error.value)
    assert 'pip install "classifold[train,hosts] @ ' in str(error.value)


def test_an_install_without_any_engine_is_told_to_add_tensorflow(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
):
    from classifold.training.backend import check_engine, choose_backend

    found, absent = importlib.util.find_spec, {"tensorflow", "keras", "jax"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else found(name))
    backend = choose_backend(tiny(BACKEND="auto"))
    assert backend == "tensorflow"
    with pytest.raises(MissingExtraError) as error:
        check_engine(backend)
    assert str(error.value).splitlines() == [
        "error: training: it needs packages that are not installed: keras, tensorflow",
        f"hint: {install('train')}",
    ]
    if found("jax") is not None:
        absent.remove("jax")
        assert choose_backend(tiny(BACKEND="auto")) == "jax"


def test_the_seed_decides_every_random_number(keras: Any):
    import random

    from classifold.training.backend import start_keras

    def draw(seed: int) -> tuple[float, float, float]:
        start_keras("tensorflow", seed=seed)
        return float(keras.random.normal(())), random.random(), float(np.random.rand())

    assert draw(3) == draw(3)
    assert all(one != other for one, other in zip(draw(3), draw(4), strict=True))


@pytest.mark.slow
def test_starting_prints_nothing_and_leaves_slow_packages_that_it_does_not_use_to_be_imported_later(
    run_python: Callable[..., Any],
):
    code = (
        "import sys; from classifold.training.backend import start_keras; start_keras('tensorflow', seed=1)\n"
        "assert not {'sklearn', 'jax', 'scipy.stats'} & set(sys.modules)\n"
        "import sklearn.metrics"
    )
    done = run_python("-c", code)
    assert (done.code, done.out, leave_out_progress(done.err)) == (0, "", [])


@pytest.mark.slow
def test_a_users_settings_of_keras_change_nothing_and_none_are_written(
    run_python: Callable[..., Any], tmp_path: Path
):
    settings = tmp_path / ".keras" / "keras.json"
    settings.parent.mkdir()
    text = '{"floatx": "float64", "epsilon": 0.5, "backend": "jax", "image_data_format": "channels_first"}'
    code = (
        "import os; from classifold.training.backend import start_keras\n"
        "keras = start_keras('tensorflow', seed=1)\n"
        "from keras.src.backend.config import keras_home\n"
        "found = keras.config.floatx(), keras.config.image_data_format(), keras_home()\n"
        "print(*found, 'KERAS_HOME' in os.environ)"
    )
    settings.write_text(text)
    said = run_python("-c", code, env={"HOME": str(tmp_path)})
    assert said.out == f"float32 channels_last {settings.parent} False\n", said.err
    assert settings.read_text() == text
    assert list(settings.parent.iterdir()) == [settings]


def test_where_starting_fails_what_was_printed_is_seen():
    code = """
import os
from classifold.training.backend import quiet_start
with quiet_start():
    os.write(2, b"quiet\\n")
os.write(2, b"between\\n")
with quiet_start():
    os.write(2, b"the reason\\n")
    raise RuntimeError("failed")
"""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr.startswith("between\nthe reason\nTraceback")
    assert "RuntimeError: failed" in done.stderr
