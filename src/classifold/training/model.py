"""The classifier: a backbone, a head of dense layers, and where the two parts of a stage are cut apart."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from classifold import names
from classifold.config import Config
from classifold.errors import BackboneError, Fault
from classifold.training.backbones import build_backbone, finish_weights

_LOG = logging.getLogger(__name__)

# A cut is sought where the activations are small: at most so many times the smallest before it.
_WIDEST_CUT = 2.0
# A cut this close to the share that is asked for is taken for it.
_SHARE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Classifier:
    """The whole model and the tensors between its parts.

    Attributes:
        model: (N, size, size, 3) RGB 0..255 to probabilities (N, C).
        features: The pooled features (N, F) between backbone and head.
        logits: (N, C), before the softmax.
        backbone: Its layers end at the tensor before pooling.
    """

    model: keras.Model
    features: Any
    logits: Any
    backbone: keras.Model


@dataclass(frozen=True)
class Parts:
    """The two parts of a stage: what is frozen and computed once, and what learns.

    Attributes:
        frozen: From pixels to the cut; None where the cut is at the pixels.
        learning: From the cut to the logits.
    """

    frozen: keras.Model | None
    learning: keras.Model


def build_classifier(config: Config, class_names: Sequence[str]) -> Classifier:
    """Return the classifier with the backbone's weights and a fresh head.

    Raises:
        BackboneError: See `build_backbone`; also where an earlier run's weights do not fit.
        MissingExtraError: If a package that the backbone needs is not installed.
    """
    published = "imagenet" if config.BACKBONE_WEIGHTS == "imagenet" else None
    backbone = build_backbone(config.BACKBONE, image_size=config.IMAGE_SIZE, weights=published)
    features = _pool(backbone.output)
    x = features
    for index, units in enumerate(config.HEAD_LAYERS):
        x = keras.layers.Dropout(config.DROPOUT, name=f"head_dropout{index}")(x)
        x = keras.layers.Dense(units, activation="relu", name=f"head_dense{index}")(x)
    x = keras.layers.Dropout(config.DROPOUT, name="head_dropout")(x)
    logits = keras.layers.Dense(len(class_names), name="logits")(x)
    probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(logits)
    try:
        model = keras.Model(backbone.inputs[0], probabilities, name="classifold")
    except ValueError as error:  # two layers of one name
        hint = "rename the layers of the backbone that are called pooling, logits, probabilities or head_..."
        fault = Fault(f"backbone {config.BACKBONE}", " ".join(str(error).split())[:200], hint=hint)
        raise BackboneError(fault) from error
    classifier = Classifier(model=model, features=features, logits=logits, backbone=backbone)
    if config.BACKBONE_WEIGHTS not in ("imagenet", None):
        load_earlier_weights(classifier, str(config.BACKBONE_WEIGHTS))
    return classifier


def _pool(features: Any) -> Any:
    """Return (N, F) from (N, h, w, F), (N, tokens, F) or (N, F)."""
    if len(features.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="pooling")(features)
    if len(features.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(name="pooling")(features)
    return keras.layers.Activation("linear", name="pooling")(features)


def load_earlier_weights(classifier: Classifier, source: str) -> None:
    """Give the classifier the weights of every layer that has the same name and shapes in an earlier model.

    Args:
        classifier: The new one; its head keeps fresh weights where the number of classes is another.
        source: A run folder, or a `.keras` or `.h5` file.

    Raises:
        BackboneError: If there is no such file, it cannot be read, or nothing in it fits the backbone.
    """
    path = _find_earlier(source)
    try:
        earlier = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        what = f"not a model that Keras can load: {' '.join(str(error).split())[:200]}"
        raise BackboneError(Fault(str(path), what, hint=_EARLIER_HINT)) from error
    layers = {layer.name: layer for layer in earlier.layers}
    fitting = [layer for layer in classifier.model.layers if _fits(layer, layers.get(layer.name))]
    weighted = [layer for layer in classifier.backbone.layers if layer.weights]
    num_fitting = sum(1 for layer in weighted if layer in fitting)
    if not num_fitting:
        raise BackboneError(Fault(str(path), "no layer of it fits this backbone", hint=_EARLIER_HINT))
    if num_fitting < len(weighted):
        rest = f"only {num_fitting} of the backbone's {len(weighted)} layers with weights fit"
        _LOG.warning("note: %s: %s; the others start from random weights", path, rest)
    for layer in fitting:
        layer.set_weights(layers[layer.name].get_weights())
    finish_weights(classifier.model)


_EARLIER_HINT = "name a run folder, or a .keras or .h5 file of the same backbone"


def _find_earlier(source: str) -> Path:
    """Return the file that BACKBONE_WEIGHTS names."""
    path = Path(source)
    if path.is_dir():
        path = path / names.MODEL_KERAS
    if path.is_file():
        return path
    if source.startswith("s3://"):
        hint = "download it first and name the file; training on AWS reads s3:// addresses"
        fault = Fault("setting BACKBONE_WEIGHTS", "not a local file", hint=hint, got=repr(source))
    else:
        what = "there is no such file"
        fault = Fault("setting BACKBONE_WEIGHTS", what, hint=_EARLIER_HINT, got=repr(source))
    raise BackboneError(fault)


def _fits(layer: Any, other: Any) -> bool:
    if other is None or not layer.weights or len(layer.weights) != len(other.weights):
        return False
    return all(a.shape == b.shape for a, b in zip(layer.weights, other.weights, strict=True))


def split_parts(classifier: Classifier, share: float) -> Parts:
    """Cut the classifier so that `share` of the backbone learns, and set which weights are trainable.

    Batch normalisation keeps its statistics and its weights: a few pictures would only spoil them.
    Where the backbone has no cut near the share, the learning part holds frozen layers too.

    Args:
        classifier: Shares its layers with the parts.
        share: 0 for the head alone, 1 for the whole backbone.
    """
    backbone = classifier.backbone
    cut = Cut(classifier.features, share=0.0, size=0) if share == 0 else _choose_cut(backbone, share)
    for layer in _leaves(classifier.model):
        layer.trainable = True
    weighted = [layer for layer in _leaves(backbone) if layer.weights and not _is_fixed(layer)]
    near = abs(cut.share - share) <= _SHARE_TOLERANCE
    num_learning = round((cut.share if near else share) * len(weighted))
    frozen = {id(layer) for layer in weighted[: len(weighted) - num_learning]}
    for layer in _leaves(backbone):
        layer.trainable = id(layer) not in frozen and not _is_fixed(layer)
        for part in layer._flatten_layers(include_self=False):  # within layers made of layers
            part.trainable = part.trainable and not _is_fixed(part)
    if cut.tensor is backbone.inputs[0]:
        return Parts(
            frozen=None, learning=keras.Model(backbone.inputs[0], classifier.logits, name="learning")
        )
    below = keras.Model(backbone.inputs[0], cut.tensor, name="frozen")
    return Parts(frozen=below, learning=keras.Model(cut.tensor, classifier.logits, name="learning"))


def _is_fixed(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) or layer.name == "preprocessing"


def _leaves(model: Any) -> list[Any]:
    """Return the layers of a model in the order of the data, those of nested models in their place."""
    if not isinstance(model, keras.Model):
        return [model]
    return [leaf for layer in model.layers for leaf in _leaves(layer)]


def _choose_cut(backbone: keras.Model, share: float) -> Cut:
    """Return the place at which the part that learns begins.

    It is the nearest; where none is near, the one that leaves the smallest part that still holds the share,
    whose lower layers are then frozen in place.
    """
    cuts = find_cuts(backbone)
    near = [cut for cut in cuts if abs(cut.share - share) <= _SHARE_TOLERANCE]
    near.sort(key=lambda cut: (abs(cut.share - share), cut.size))
    larger = sorted((cut for cut in cuts if cut.share >= share), key=lambda cut: cut.share)
    return next(cut for cut in [*near, *larger, cuts[0]] if _is_whole(cut, backbone))


def _is_whole(cut: Cut, backbone: keras.Model) -> bool:
    """Tell whether the layers above need nothing but the cut; nested models can hide a connection."""
    try:
        keras.Model(cut.tensor, backbone.outputs[0])
    except ValueError:
        return cut.tensor is backbone.inputs[0]
    return True


@dataclass(frozen=True)
class Cut:
    """A place where one tensor holds all that the layers above need.

    Attributes:
        tensor: The tensor.
        share: The part of the backbone's weighted layers that is above it.
        size: Elements of the tensor for one picture.
    """

    tensor: Any
    share: float
    size: int


def find_cuts(backbone: keras.Model) -> list[Cut]:
    """Return the places where a backbone can be cut in two, from the pixels up.

    Wide places are left out, since their activations would take more memory than the pictures do.
    """
    layers = backbone.layers
    counts = [sum(1 for leaf in _leaves(layer) if leaf.weights and not _is_fixed(leaf)) for layer in layers]
    total = sum(counts) or 1
    last_use = _last_uses(layers)
    cuts = [Cut(tensor=backbone.inputs[0], share=1.0, size=math.prod(backbone.inputs[0].shape[1:]))]
    open_until, smallest, seen = 0, cuts[0].size, 0
    for index, layer in enumerate(layers):
        seen += counts[index]
        output = _OUTPUT(layer)
        is_alone = open_until <= index < last_use[index] and not isinstance(output, list | tuple | dict)
        size = math.prod(side or 0 for side in output.shape[1:]) if is_alone else 0
        if seen and 0 < size <= _WIDEST_CUT * smallest:
            cuts.append(Cut(tensor=output, share=(total - seen) / total, size=size))
            smallest = min(smallest, size)
        open_until = max(open_until, last_use[index])
    return cuts


# A nested model's own `output` is a tensor inside it; this is the one that the graph around it holds.
_OUTPUT = keras.Operation.output.fget
_INPUT = keras.Operation.input.fget


def _last_uses(layers: Sequence[Any]) -> list[int]:
    """Return for every layer the index of the last layer that reads its output, its own where none does."""
    outputs = [keras.tree.flatten(_OUTPUT(layer)) for layer in layers]
    place = {id(tensor): index for index, tensors in enumerate(outputs) for tensor in tensors}
    last = list(range(len(layers)))
    for index, layer in enumerate(layers):
        for tensor in keras.tree.flatten(_INPUT(layer)):
            if id(tensor) in place:
                last[place[id(tensor)]] = max(last[place[id(tensor)]], index)
    return last
