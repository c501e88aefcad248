"""Checks in a fresh process that all formats of a model give the same answers.

`python -m classifold.training.verify RUN_DIR SAMPLE.npy ANSWER.json` loads each format as its users would and
gives it the sample's pictures. It reads the names of files from its standard input: each is asked as soon
as it is named, and at the end the largest differences from model.onnx's answers are written, by format.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.counts import count_of
from classifold.errors import Fault, RunError
from classifold.inference import open_session, run_outputs
from classifold.model_card import CLASS_MAPS, DISTANCE, parse_card
from classifold.progress import hide_progress
from classifold.trust.answering import Rule, choose_rule
from classifold.trust.reference import Reference, load_reference

# The largest difference between two formats' probabilities, and between their distances (1 is the limit).
TOLERANCE, DISTANCE_TOLERANCE = 1e-4, 1e-3
_BATCH = 8
_FEATURES = "features"

Floats = NDArray[np.float32]
# From pixels to probabilities (N, C), and to what distances are computed from: the head's features (N, F).
Ask = Callable[[Floats], tuple[Any, Any]]


@dataclass(frozen=True)
class FormatOutputs:
    """What a format of the model gave.

    Attributes:
        probabilities: Shape (N, C).
        distances: Shape (N,).
    """

    probabilities: Floats
    distances: Floats


@dataclass(frozen=True)
class Difference:
    """How far a form's answers are from those of model.onnx.

    Attributes:
        probabilities: The largest difference of a probability.
        distances: The largest difference of a distance, as a share of it where it is above 1.
        num_unknown: Pictures of which only one of the two says that they are unknown, though neither the
            confidence nor the distance is so near its limit that the last digits decide.
    """

    probabilities: float
    distances: float
    num_unknown: int


def _load_forms(run_dir: Path) -> dict[str, Callable[[], Ask]]:
    """Return how each format is loaded, by its name in environment.json; all but model.onnx."""
    import tensorflow as tf

    from classifold.training.backend import without_keras_settings
    from classifold.training.network import find_features

    with without_keras_settings():
        import keras
        import tf_keras

    checkpoint = str(run_dir / names.CHECKPOINT_DIR)

    def load_saved_model() -> Ask:
        loaded = tf.saved_model.load(checkpoint)
        serve, look = loaded.signatures["serving_default"], loaded.signatures[_FEATURES]

        def ask(pixels: Floats) -> tuple[Any, Any]:
            # The loaded object owns the variables: it must live as long as its functions.
            given = tf.constant(pixels) if loaded else None
            return next(iter(serve(given).values())), look(given)[_FEATURES]

        return ask

    def load_tf_keras() -> Ask:
        model = tf_keras.models.load_model(checkpoint, compile=False)
        look = model.signatures[_FEATURES]
        return lambda pixels: (model(pixels), look(tf.constant(pixels))[_FEATURES])

    def load_layer() -> Ask:
        layer = keras.layers.TFSMLayer(checkpoint, call_endpoint=_FEATURES)

        def ask(pixels: Floats) -> tuple[Any, Any]:
            given = layer(pixels)
            return given["probabilities"], given[_FEATURES]

        return ask

    def load_keras(name: str) -> Callable[[], Ask]:
        def load() -> Ask:
            model = keras.models.load_model(run_dir / name, compile=False)
            both = keras.Model(model.inputs[0], [model.output, find_features(model).output])
            return lambda pixels: tuple(both(pixels, training=False))

        return load

    return {
        "checkpoint (TensorFlow)": load_saved_model,
        "checkpoint (tf_keras)": load_tf_keras,
        "checkpoint (TFSMLayer)": load_layer,
        names.MODEL_H5: load_keras(names.MODEL_H5),
        names.MODEL_KERAS: load_keras(names.MODEL_KERAS),
    }


def _ask_onnx(run_dir: Path, pixels: NDArray[np.uint8]) -> FormatOutputs:
    session = open_session(run_dir / names.MODEL_ONNX, without=(CLASS_MAPS,))
    return FormatOutputs(*run_outputs(session, pixels, outputs=("probabilities", DISTANCE)))


def _ask_keras(ask: Ask, reference: Reference, pixels: NDArray[np.uint8]) -> FormatOutputs:
    """Return a form's answers; it is asked a few pictures at a time to save memory."""
    batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    pairs = [[np.asarray(one) for one in ask(batch.astype(np.float32))] for batch in batches]
    probabilities, features = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return FormatOutputs(probabilities, reference.measure(reference.embed(features)))


def compare_forms(
    run_dir: Path, pixels: NDArray[np.uint8], *, files: Iterable[str] | None = None
) -> dict[str, Difference | str]:
    """Return each format's differences from model.onnx, or why it could not be asked.

    Args:
        run_dir: The run folder.
        pixels: (N, size, size, 3) RGB.
        files: The names of the formats' files and folders, as they appear; None: all are there.
    """
    forms, given = _load_forms(run_dir), dict[str, FormatOutputs | str]()
    for name in files or (names.MODEL_ONNX, names.MODEL_KERAS, names.MODEL_H5, names.CHECKPOINT_DIR):
        for form in (form for form in (*forms, names.MODEL_ONNX) if form.split()[0] == name):
            try:
                if form == names.MODEL_ONNX:
                    given[form] = _ask_onnx(run_dir, pixels)
                else:
                    reference = load_reference(run_dir / names.REFERENCE_NPZ)
                    given[form] = _ask_keras(forms[form](), reference, pixels)
            except Exception as error:
                given[form] = f"{type(error).__name__}: {error}"
    # Where model.onnx cannot be asked, which is refused anyway, the others are compared with one another.
    answered = [one for one in (given[names.MODEL_ONNX], *given.values()) if not isinstance(one, str)]
    card = run_dir / names.CLASSES_JSON
    rule = choose_rule(parse_card(card.read_text("utf-8"), where=card).answering, where=str(run_dir))
    return {form: _compare(given[form], answered[:1], rule) for form in (*forms, names.MODEL_ONNX)}


def _compare(given: FormatOutputs | str, answered: Sequence[FormatOutputs], rule: Rule) -> Difference | str:
    if isinstance(given, str):
        return given
    shape, expected = given.probabilities.shape, answered[0].probabilities.shape
    if shape != expected:
        return f"gives shape {shape}, expected {expected}"
    return measure_difference(given, answered[0], rule)


def measure_difference(given: FormatOutputs, expected: FormatOutputs, rule: Rule) -> Difference:
    """Return how far answers are from those that are expected.

    Args:
        given: By a format of the model.
        expected: By model.onnx, of the same pictures.
        rule: Which pictures are unknown.
    """
    gaps = np.abs(given.distances - expected.distances) / np.maximum(expected.distances, 1)
    differs = _find_unknown(given, rule) != _find_unknown(expected, rule)
    confidences = expected.probabilities.max(axis=1)
    is_near = np.abs(confidences - rule.min_confidence) <= TOLERANCE
    if rule.max_distance is not None:
        is_near |= np.abs(expected.distances / rule.max_distance - 1) <= DISTANCE_TOLERANCE
    return Difference(
        probabilities=float(np.abs(given.probabilities - expected.probabilities).max()),
        distances=float(gaps.max()),
        num_unknown=int((differs & ~is_near).sum()),
    )


def _find_unknown(given: FormatOutputs, rule: Rule) -> NDArray[np.bool_]:
    return rule.find_unknown(given.probabilities.max(axis=1), given.distances)


def check_answers(answers: Mapping[str, Difference | str]) -> None:
    """Refuse a run of which some form differs.

    Raises:
        RunError: Naming every format that could not be loaded, or whose answers differ.
    """
    faults = [fault for form, answer in answers.items() for fault in _list_faults(form, answer)]
    if faults:
        raise RunError(*faults)


def _list_faults(form: str, answer: Difference | str) -> Iterator[Fault]:
    if isinstance(answer, str):
        yield Fault(form, f"this format of the model cannot be used: {answer}")
        return
    if not answer.probabilities <= TOLERANCE:
        what = f"its probabilities differ from those of {names.MODEL_ONNX}; expected at most {TOLERANCE}"
        yield Fault(form, what, got=f"{answer.probabilities:.2g}")
    if not answer.distances <= DISTANCE_TOLERANCE:
        what = f"its distances differ from those of {names.MODEL_ONNX}; expected at most {DISTANCE_TOLERANCE}"
        yield Fault(form, what, got=f"{answer.distances:.2g}")
    if answer.num_unknown:
        what = f"it and {names.MODEL_ONNX} do not call the same pictures unknown"
        yield Fault(form, what, got=count_of(answer.num_unknown, "picture"))


def save_answers(answers: Mapping[str, Difference | str], path: Path) -> None:
    """Write what `load_answers` reads."""
    plain = {form: one if isinstance(one, str) else asdict(one) for form, one in answers.items()}
    path.write_text(json.dumps(plain), encoding="utf-8")


def load_answers(path: Path) -> dict[str, Difference | str]:
    """Read what the process wrote."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    return {form: one if isinstance(one, str) else Difference(**one) for form, one in plain.items()}


def main() -> None:
    """Compare the formats of the run folder named on the command line."""
    from classifold.processes import end_with_parent
    from classifold.training.backend import start_keras, without_keras_settings

    end_with_parent()
    hide_progress()  # what is printed here is shown only where this step fails
    run_dir, sample_path, answer_path = map(Path, sys.argv[1:4])
    start_keras("tensorflow", seed=0)
    with without_keras_settings():
        import tf_keras  # noqa: F401 - while the formats are being written there is nothing else to do

    pixels = np.load(sample_path, allow_pickle=False)
    files = (line.strip() for line in sys.stdin)
    answers = compare_forms(run_dir, pixels, files=files)
    save_answers(answers, answer_path)


if __name__ == "__main__":
    main()
