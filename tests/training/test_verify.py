"""The forms of one model: they agree, and what is damaged or differs is found and refused."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import RunError
from classifold.training.verify import TOLERANCE, check_answers, compare_forms

PIXELS = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
FORMS = [
    "checkpoint (TensorFlow)",
    "checkpoint (tf_keras)",
    "checkpoint (TFSMLayer)",
    "model.h5",
    "model.keras",
    "model.onnx",
]

pytestmark = pytest.mark.usefixtures("keras")


@pytest.fixture(scope="module")
def expected(finished: Any) -> np.ndarray:
    from classifold.inference import open_session

    session = open_session(finished.run_dir / "model.onnx")
    answer: np.ndarray = session.run(["probabilities"], {"pixels": PIXELS.astype(np.float32)})[0]
    return answer


@pytest.fixture
def copy(finished: Any, tmp_path: Path) -> Path:
    """A run folder that a test may spoil."""
    shutil.copytree(finished.run_dir, tmp_path / "run")
    return tmp_path / "run"


def test_every_form_gives_the_same_probabilities(finished, expected):
    answers = compare_forms(finished.run_dir, PIXELS)
    assert list(answers) == FORMS
    check_answers(answers)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


def refused(answers: dict[str, Any]) -> list[str]:
    with pytest.raises(RunError) as error:
        check_answers(answers)
    return [fault.where for fault in error.value.faults]


SPOILT = {
    "model.h5": ["model.h5"],
    "model.keras": ["model.keras"],
    "model.onnx": ["model.onnx"],
    "checkpoint/saved_model.pb": FORMS[:3],
    "checkpoint/keras_metadata.pb": [FORMS[1]],
    "checkpoint/variables/variables.index": FORMS[:3],
}


@pytest.mark.parametrize("how", ["missing", "cut short"])
@pytest.mark.parametrize("file", SPOILT)
def test_a_form_that_is_damaged_is_refused_by_name(file, how, copy):
    path = copy / file
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = refused(compare_forms(copy, PIXELS))
    # Cut short, TensorFlow's own loaders do without the metadata.
    assert set(found) <= set(SPOILT[file])
    assert found


def test_a_form_of_other_weights_is_refused(copy, keras):
    model = keras.models.load_model(copy / "model.keras", compile=False)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias + np.array([0.01, 0, 0])])
    model.save(copy / "model.keras")
    assert refused(compare_forms(copy, PIXELS)) == ["model.keras"]


def test_a_form_with_other_classes_is_refused(copy, keras):
    model = keras.models.load_model(copy / "model.keras", compile=False)
    fewer = keras.Model(model.inputs[0], keras.layers.Dense(2)(model.get_layer("pooling").output))
    fewer.save(copy / "model.keras")
    answers = compare_forms(copy, PIXELS)
    assert answers["model.keras"] == "gives shape (5, 2), expected (5, 3)"
    assert refused(answers) == ["model.keras"]


@pytest.mark.parametrize("answer", [2 * TOLERANCE, math.nan, math.inf, "cannot be opened"])
def test_what_is_no_small_difference_is_refused(answer):
    assert refused({"model.h5": 0.0, "model.onnx": answer}) == ["model.onnx"]


def test_small_differences_pass():
    check_answers({"model.h5": TOLERANCE, "model.onnx": 0.0})
