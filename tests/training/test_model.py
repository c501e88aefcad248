"""The classifier and its cuts: what is frozen and what learns are together the whole."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import BackboneError
from classifold.settings.config import Config
from made_runs import answer

PIXELS = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
NAMES = ("a", "b", "c")


@pytest.fixture
def classify(tiny: Callable[..., Config], tmp_path: Path, keras: Any) -> Callable[..., Any]:
    """classify(code, IMAGE_SIZE=32) -> the classifier over a backbone of that code or the tiny one."""
    from classifold.training.model import build_classifier

    def classify(code: str | None = None, **settings: Any) -> Any:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(1)
        if code is not None:
            path = tmp_path / "backbone.py"
            path.write_text(f"import keras\nfrom keras import layers\n{code}\n")
            settings["BACKBONE"] = f"{path}:build"
        return build_classifier(tiny(**settings), NAMES)

    return classify


def head(body: str) -> str:
    lines = ["pixels = keras.Input((n, n, 3))", "x = layers.Rescaling(1 / 255)(pixels)", *body.splitlines()]
    return "def build(n):\n" + "\n".join(f"    {line}" for line in lines)


BACKBONES = {
    "plain": head(
        "for width in (4, 6, 8):\n"
        "    x = layers.Conv2D(width, 3, strides=2, activation='relu')(x)\n"
        "return keras.Model(pixels, x)"
    ),
    "residual": head(
        "x = layers.Conv2D(6, 3, strides=2, padding='same')(x)\n"
        "for _ in range(3):\n"
        "    y = layers.Conv2D(6, 3, padding='same')(x)\n"
        "    y = layers.BatchNormalization()(y)\n"
        "    x = layers.Add()([x, layers.Conv2D(6, 1)(layers.ReLU()(y))])\n"
        "return keras.Model(pixels, x)"
    ),
    "long skip": head(
        "first = layers.Conv2D(6, 3, strides=2, padding='same')(x)\n"
        "x = layers.Conv2D(6, 3, padding='same')(first)\n"
        "x = layers.Conv2D(6, 3, padding='same')(x)\n"
        "x = layers.Concatenate()([x, first])\n"
        "x = layers.Conv2D(8, 3, strides=2)(x)\n"
        "return keras.Model(pixels, x)"
    ),
    "branches": head(
        "x = layers.Conv2D(4, 3, strides=2)(x)\n"
        "a, b, c = (layers.Conv2D(4, size, padding='same')(x) for size in (1, 3, 5))\n"
        "x = layers.Concatenate()([layers.Conv2D(4, 1)(a), b, c])\n"
        "x = layers.Conv2D(5, 3, strides=2)(x)\n"
        "return keras.Model(pixels, layers.Conv2D(5, 1)(x))"
    ),
    "pixels reach the top": head(
        "y = layers.Conv2D(4, 3, padding='same')(x)\n"
        "y = layers.Conv2D(4, 3, padding='same')(y)\n"
        "return keras.Model(pixels, layers.Concatenate()([x, y]))"
    ),
    "operations": head(
        "x = layers.Conv2D(4, 3, padding='same')(x)\n"
        "y = keras.ops.relu(x)\n"
        "z = layers.Conv2D(4, 3, padding='same')(y)\n"
        "x = layers.Conv2D(4, 3, strides=2)(z + y)\n"
        "return keras.Model(pixels, layers.Conv2D(4, 3)(keras.ops.relu(x)))"
    ),
    "one layer twice": head(
        "twice = layers.Conv2D(3, 3, padding='same')\n"
        "x = twice(layers.Conv2D(3, 1)(twice(x)))\n"
        "return keras.Model(pixels, layers.Conv2D(4, 3, strides=2)(x))"
    ),
    "a layer with two answers": head(
        "x = layers.Reshape((n, n * 3))(x)\n"
        "x, state = layers.GRU(5, return_sequences=True, return_state=True)(x)\n"
        "x = layers.Concatenate()([x, layers.RepeatVector(n)(state)])\n"
        "return keras.Model(pixels, layers.Dense(4)(x))"
    ),
    "tokens": head(
        "x = layers.Conv2D(8, 8, strides=8)(x)\n"
        "x = layers.Reshape((16, 8))(x)\n"
        "y = layers.LayerNormalization()(x)\n"
        "x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])\n"
        "return keras.Model(pixels, layers.Dense(8)(x))"
    ),
    "flat": head("x = layers.Conv2D(4, 8, strides=8)(x)\nreturn keras.Model(pixels, layers.Flatten()(x))"),
    "no weights": head("return keras.Model(pixels, layers.AveragePooling2D(8)(x))"),
    "nested": head(
        "inner = keras.Sequential([layers.Conv2D(4, 3, strides=2), layers.BatchNormalization()])\n"
        "x = inner(x)\n"
        "entry = keras.Input(x.shape[1:])\n"
        "y = layers.Conv2D(4, 3, padding='same')(entry)\n"
        "deeper = keras.Model(entry, layers.Add()([entry, y]))\n"
        "x = deeper(x)\n"
        "return keras.Model(pixels, layers.Conv2D(5, 3)(x))"
    ),
    "nested with two answers": head(
        "entry = keras.Input((n, n, 3))\n"
        "ends = layers.Conv2D(4, 3, 2)(entry), layers.Conv2D(4, 5, 2, padding='same')(entry)\n"
        "one, two = keras.Model(entry, list(ends))(x)\n"
        "x = layers.Concatenate()([layers.ZeroPadding2D(((0, 1), (0, 1)))(one), two])\n"
        "return keras.Model(pixels, layers.Conv2D(4, 1)(x))"
    ),
    "sequential": (
        "def build(n):\n"
        "    return keras.Sequential([keras.Input((n, n, 3)), layers.Rescaling(1 / 255),\n"
        "        layers.Conv2D(4, 3, strides=2), layers.BatchNormalization(), layers.ReLU(),\n"
        "        layers.Conv2D(6, 3, strides=2), layers.Conv2D(8, 3)])"
    ),
    "frozen by its maker": head(
        "base = keras.Sequential([layers.Conv2D(4, 3, strides=2), layers.Conv2D(4, 3)])\n"
        "base.trainable = False\n"
        "x = base(x, training=False)\n"
        "return keras.Model(pixels, layers.Conv2D(4, 3)(x))"
    ),
}
SHARES = (0.0, 0.2, 0.34, 0.5, 0.75, 1.0)


def whole_logits(keras: Any, classifier: Any) -> np.ndarray:
    return answer(keras.Model(classifier.model.inputs[0], classifier.logits), PIXELS)


@pytest.mark.parametrize("kind", BACKBONES)
def test_what_is_frozen_and_what_learns_give_together_what_the_whole_gives(kind, classify, keras):
    from classifold.training.model import split_parts

    classifier = classify(BACKBONES[kind], HEAD_LAYERS=(7,))
    # Statistics that are not those of a new layer, which would hide a confusion.
    for layer in classifier.model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([w + 0.5 for w in layer.get_weights()])
    expected = whole_logits(keras, classifier)
    for share in SHARES:
        parts = split_parts(classifier, share)
        at_cut = PIXELS if parts.frozen is None else answer(parts.frozen, PIXELS)
        given = answer(parts.learning, at_cut)
        np.testing.assert_allclose(given, expected, atol=1e-5, err_msg=f"{share}")


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_cut_that_is_chosen_from_carries_all_that_is_needed_above_it(kind, classify, keras):
    from classifold.training.model import _is_whole, find_cuts

    backbone = classify(BACKBONES[kind]).backbone
    expected = answer(backbone, PIXELS)
    cuts = find_cuts(backbone)
    assert cuts[0].tensor is backbone.inputs[0]
    shares = [cut.share for cut in cuts]
    assert shares == sorted(shares, reverse=True)
    for cut in cuts[1:]:
        if _is_whole(cut, backbone):
            below = keras.Model(backbone.inputs[0], cut.tensor)
            above = keras.Model(cut.tensor, backbone.outputs[0])
            at_cut = answer(below, PIXELS)
            assert cut.size == at_cut[0].size
            np.testing.assert_allclose(answer(above, at_cut), expected, atol=1e-5)


def test_a_cut_is_found_between_residual_blocks_and_never_within_one(classify, keras):
    from classifold.training.model import find_cuts

    backbone = classify(BACKBONES["residual"]).backbone
    cuts = find_cuts(backbone)[1:]
    kinds = [type(cut.tensor._keras_history.operation).__name__ for cut in cuts]
    # The first convolution, then the end of every block but the last; seven convolutions in all.
    assert kinds == ["Conv2D", "Add", "Add"]
    assert [round(cut.share * 7) for cut in cuts] == [6, 4, 2]


def trainable(classifier: Any) -> set[str]:
    return {variable.path for variable in classifier.model.trainable_variables}


def test_the_head_alone_learns_at_a_share_of_zero(classify):
    from classifold.training.model import split_parts

    classifier = classify(HEAD_LAYERS=(7,))
    parts = split_parts(classifier, 0.0)
    names = {variable.path.split("/")[0] for variable in parts.learning.trainable_variables}
    assert names == {"head_dense0", "logits"}
    assert not parts.frozen.trainable_variables


@pytest.mark.parametrize("share", [0.34, 0.5, 1.0])
def test_so_much_of_the_backbone_learns_as_the_share_says_from_its_top(share, classify):
    from classifold.training.model import split_parts

    classifier = classify()
    split_parts(classifier, share)
    order = ["conv0", "inner0", "conv1", "inner1", "conv2", "inner2"]
    names = {path.split("/")[0] for path in trainable(classifier)} - {"logits"}
    assert names == set(order[len(order) - round(share * len(order)) :])


def test_a_later_stage_frees_what_an_earlier_one_froze(classify):
    from classifold.training.model import split_parts

    classifier = classify()
    split_parts(classifier, 0.0)
    split_parts(classifier, 1.0)
    assert {"conv0/kernel", "inner2/kernel", "logits/kernel"} <= trainable(classifier)


def test_what_the_users_function_froze_learns_where_the_share_says_so(classify):
    from classifold.training.model import split_parts

    parts = split_parts(classify(BACKBONES["frozen by its maker"]), 1.0)
    assert len(parts.learning.trainable_variables) == 2 * 4


COMPOSITE = """
from keras.src.applications import mobilenet_v3

def build(n):
    pixels = keras.Input((n, n, 3))
    inner = keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization()])
    x = layers.TimeDistributed(inner)(layers.Reshape((1, n, n, 3))(pixels))
    x = layers.Reshape((n - 2, n - 2, 4))(x)
    return keras.Model(pixels, layers.BatchNormalization()(x))
"""


@pytest.mark.parametrize("kind", ["residual", "nested", "sequential", "composite"])
def test_batch_normalisation_never_learns_wherever_it_hides(kind, classify, keras):
    from classifold.training.model import split_parts

    classifier = classify(BACKBONES.get(kind, COMPOSITE))
    hidden = [
        layer
        for layer in classifier.model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert hidden
    before = [layer.get_weights() for layer in hidden]
    learning = split_parts(classifier, 1.0).learning
    learning.compile(optimizer="sgd", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    assert len(learning.trainable_variables) > 2
    learning.train_on_batch(PIXELS, np.eye(3, dtype=np.float32))
    for layer, weights in zip(hidden, before, strict=True):
        assert not layer.trainable
        for now, then in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(now, then)


def test_the_preprocessing_of_resnet_never_learns(classify, keras):
    from classifold.training.model import split_parts

    classifier = classify(BACKBONE="ResNet50")
    split_parts(classifier, 1.0)
    mixing = classifier.model.get_layer("preprocessing")
    assert mixing.weights
    assert not mixing.trainable_variables
    assert len(trainable(classifier)) > 100


def test_the_whole_gives_probabilities_and_its_ends_have_their_names(classify):
    classifier = classify(HEAD_LAYERS=(5, 4))
    probabilities = answer(classifier.model, PIXELS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert probabilities.shape == (3, 3)
    order = [layer.name for layer in classifier.model.layers if layer.name.startswith(("head", "logits"))]
    assert order == ["head_dropout0", "head_dense0", "head_dropout1", "head_dense1", "head_dropout", "logits"]


def test_a_layer_of_the_users_with_a_name_of_the_head_is_refused(classify):
    code = head("return keras.Model(pixels, layers.Conv2D(4, 3, name='logits')(x))")
    with pytest.raises(BackboneError) as error:
        classify(code)
    assert "hint: rename the layers" in str(error.value)
    assert len(str(error.value).splitlines()) == 2


def test_two_models_in_one_process_name_their_layers_alike(own_backbone, tiny, keras):
    from classifold.training.backend import start_keras
    from classifold.training.model import build_classifier

    names = []
    for _ in range(2):
        start_keras("tensorflow", seed=7)
        classifier = build_classifier(tiny(), NAMES)
        names.append([layer.name for layer in classifier.model.layers])
        weights = classifier.model.get_weights()
    assert names[0] == names[1]
    start_keras("tensorflow", seed=7)
    for now, then in zip(build_classifier(tiny(), NAMES).model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


# Earlier weights


@pytest.fixture
def earlier(classify: Callable[..., Any], tmp_path: Path) -> Any:
    """A saved classifier whose weights are all one number, and where it is."""
    classifier = classify()
    classifier.model.set_weights([np.full_like(w, 0.25) for w in classifier.model.get_weights()])
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    classifier.model.save(run_dir / "model.keras")
    return run_dir


@pytest.mark.parametrize("form", ["a run folder", "a .keras file", "a .h5 file"])
def test_a_run_goes_on_from_the_weights_of_an_earlier_one(form, earlier, classify, keras):
    source = earlier if form == "a run folder" else earlier / "model.keras"
    if form == "a .h5 file":
        import warnings

        source = earlier / "model.h5"
        with warnings.catch_warnings(action="ignore"):
            keras.models.load_model(earlier / "model.keras").save(source)
            classifier = classify(BACKBONE_WEIGHTS=str(source))
    else:
        classifier = classify(BACKBONE_WEIGHTS=str(source))
    for weights in classifier.model.get_weights():
        np.testing.assert_array_equal(weights, 0.25)


def test_a_head_for_other_classes_stays_fresh(earlier, tiny, keras):
    from classifold.training.model import build_classifier

    model = build_classifier(tiny(BACKBONE_WEIGHTS=str(earlier)), ("a", "b")).model
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], 0.25)
    assert np.unique(model.get_layer("logits").get_weights()[0]).size > 2


def test_normalisation_that_was_adapted_goes_on_as_it_was(classify, keras, tmp_path: Path):
    code = head("return keras.Model(pixels, layers.Conv2D(4, 3)(layers.Normalization()(x)))")
    classifier = classify(code)
    layer = next(one for one in classifier.model.layers if isinstance(one, keras.layers.Normalization))
    layer.set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.1]), np.array(7)])
    layer.finalize_state()
    classifier.model.save(tmp_path / "model.keras")
    again = classify(code, BACKBONE_WEIGHTS=str(tmp_path / "model.keras"))
    np.testing.assert_allclose(answer(again.model, PIXELS), answer(classifier.model, PIXELS), atol=1e-6)


def test_a_part_that_does_not_fit_is_told(earlier, classify, caplog):
    other = head(
        "x = layers.Conv2D(8, 3, strides=2, use_bias=False, name='conv0')(x)\n"
        "return keras.Model(pixels, layers.Conv2D(4, 3, name='new')(x))"
    )
    classify(other, BACKBONE_WEIGHTS=str(earlier))
    assert "only 1 of the backbone's 2 layers" in caplog.text


def refuse(classify: Callable[..., Any], source: object, code: str | None = None) -> str:
    with pytest.raises(BackboneError) as error:
        classify(code, BACKBONE_WEIGHTS=str(source))
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == ["error", "hint"]
    return str(error.value)


def test_weights_of_another_backbone_are_refused_even_where_the_head_fits(earlier, classify):
    other = head("return keras.Model(pixels, layers.Conv2D(16, 3, name='other')(x))")
    assert "no layer of it fits this backbone" in refuse(classify, earlier, other)


def test_weights_that_are_not_there_are_named(classify, tmp_path: Path):
    for source in (tmp_path / "none.keras", tmp_path):
        assert "there is no such file" in refuse(classify, source)
    text = refuse(classify, "s3://bucket/runs/model.keras")
    assert "not a local file, got 's3://bucket/runs/model.keras'" in text
    assert "download it (" in text


@pytest.mark.parametrize("damage", ["cut short", "empty", "text", "another zip", "no model"])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_damaged_file_of_weights_is_refused(damage, ending, earlier, classify, tmp_path: Path):
    import zipfile

    path = tmp_path / f"damaged.{ending}"
    content = (earlier / "model.keras").read_bytes()
    path.write_bytes({"cut short": content[: len(content) // 2], "text": b"hello"}.get(damage, b""))
    if damage == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    if damage == "no model":
        import h5py

        h5py.File(path, "w").close()
    assert "not a model that Keras can load" in refuse(classify, path)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_model_that_would_run_code_is_refused(ending, classify, keras, tmp_path: Path):
    from classifold.training.export import quiet_export

    pixels = keras.Input((32, 32, 3), name="pixels")
    with quiet_export():
        keras.Model(pixels, keras.layers.Lambda(lambda x: x + 1)(pixels)).save(tmp_path / f"lambda.{ending}")
    text = refuse(classify, tmp_path / f"lambda.{ending}")
    assert "not a model that Keras can load: Requested the deserialization of a `Lambda` layer" in text


def rewrite(source: Path, target: Path, **contents: bytes) -> Path:
    """Copy a .keras file with other contents of the files in it that are named, without their endings."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, contents.get(name.partition(".")[0], old.read(name)))
    return target


@pytest.mark.parametrize("place", ["a .h5 file", "a .keras file"])
@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("array", "its weights are to be read from another file (external data)"),
        ("virtual", "its weights are to be read from another file (external data)"),
        ("link", "it holds a link, to another file or within itself"),
        ("soft link", "it holds a link, to another file or within itself"),
        ("circle", "it holds a link, to another file or within itself"),
        ("huge", "its arrays take more than"),
    ],
)
def test_weights_that_lie_in_other_files_or_fill_the_memory_are_refused(
    way, words, place, earlier, classify, tmp_path: Path
):
    import h5py

    (tmp_path / "secret").write_bytes(bytes(4_000))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        group = file.create_group("layers/deep")
        if way == "array":
            group.create_dataset("w", (10,), "f4", external=[(str(tmp_path / "secret"), 0, 40)])
        elif way == "virtual":
            layout = h5py.VirtualLayout((10,), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret"), "w", (10,))
            group.create_virtual_dataset("w", layout)
        elif way == "link":
            group["w"] = h5py.ExternalLink(str(tmp_path / "secret"), "w")
        elif way == "soft link":
            group["w"] = h5py.SoftLink("/layers")
        elif way == "circle":
            group["again"] = file["layers"]
        else:
            group.create_dataset("w", (1 << 40,), "f4", chunks=(1024,))
    path = tmp_path / "weights.h5"
    if place == "a .keras file":
        path = rewrite(earlier / "model.keras", tmp_path / "w.keras", model=path.read_bytes())
    assert words in refuse(classify, path)


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(
    earlier, classify, tmp_path: Path, monkeypatch
):
    from classifold.training import keras_file

    monkeypatch.setattr(keras_file, "RATIO_ALLOWANCE", 1_000_000)
    bomb = rewrite(earlier / "model.keras", tmp_path / "bomb.keras", config=bytes(200_000_000))
    assert "it unpacks to more than" in refuse(classify, bomb)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone bounds the memory of a process")
def test_a_model_of_a_layer_larger_than_the_memory_is_refused(classify, keras, tmp_path: Path, monkeypatch):
    from classifold.training import model

    pixels = keras.Input((32, 32, 3), name="pixels")
    keras.Model(pixels, keras.layers.Dense(4)(pixels)).save(tmp_path / "small.keras")
    with zipfile.ZipFile(tmp_path / "small.keras") as archive:
        config = archive.read("config.json")
    assert b'"units": 4,' in config
    huge = config.replace(b'"units": 4,', b'"units": 100000000,')
    monkeypatch.setattr(model, "_LOADING_ROOM", 1 << 30)
    monkeypatch.setattr(model, "list_gpus", list)
    path = rewrite(tmp_path / "small.keras", tmp_path / "huge.keras", config=huge)
    assert "not a model that Keras can load" in refuse(classify, path)


def test_weights_of_an_earlier_run_are_only_read(earlier, classify, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(earlier, copy)
    classify(BACKBONE_WEIGHTS=str(earlier))
    assert (earlier / "model.keras").read_bytes() == (copy / "model.keras").read_bytes()
    assert [path.name for path in earlier.iterdir()] == ["model.keras"]


# Levels of the backbone that the head sees


def test_the_head_sees_the_end_and_the_narrowest_of_every_resolution(classify, keras):
    classifier = classify()
    backbone, top = classifier.backbone, classifier.backbone.output.shape
    sides = [level.tensor.shape[1] for level in classifier.levels]
    assert sides
    assert sides == sorted(sides, reverse=True)
    assert min(sides) >= top[1]
    tensors = [*(level.tensor for level in classifier.levels), backbone.output]
    expected = [answer(keras.Model(backbone.inputs[0], one), PIXELS) for one in tensors]
    means = np.concatenate([one.mean(axis=(1, 2)) for one in expected], axis=1)
    features = answer(keras.Model(backbone.inputs[0], classifier.features), PIXELS)
    np.testing.assert_allclose(features, means, atol=1e-5)


def test_the_head_can_see_the_top_alone(classify):
    classifier = classify(HEAD_FEATURES="top")
    assert classifier.levels == ()
    assert classifier.features.shape[1] == classifier.backbone.output.shape[-1]


@pytest.mark.parametrize("features", ["levels", "top"])
@pytest.mark.parametrize("share", [0.34, 0.5, 0.75])
def test_one_pass_gives_what_the_cut_needs_and_the_features_of_the_head(share, features, classify, keras):
    from classifold.training.model import split_parts

    classifier = classify(HEAD_FEATURES=features)
    parts = split_parts(classifier, share, with_features=True)
    row = answer(parts.frozen, PIXELS)
    expected = answer(keras.Model(classifier.model.inputs[0], classifier.features), PIXELS)
    np.testing.assert_allclose(row[:, parts.features], expected, atol=1e-6)
    logits = answer(parts.learning, row)
    np.testing.assert_allclose(logits, whole_logits(keras, classifier), atol=1e-5)
