"""Export: the ends of the graph have their names, and the card goes along."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_runs import leave_out_progress

pytestmark = pytest.mark.usefixtures("keras")


def test_onnx_takes_pixels_and_gives_probabilities_for_any_number_of_pictures(finished):
    import onnx

    model = onnx.load(finished.run_dir / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    ends = {}
    for end in (*model.graph.input, *model.graph.output):
        dims = end.type.tensor_type.shape.dim
        ends[end.name] = [dim.dim_value or None for dim in dims]
    width = ends.pop("embedding")[1]
    assert ends == {
        "pixels": [None, 32, 32, 3],
        "probabilities": [None, 3],
        "distance": [None],
        "class_maps": [None, 3, 16, 16],
    }
    assert width > 0
    assert model.graph.output[0].name == "probabilities"
    names = [end.name for node in model.graph.node for end in node.attribute]
    assert names


@pytest.mark.parametrize("size", [1, 2, 33])
def test_onnx_answers_any_number_of_pictures(size, finished, keras):
    from classifold.inference import open_session

    pixels = np.random.default_rng(size).integers(0, 256, (size, 32, 32, 3)).astype(np.float32)
    given = open_session(finished.run_dir / "model.onnx").run(["probabilities"], {"pixels": pixels})[0]
    model = keras.models.load_model(finished.run_dir / "model.keras", compile=False)
    np.testing.assert_allclose(given, model.predict_on_batch(pixels), atol=1e-5)


def test_a_model_with_the_card_in_it_is_still_keras_own(finished, keras):
    for name in ("model.keras", "model.h5"):
        model = keras.models.load_model(finished.run_dir / name, compile=False)
        assert model.input_shape == (None, 32, 32, 3)
        assert model.output_shape == (None, 3)


def test_onnx_of_a_part_takes_the_place_of_the_part(keras, tmp_path: Path):
    from classifold.inference import open_session
    from classifold.training.export import export_onnx

    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(pixels)
    model = keras.Model(pixels, keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x)))
    export_onnx(model, tmp_path / "part.onnx")
    values = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    session = open_session(tmp_path / "part.onnx")
    given = session.run(None, {session.get_inputs()[0].name: values})[0]
    np.testing.assert_allclose(given, model.predict_on_batch(values), atol=1e-5)


def test_what_a_layer_holds_beside_its_weights_becomes_no_input(keras, tmp_path: Path):
    check_onnx(keras, keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]), tmp_path)


def test_an_exact_gelu_has_an_onnx_form(keras, tmp_path: Path):
    check_onnx(
        keras, keras.layers.Activation(lambda x: keras.activations.gelu(x, approximate=False)), tmp_path
    )


def check_onnx(keras: Any, layer: Any, folder: Path) -> None:
    from classifold.inference import open_session
    from classifold.training.export import export_onnx

    pixels = keras.Input((4, 4, 3))
    model = keras.Model(pixels, layer(pixels))
    export_onnx(model, folder / "layer.onnx")
    session = open_session(folder / "layer.onnx")
    (end,) = session.get_inputs()
    values = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    given = session.run(None, {end.name: values})[0]
    np.testing.assert_allclose(given, model.predict_on_batch(values), atol=1e-5)


def test_converters_are_kept_quiet_and_their_failures_are_not(capfd):
    from classifold.training.export import quiet_export

    with quiet_export():
        print("chatter")
        print("chatter", file=sys.stderr)
    with pytest.raises(ValueError, match="failed"), quiet_export():
        raise ValueError("failed")
    assert capfd.readouterr() == ("", "")


def test_a_handler_that_a_converter_installs_is_gone_afterwards():
    # It would hold the null device, which is closed: our own errors could not be logged any more.
    from classifold.training.export import quiet_export

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    with quiet_export():
        root.addHandler(logging.StreamHandler())
        root.setLevel(logging.INFO)
    assert (root.handlers, root.level) == (before, level)


def test_nothing_is_said_of_the_format_that_the_template_wants(run_python, tmp_path: Path):
    # In a container the warnings of every library go to the log, through the handler of the root logger.
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from classifold.progress import log_plainly\n"
        "from classifold.training.backend import start_keras\n"
        "log_plainly()\nkeras = start_keras('tensorflow', seed=0)\n"
        "from classifold.training.export import quiet_export\n"
        "pixels = keras.Input((4,))\nmodel = keras.Model(pixels, keras.layers.Dense(2)(pixels))\n"
        "with quiet_export():\n    model.save(Path(sys.argv[1]) / 'model.h5')\n"
        "import logging\nlogging.getLogger('absl').warning('heard again')\n"
    )
    done = run_python("-c", code, tmp_path)
    assert (done.code, done.out, leave_out_progress(done.err)[-1:]) == (0, "", ["heard again"])
    assert "HDF5" not in done.err
    assert (tmp_path / "model.h5").exists()


def run_module(run_python: Any, module: str, *arguments: object) -> Any:
    return run_python("-m", f"classifold.training.{module}", *arguments)


def test_the_export_of_a_folder_without_a_model_fails_with_its_name(run_python, tmp_path: Path):
    done = run_module(run_python, "export", tmp_path)
    assert done.code == 1
    assert "classes.json" in done.err
    assert list(tmp_path.iterdir()) == []
