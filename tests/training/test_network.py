"""The graph of model.onnx: what is added to the converted network is what NumPy and Keras say it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.inference import open_session, run_outputs
from classifold.model_card import CLASS_MAPS, DISTANCE, EMBEDDING
from classifold.settings.config import Config
from classifold.training.artefacts import build_card
from classifold.training.converted import FEATURES, LOGITS
from classifold.training.network import Additions, complete_network, share_places
from classifold.trust.distance import build_reference
from classifold.trust.reference import Reference
from classifold.trust.temperature import Calibrator

CLASSES = ("blue", "green", "red stripes")


@given(before=st.integers(1, 60), after=st.integers(1, 60))
def test_resampling_a_row_of_places_keeps_its_mean_and_a_row_of_ones(before: int, after: int) -> None:
    matrix = share_places(before, after).astype(np.float64)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(matrix.sum(axis=0), after / before, atol=1e-5)


@pytest.fixture
def convert(tiny: Callable[..., Config], keras: Any, tmp_path: Path) -> Callable[..., Any]:
    """convert(HEAD_FEATURES="top") -> the classifier, its converted network, and its card."""
    from classifold.model_card import parse_card
    from classifold.training.export import export_network
    from classifold.training.model import build_classifier
    from classifold.training.network import list_maps

    def convert(**settings: Any) -> tuple[Any, Path, str]:
        config = tiny(**settings)
        model = build_classifier(config, CLASSES).model
        path = tmp_path / "network.onnx"
        export_network(model, path)
        card = parse_card(build_card(config, CLASSES, "run"), where=path)
        names = {"distance": DISTANCE, "embedding": EMBEDDING}
        names["class_maps"] = CLASS_MAPS if list_maps(path) else ""
        return model, path, card.model_copy(update=names).to_json()

    return convert


def draw_pixels(count: int, *, size: int = 32) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


CALIBRATOR = Calibrator(
    "per class", np.array([2.0, 0.5, 1.5], np.float32), np.array([0.1, -0.3, 0.2], np.float32), None, 9
)


def look(model: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits and the features that Keras gives."""
    import keras

    from classifold.training.network import find_features

    both = keras.Model(model.inputs[0], [model.get_layer("logits").output, find_features(model).output])
    logits, features = both(pixels.astype(np.float32), training=False)
    return np.asarray(logits), np.asarray(features)


def make_reference(features: np.ndarray) -> Reference:
    labels = np.arange(len(features)) % 3
    keys = [f"{place}.png" for place in range(len(features))]
    return build_reference(features, labels, keys, features[:5] + 0.1, false_refusals=0.05, seed=0)


# With 52 pixels the levels have 26, 13 and 7 places on a side, none of them a multiple of the grid's.
@pytest.mark.parametrize(
    ("settings", "size"),
    [({}, 32), ({"IMAGE_SIZE": 52}, 52), ({"HEAD_FEATURES": "top"}, 32)],
    ids=["levels", "levels of odd sizes", "top"],
)
def test_everything_that_is_added_is_what_keras_and_numpy_say(
    settings: dict[str, Any], size: int, convert: Callable[..., Any]
) -> None:
    from classifold.training.export import bake_calibrator

    model, network, card = convert(**settings)
    reference = make_reference(look(model, draw_pixels(24, size=size))[1])
    kernel, _ = model.get_layer("logits").get_weights()
    content = complete_network(network, Additions(CALIBRATOR, reference, kernel), card=card)
    pixels = draw_pixels(6, size=size)
    session = open_session(content)
    probabilities, distances, embeddings, maps = run_outputs(
        session, pixels, outputs=["probabilities", DISTANCE, EMBEDDING, CLASS_MAPS]
    )

    bake_calibrator(model, CALIBRATOR)
    logits, features = look(model, pixels)
    np.testing.assert_allclose(probabilities, np.asarray(model(pixels.astype(np.float32))), atol=1e-5)
    np.testing.assert_allclose(embeddings, reference.embed(features), atol=1e-3)
    np.testing.assert_allclose(distances, reference.measure(embeddings), rtol=1e-4)
    np.testing.assert_allclose(distances, reference.measure(reference.embed(features)), rtol=1e-3)
    constants = model.get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(maps.mean(axis=(2, 3)) + constants, logits, atol=1e-4)
    assert np.ptp(maps, axis=(2, 3)).min() > 0


def test_the_open_form_gives_the_same_bits_and_what_the_head_sees(convert: Callable[..., Any]) -> None:
    model, network, card = convert()
    pixels = draw_pixels(5)
    reference = make_reference(look(model, draw_pixels(24))[1])
    additions = Additions(CALIBRATOR, reference, model.get_layer("logits").get_weights()[0])
    closed = open_session(complete_network(network, additions, card=card), without=(CLASS_MAPS,))
    opened = open_session(complete_network(network, additions, card=card, keep_inner=True))
    assert [end.name for end in opened.get_outputs()][-2:] == [LOGITS, FEATURES]
    for name in ("probabilities", DISTANCE, EMBEDDING):
        (given,), (expected,) = (run_outputs(one, pixels, outputs=[name]) for one in (opened, closed))
        np.testing.assert_array_equal(given, expected)
    logits, features = run_outputs(opened, pixels, outputs=[LOGITS, FEATURES])
    expected_logits, expected_features = look(model, pixels)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-4)
    np.testing.assert_allclose(features, expected_features, atol=1e-4)


def test_a_head_of_several_layers_has_no_class_maps(convert: Callable[..., Any]) -> None:
    model, network, card = convert(HEAD_LAYERS=(5,))
    reference = make_reference(look(model, draw_pixels(24))[1])
    additions = Additions(CALIBRATOR, reference, model.get_layer("logits").get_weights()[0])
    session = open_session(complete_network(network, additions, card=card))
    assert [end.name for end in session.get_outputs()] == ["probabilities", DISTANCE, EMBEDDING]
