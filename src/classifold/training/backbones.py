"""Backbones by name: EfficientNet-Lite0, keras.applications, KerasHub presets, or the user's own function.

Every backbone that leaves this file takes RGB pixels 0..255, so its preprocessing is part of the model.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifold.errors import BackboneError, Fault, MissingExtraError
from classifold.processes import has_home
from classifold.settings.backbone_names import LITE0, explain_unknown_backbone
from classifold.settings.baked import find_keras_home
from classifold.settings.user_code import importing_beside
from classifold.training.lite0 import build_lite0, load_lite0_weights

_PIXELS = "pixels"
_PREPROCESSING = "preprocessing"


def build_backbone(name: str, *, image_size: int, weights: str | None) -> keras.Model:
    """Return a model from pixels to features.

    Args:
        name: `EfficientNetLite0`, a name in keras.applications, a KerasHub preset, or `FILE.py:FUNCTION`.
        image_size: Side of the square pictures, in pixels.
        weights: "imagenet" for the backbone's published weights, None for random ones. Files and earlier
            runs are loaded later, into the whole classifier (`model.load_earlier_weights`).

    Returns:
        A Keras model, (N, size, size, 3) RGB 0..255 float32 to (N, h, w, c), (N, tokens, c) or (N, c).

    Raises:
        BackboneError: If the name is unknown, the weights cannot be had, or the size does not suit it.
        MissingExtraError: If a package that it needs is not installed.
    """
    published = weights == "imagenet"
    if name == LITE0:
        model = build_lite0(image_size)
        if published:
            load_lite0_weights(model)
        return model
    if ".py:" in name:
        return _build_own(name, image_size)
    if name in list_applications():
        return _build_application(name, image_size, published=published)
    if importlib.util.find_spec("keras_hub") is not None and _is_preset(name):
        return _build_preset(name, image_size, published=published)
    raise BackboneError(_unknown_backbone(name))


def list_applications() -> list[str]:
    """Return the names of the backbones in keras.applications."""
    members = vars(keras.applications).items()
    return sorted(name for name, value in members if callable(value) and name[0].isupper())


def _unknown_backbone(name: str) -> Fault:
    fault = explain_unknown_backbone(name)
    if importlib.util.find_spec("keras_hub") is None:
        return replace(fault, hint=f"{fault.hint} and need `pip install keras-hub`")
    return fault


_OWN_HINT = "def build(image_size): return a keras.Model from (image_size, image_size, 3) pixels to features"


def _build_own(name: str, image_size: int) -> keras.Model:
    """Call the user's function `build(image_size)`; its model must take pixels 0..255 and give features."""
    function = _find_function(name)
    where = f"backbone {name}"
    try:
        model = function(image_size)
    except (Exception, SystemExit) as error:
        raise BackboneError(Fault(where, f"{type(error).__name__}: {error}", hint=_OWN_HINT)) from error
    if not isinstance(model, keras.Model) or not model.built or not getattr(model, "inputs", None):
        what, got = "expected a functional or a built Sequential keras.Model", type(model).__name__
        raise BackboneError(Fault(where, what, hint=_OWN_HINT, got=got))
    _check_ends(model, where, image_size)
    _check_layers(model, where)
    fixed = _fix_size(model, image_size)
    # A Sequential's own layers are in this model's graph, where a cut can be found between them.
    return keras.Model(fixed.inputs[0], fixed.outputs[0], name=fixed.name)


def _check_ends(model: keras.Model, where: str, image_size: int) -> None:
    """Refuse a model that does not take pictures of the set size, or does not give features."""
    shapes = [tuple(end.shape[1:]) for end in (*model.inputs, *model.outputs)]
    sizes = (None, image_size)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        what = "expected one input and one output"
    elif len(shapes[0]) != 3 or shapes[0][2] != 3 or any(side not in sizes for side in shapes[0][:2]):
        what = f"expected an input of {image_size} x {image_size} pixels of 3 channels (IMAGE_SIZE)"
    elif not 1 <= len(shapes[1]) <= 3 or shapes[1][-1] is None:
        what = "expected features of shape (N, height, width, F), (N, tokens, F) or (N, F)"
    else:
        return
    got = " and ".join(map(str, shapes))
    raise BackboneError(Fault(where, what, hint=_OWN_HINT, got=got))


def _check_layers(model: keras.Model, where: str) -> None:
    """Refuse layers that model.keras could not be loaded with where the user's file is not."""
    foreign = sorted({type(one).__name__ for one in _list_operations(model) if not _is_known(one)})
    if foreign:
        what = f"its own or Lambda layers cannot be loaded from a run folder elsewhere: {', '.join(foreign)}"
        raise BackboneError(Fault(where, what, hint="build it of Keras's layers and keras.ops"))


def _list_operations(model: Any) -> list[Any]:
    """Return the layers and keras.ops of a model, and of the models nested in it."""
    inside = getattr(model, "operations", None) or getattr(model, "layers", [])
    return [*inside, *(found for one in inside for found in _list_operations(one))]


def _is_known(operation: Any) -> bool:
    package = type(operation).__module__.partition(".")[0]
    return package in ("keras", "keras_hub") and not isinstance(operation, keras.layers.Lambda)


def _fix_size(model: keras.Model, image_size: int) -> keras.Model:
    """Return the model for one size of pictures, where it was built for any."""
    if None not in model.inputs[0].shape[1:]:
        return model
    pixels = keras.Input((image_size, image_size, 3), name=_PIXELS)
    fixed = keras.models.clone_model(model, input_tensors=pixels)
    fixed.set_weights(model.get_weights())
    return fixed


def _find_function(name: str) -> Callable[[int], Any]:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        hint = "name it as my_model.py:build, from the folder in which the command runs"
        raise BackboneError(Fault("setting BACKBONE", "there is no such file", hint=hint, got=repr(file)))
    spec = importlib.util.spec_from_file_location(f"classifold_backbone_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BackboneError(Fault("setting BACKBONE", "not a Python file", got=repr(file)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with importing_beside(path):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BackboneError(
            Fault(file, f"{type(error).__name__}: {error}", hint="correct the file")
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        defined = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = f"{file} defines {', '.join(defined) or 'no function'}"
        raise BackboneError(
            Fault("setting BACKBONE", f"no function in {file}", hint=hint, got=repr(function))
        )
    build: Callable[[int], Any] = found
    return build


def _build_application(name: str, image_size: int, *, published: bool) -> keras.Model:
    builder = getattr(keras.applications, name)
    preprocess = importlib.import_module(builder.__module__).preprocess_input
    shape = (image_size, image_size, 3)
    if published:
        # Where this folder is missing Keras takes one below /tmp, which every user shares.
        with contextlib.suppress(OSError):
            find_keras_home().mkdir(parents=True, exist_ok=True)
    try:
        # Keras remarks that MobileNet's weights were trained at another size, which is always so here.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            bare = builder(include_top=False, weights="imagenet", input_shape=shape) if published else None
            preprocessed = _preprocess(keras.Input(shape, name=_PIXELS), *_probe(preprocess))
            model = builder(include_top=False, weights=None, input_tensor=preprocessed, input_shape=shape)
    except ValueError as error:
        raise BackboneError(Fault(f"backbone {name}", " ".join(str(error).split()))) from error
    except Exception as error:  # downloads fail in as many ways as there are networks
        raise BackboneError(_no_weights(name, error)) from error
    if bare is not None:
        adopt_weights(model, bare)
    return replace_grouped(model)


def replace_grouped(model: keras.Model) -> keras.Model:
    """Return the model with each convolution of one group a channel as the depthwise one that it is.

    On a processor TensorFlow computes grouped convolutions only through XLA, which has no ONNX form; ConvNeXt
    is built of them.
    """
    pairs: list[tuple[Any, Any]] = []

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if not _is_depthwise(layer):
            copied = layer.__class__.from_config(config)
        else:
            kept = (
                "name",
                "dtype",
                "kernel_size",
                "strides",
                "padding",
                "dilation_rate",
                "activation",
                "use_bias",
            )
            copied = keras.layers.DepthwiseConv2D(**{key: config[key] for key in kept})
        pairs.append((layer, copied))
        return copied

    if not any(_is_depthwise(layer) for layer in model.layers):
        return model
    replaced = keras.models.clone_model(model, clone_function=copy)
    for layer, copied in pairs:
        if _is_depthwise(layer):  # (h, w, 1, channels) to (h, w, channels, 1)
            kernel, *bias = layer.get_weights()
            copied.set_weights([kernel.transpose(0, 1, 3, 2), *bias])
        elif isinstance(layer, keras.layers.Layer):
            copied.set_weights(layer.get_weights())
    finish_weights(replaced)
    return replaced


def _is_depthwise(layer: Any) -> bool:
    is_conv = type(layer) is keras.layers.Conv2D and layer.groups > 1
    return is_conv and layer.groups == layer.filters == layer.input.shape[-1]


def adopt_weights(model: keras.Model, bare: keras.Model) -> None:
    """Give `model` the weights of the same backbone as it was published, which lacks our preprocessing.

    EfficientNet has with its published weights, and only then, one more layer: a division by the square root
    of the deviation, after the normalisation. It goes into the normalisation, so that the backbone is the
    same whatever it starts from. Source: keras.applications.efficientnet.
    """
    ours = [layer for layer in model.layers if layer.weights and layer.name != _PREPROCESSING]
    theirs = [layer for layer in bare.layers if layer.weights]
    for layer, other in zip(ours, theirs, strict=True):
        layer.set_weights(other.get_weights())
    for layer, scaling in zip(bare.layers, bare.layers[1:], strict=False):
        if isinstance(layer, keras.layers.Normalization) and isinstance(scaling, keras.layers.Rescaling):
            normalization = ours[theirs.index(layer)]
            mean, variance, count = layer.get_weights()
            normalization.set_weights([mean, variance / np.square(scaling.scale), count])
    finish_weights(model)


def finish_weights(model: keras.Model) -> None:
    """Let layers that keep something computed from their weights compute it again (Normalization does)."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            finish_weights(layer)
        elif hasattr(layer, "finalize_state") and layer.built:
            layer.finalize_state()


def _no_weights(name: str, error: Exception) -> Fault:
    reason = " ".join(str(error).split())
    cache = (
        find_keras_home() / "models"
        if has_home()
        else "the sub-folder models of the folder that KERAS_HOME names"
    )
    hint = (
        "behind a proxy set HTTPS_PROXY; without a network put that file, downloaded elsewhere, into "
        f"{cache}; or take BACKBONE = '{LITE0}', whose weights are installed with the package"
    )
    return Fault(f"backbone {name}", f"its weights cannot be downloaded: {reason}", hint=hint)


def _is_preset(name: str) -> bool:
    import keras_hub

    return name in keras_hub.models.Backbone.presets or (Path(name) / "config.json").is_file()


def _build_preset(name: str, image_size: int, *, published: bool) -> keras.Model:
    import keras_hub

    shape = (image_size, image_size, 3)
    try:
        model = keras_hub.models.Backbone.from_preset(name, load_weights=published, image_shape=shape)
        converter = keras_hub.layers.ImageConverter.from_preset(name)
    except ImportError as error:
        raise MissingExtraError(Fault(f"backbone {name}", str(error))) from error
    except Exception as error:
        raise BackboneError(_no_weights(name, error)) from error

    def preprocess(pixels: Any) -> Any:
        scale = np.asarray(1.0 if converter.scale is None else converter.scale)
        return pixels * scale + np.asarray(0.0 if converter.offset is None else converter.offset)

    pixels = keras.Input(shape, name=_PIXELS)
    preprocessed = _preprocess(pixels, *_probe(preprocess))
    try:
        return unfold_model(model, pixels, preprocessed)
    except (TypeError, ValueError):  # a layer that cannot be made again from its own configuration
        return keras.Model(pixels, model(preprocessed), name=model.name)


def unfold_model(model: keras.Model, pixels: Any, preprocessed: Any) -> keras.Model:
    """Return a model from `pixels` in whose graph each layer of `model` stands for itself, with its weights.

    In a model that is nested whole there is no place where a part could be cut off and frozen.

    Args:
        model: From preprocessed pixels to features.
        pixels: The input of the new one.
        preprocessed: What `model` is to be given, made from `pixels`.

    Raises:
        TypeError: If a layer cannot be made again from its configuration.
        ValueError: If the layer made again is another one.
    """
    pairs: list[tuple[Any, Any]] = []

    def copy(layer: Any) -> Any:
        if type(layer).__name__ in _PLAIN_FORMS:
            return layer
        pairs.append((layer, layer.__class__.from_config(layer.get_config())))
        return pairs[-1][1]

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        given = [preprocessed if one is pixels else one for one in args]
        plain = _PLAIN_FORMS.get(type(operation).__name__)
        return operation(*given, **kwargs) if plain is None else plain(operation, *given)

    unfolded = keras.models.clone_model(model, input_tensors=pixels, clone_function=copy, call_function=call)
    for layer, copied in pairs:
        if isinstance(layer, keras.layers.Layer):
            copied.set_weights(layer.get_weights())
    finish_weights(unfolded)
    return unfolded


def _embed_patches(layer: Any, planes: Any) -> Any:
    """Do what KerasHub's ViTPatchingAndEmbedding does: (N, size, size, 3) to tokens (N, T, F).

    Its convolution is a product with the pixels of each patch; the position embeddings, the class token and
    the convolution's bias add up to one bias per token. Source: keras_hub/src/models/vit/vit_layers.py.
    """
    if layer.data_format != "channels_last":
        raise ValueError("patches of planes with the channels first")
    (height, width), channels = layer.patch_size, planes.shape[-1]
    rows, columns = planes.shape[1] // height, planes.shape[2] // width
    x = keras.layers.Reshape((rows, height, columns, width * channels), name="patch_rows")(planes)
    x = keras.layers.Permute((1, 3, 2, 4), name="patch_order")(x)
    x = keras.layers.Reshape((rows * columns, height * width * channels), name="patches")(x)
    kernel, *bias = layer.patch_embedding.get_weights()
    (places,) = layer.position_embedding.get_weights()
    offset = places + (bias[0] if bias else 0)
    if layer.use_class_token:
        x = keras.layers.ZeroPadding1D((1, 0), name="class_token")(x)
        offset[0] = places[0] + np.asarray(layer.class_token)[0, 0]
    embed = keras.layers.EinsumDense("abc,cd->abd", offset.shape, bias_axes="bd", name="patch_embedding")
    tokens = embed(x)
    embed.set_weights([kernel.reshape(-1, kernel.shape[-1]), offset])
    return tokens


def _encode(encoder: Any, tokens: Any) -> Any:
    """Do what KerasHub's ViTEncoder does, whose blocks are all in one layer. Source: as above."""
    x = keras.layers.Dropout(encoder.dropout_rate, name="embedding_dropout")(tokens)
    for number, block in enumerate(encoder.encoder_layers):
        x = _encode_block(block, x, f"block{number}")
    return _repeat(encoder.layer_norm, "encoder_norm", x)


def _encode_block(block: Any, tokens: Any, name: str) -> Any:
    rate = block.dropout_rate
    x = _repeat(block.layer_norm_1, f"{name}_attention_norm", tokens)
    x = _repeat(block.mha, f"{name}_attention", x, x)
    x = keras.layers.Dropout(rate, name=f"{name}_attention_dropout")(x)
    attended = keras.layers.Add(name=f"{name}_attention_add")([x, tokens])
    x = _repeat(block.layer_norm_2, f"{name}_mlp_norm", attended)
    x = _repeat(block.mlp.dense_1, f"{name}_mlp_widen", x)
    x = keras.layers.Dropout(rate, name=f"{name}_mlp_inner_dropout")(x)
    x = _repeat(block.mlp.dense_2, f"{name}_mlp_narrow", x)
    x = keras.layers.Dropout(rate, name=f"{name}_mlp_dropout")(x)
    return keras.layers.Add(name=f"{name}_mlp_add")([attended, x])


def _repeat(layer: Any, name: str, *tensors: Any) -> Any:
    """Call a layer of Keras's own, made again under another name, with the same weights."""
    copied = layer.__class__.from_config({**layer.get_config(), "name": name})
    output = copied(*tensors)
    copied.set_weights(layer.get_weights())
    return output


# KerasHub's layers of ViT, which Keras cannot load again, as layers that it can.
_PLAIN_FORMS = {"ViTPatchingAndEmbedding": _embed_patches, "ViTEncoder": _encode}


def _probe(preprocess: Callable[[Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix A (3, 3) and the offset b (3,) with preprocess(x) = x A + b, found by asking it.

    Every preprocessing function of keras.applications is of this kind: a scale, a mean, perhaps BGR for RGB.
    """
    probes = np.zeros((1, 4, 1, 3), np.float32)
    probes[0, 1:, 0, :] = 255 * np.eye(3)
    answers = np.asarray(preprocess(probes.copy()), np.float64)[0, :, 0, :]
    return (answers[1:] - answers[0]) / 255, answers[0]


def _preprocess(pixels: Any, matrix: np.ndarray, offset: np.ndarray) -> Any:
    if np.allclose(matrix, np.eye(3)) and np.allclose(offset, 0):
        return pixels
    if np.allclose(matrix, np.diag(np.diag(matrix))):
        scale, shift = np.diag(matrix).tolist(), offset.tolist()
        return keras.layers.Rescaling(scale, offset=shift, name=_PREPROCESSING)(pixels)
    mix = keras.layers.Conv2D(3, 1, trainable=False, name=_PREPROCESSING)
    mixed = mix(pixels)
    mix.set_weights([matrix[None, None].astype(np.float32), offset.astype(np.float32)])
    return mixed
