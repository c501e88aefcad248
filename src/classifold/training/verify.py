"""Shows that every form of a model gives the same probabilities, in a fresh process.

`python -m classifold.training.verify RUN_DIR SAMPLE.npy ANSWER.json` loads each form as its users would and
gives it the sample's pictures. It reads the names of files from its standard input: each is asked as soon
as it is named, and at the end the largest difference from model.onnx's probabilities is written, by form.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import Fault, RunError
from classifold.inference import open_session
from classifold.progress import hide_progress

# The largest difference between two forms' probabilities.
TOLERANCE = 1e-4
_BATCH = 8

Answer = Callable[[NDArray[np.float32]], Any]


def _load_forms(run_dir: Path) -> dict[str, Callable[[], Answer]]:
    """Return how each form is loaded, by its name in environment.json."""
    import tensorflow as tf

    from classifold.training.backend import without_keras_settings

    with without_keras_settings():
        import keras
        import tf_keras

    checkpoint = str(run_dir / names.CHECKPOINT_DIR)

    def load_saved_model() -> Answer:
        loaded = tf.saved_model.load(checkpoint)
        serve = loaded.signatures["serving_default"]
        # The loaded object owns the variables: it must live as long as its function.
        return lambda pixels: next(iter(serve(tf.constant(pixels)).values())) if loaded else None

    def load_tf_keras() -> Answer:
        model = tf_keras.models.load_model(checkpoint, compile=False)
        return lambda pixels: model(pixels)

    def load_layer() -> Answer:
        layer = keras.layers.TFSMLayer(checkpoint, call_endpoint="serving_default")
        return lambda pixels: next(iter(layer(pixels).values()))

    def load_keras(name: str) -> Callable[[], Answer]:
        def load() -> Answer:
            model = keras.models.load_model(run_dir / name, compile=False)
            return lambda pixels: model(pixels, training=False)

        return load

    def load_onnx() -> Answer:
        session = open_session(run_dir / names.MODEL_ONNX)
        return lambda pixels: session.run(["probabilities"], {"pixels": pixels})[0]

    return {
        "checkpoint (TensorFlow)": load_saved_model,
        "checkpoint (tf_keras)": load_tf_keras,
        "checkpoint (TFSMLayer)": load_layer,
        names.MODEL_H5: load_keras(names.MODEL_H5),
        names.MODEL_KERAS: load_keras(names.MODEL_KERAS),
        names.MODEL_ONNX: load_onnx,
    }


def compare_forms(
    run_dir: Path, pixels: NDArray[np.uint8], *, files: Iterable[str] | None = None
) -> dict[str, float | str]:
    """Return each form's largest difference from model.onnx, or why it could not be asked.

    Args:
        run_dir: The run folder.
        pixels: (N, size, size, 3) RGB.
        files: The names of the forms' files and folders, as they appear; None: all are there.
    """
    forms = _load_forms(run_dir)
    given: dict[str, NDArray[np.float32] | str] = {}
    for name in files or (names.MODEL_ONNX, names.MODEL_KERAS, names.MODEL_H5, names.CHECKPOINT_DIR):
        for form in (form for form in forms if form.split()[0] == name):
            try:
                given[form] = _ask(forms[form](), pixels)
            except Exception as error:
                given[form] = f"{type(error).__name__}: {error}"
    # Where model.onnx cannot be asked, which is refused anyway, the others are compared with one another.
    answered = [one for one in (given[names.MODEL_ONNX], *given.values()) if not isinstance(one, str)]
    return {form: _compare(given[form], answered[:1]) for form in forms}


def _compare(given: NDArray[np.float32] | str, answered: Sequence[NDArray[np.float32]]) -> float | str:
    if isinstance(given, str):
        return given
    expected = answered[0]
    if given.shape != expected.shape:
        return f"gives shape {given.shape}, expected {expected.shape}"
    return float(np.abs(given - expected).max())


def _ask(answer: Answer, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a form's probabilities (N, C), asked a few pictures at a time to save memory."""
    batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    return np.concatenate([np.asarray(answer(batch.astype(np.float32))) for batch in batches])


def check_answers(answers: dict[str, float | str]) -> None:
    """Refuse a run of which some form differs.

    Raises:
        RunError: Naming every form that could not be loaded, or whose probabilities differ.
    """
    faults = []
    for form, answer in answers.items():
        if isinstance(answer, str):
            faults.append(Fault(form, f"this form of the model cannot be used: {answer}"))
        elif not answer <= TOLERANCE:
            what = f"its probabilities differ from those of {names.MODEL_ONNX}; expected at most {TOLERANCE}"
            faults.append(Fault(form, what, got=f"{answer:.2g}"))
    if faults:
        raise RunError(*faults)


def main() -> None:
    """Compare the forms of the run folder named on the command line."""
    from classifold.processes import end_with_parent
    from classifold.training.backend import start_keras, without_keras_settings

    end_with_parent()
    hide_progress()  # what is printed here is shown only where this step fails
    run_dir, sample_path, answer_path = map(Path, sys.argv[1:4])
    start_keras("tensorflow", seed=0)
    with without_keras_settings():
        import tf_keras  # noqa: F401 - while the forms are being written there is nothing else to do

    pixels = np.load(sample_path, allow_pickle=False)
    files = (line.strip() for line in sys.stdin)
    answers = compare_forms(run_dir, pixels, files=files)
    answer_path.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
