"""Backbones by name: EfficientNet-Lite0, keras.applications, KerasHub presets, or the user's own function.

Every backbone that leaves this file takes RGB pixels 0..255, so its preprocessing is part of the model.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifold.errors import BackboneError, Fault, MissingExtraError
from classifold.training.lite0 import build_lite0, load_lite0_weights

LITE0 = "EfficientNetLite0"
_PIXELS = "pixels"


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
    known = [LITE0, *list_applications()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    if importlib.util.find_spec("keras_hub") is None:
        hint += "KerasHub presets need `pip install keras-hub`; "
    hint += "docs/settings.md lists the names"
    return Fault("setting BACKBONE", "there is no such backbone", hint=hint, got=repr(name))


def _build_own(name: str, image_size: int) -> keras.Model:
    """Call the user's function `build(image_size)`; its model must take pixels 0..255 and give features."""
    function = _find_function(name)
    hint = "def build(image_size): return a keras.Model from (image_size, image_size, 3) pixels to features"
    try:
        model = function(image_size)
    except Exception as error:
        raise BackboneError(
            Fault(f"backbone {name}", f"{type(error).__name__}: {error}", hint=hint)
        ) from error
    if not isinstance(model, keras.Model) or not model.built:
        raise BackboneError(
            Fault(f"backbone {name}", "expected a built keras.Model", hint=hint, got=type(model).__name__)
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.input_shape[-1] != 3:
        got = f"{model.input_shape} to {model.output_shape}"
        raise BackboneError(
            Fault(f"backbone {name}", "expected one input of 3 channels and one output", hint=hint, got=got)
        )
    return model


def _find_function(name: str) -> Callable[[int], Any]:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise BackboneError(Fault("setting BACKBONE", "there is no such file", got=repr(file)))
    spec = importlib.util.spec_from_file_location(f"classifold_backbone_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BackboneError(Fault("setting BACKBONE", "not a Python file", got=repr(file)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BackboneError(Fault(file, f"{type(error).__name__}: {error}", hint="mend the file")) from error
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
    module = importlib.import_module(builder.__module__)
    shape = (image_size, image_size, 3)
    pixels = keras.Input(shape, name=_PIXELS)
    preprocessed = _preprocess(pixels, *_probe(module.preprocess_input))
    chosen = "imagenet" if published else None
    try:
        return builder(include_top=False, weights=chosen, input_tensor=preprocessed, input_shape=shape)
    except ValueError as error:
        raise BackboneError(Fault(f"backbone {name}", " ".join(str(error).split()))) from error
    except Exception as error:  # downloads fail in as many ways as there are networks
        raise BackboneError(_no_weights(name, error)) from error


def _no_weights(name: str, error: Exception) -> Fault:
    reason = " ".join(str(error).split())
    hint = (
        "behind a proxy set HTTPS_PROXY; without a network download the file elsewhere and name it in "
        f"BACKBONE_WEIGHTS, or take BACKBONE = '{LITE0}', whose weights are installed with the package"
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
    return keras.Model(pixels, model(_preprocess(pixels, *_probe(preprocess))), name=model.name)


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
        return keras.layers.Rescaling(scale, offset=shift, name="preprocessing")(pixels)
    mix = keras.layers.Conv2D(3, 1, trainable=False, name="preprocessing")
    mixed = mix(pixels)
    mix.set_weights([matrix[None, None].astype(np.float32), offset.astype(np.float32)])
    return mixed
