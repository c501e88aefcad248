"""The forms of one model: they agree, and what is damaged or differs is found and refused."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import RunError
from classifold.training.verify import (
    DISTANCE_TOLERANCE,
    TOLERANCE,
    Difference,
    FormatOutputs,
    check_answers,
    compare_forms,
    load_answers,
    measure_difference,
    save_answers,
)
from classifold.trust.answering import Rule

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
    fewer = keras.Model(model.inputs[0], keras.layers.Dense(2)(model.get_layer("features").output))
    fewer.save(copy / "model.keras")
    answers = compare_forms(copy, PIXELS)
    assert answers["model.keras"] == "gives shape (5, 2), expected (5, 3)"
    assert refused(answers) == ["model.keras"]


EXPECTED = FormatOutputs(
    np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], np.float32), np.array([0.5, 0.9, 3.0], np.float32)
)
RULE = Rule(min_confidence=0.6, max_distance=1.0)


@pytest.mark.parametrize("answer", [2 * TOLERANCE, math.nan, math.inf])
def test_what_is_no_small_difference_of_probabilities_is_refused(answer):
    same = Difference(0.0, 0.0, 0)
    assert refused({"model.h5": same, "model.onnx": Difference(answer, 0.0, 0)}) == ["model.onnx"]


@pytest.mark.parametrize("answer", [2 * DISTANCE_TOLERANCE, math.nan])
def test_what_is_no_small_difference_of_distances_is_refused(answer):
    assert refused({"model.h5": Difference(0.0, answer, 0)}) == ["model.h5"]


def test_a_form_that_calls_other_pictures_unknown_is_refused():
    assert refused({"model.h5": Difference(0.0, 0.0, 1), "model.keras": "no such file"}) == [
        *("model.h5", "model.keras")
    ]


def test_small_differences_pass():
    check_answers({"model.h5": Difference(TOLERANCE, DISTANCE_TOLERANCE, 0)})


def test_another_answer_counts_as_another_unknown_picture_unless_it_is_at_the_very_limit():
    others = FormatOutputs(EXPECTED.probabilities, np.array([1.5, 0.9, 3.0], np.float32))
    assert measure_difference(others, EXPECTED, RULE) == Difference(0.0, 1.0, 1)
    near = FormatOutputs(EXPECTED.probabilities, np.array([0.5, 1.0, 3.0], np.float32))
    almost = FormatOutputs(EXPECTED.probabilities, np.array([0.5, 1.0001, 3.0], np.float32))
    assert measure_difference(almost, near, RULE).num_unknown == 0


def test_differences_are_read_back_as_they_were(tmp_path):
    answers = {"model.h5": Difference(1e-6, 2e-6, 3), "model.keras": "cannot be opened"}
    save_answers(answers, tmp_path / "answer.json")
    assert load_answers(tmp_path / "answer.json") == answers


def test_noise_is_far_from_the_training_pictures_in_every_form(finished):
    # Where only one of the forms measured another distance, the test above would fail.
    from classifold.inference import open_session, run_outputs

    session = open_session(finished.run_dir / "model.onnx", without=("class_maps",))
    (distances,) = run_outputs(session, PIXELS, outputs=["distance"])
    assert (distances > 1).all()
