"""The classifier: a backbone, a head of dense layers, and where the two parts of a stage are cut apart."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from classifold import names
from classifold.errors import BackboneError, Fault
from classifold.machine import limited_memory, list_gpus, memory_bytes
from classifold.settings.config import Config
from classifold.training.backbones import build_backbone, finish_weights
from classifold.training.keras_file import check_keras_file

_LOG = logging.getLogger(__name__)

# A cut is sought where the activations are small: at most this many times the smallest before it.
_WIDEST_CUT = 2.0
# A cut this close to the share that is asked for is taken for it.
_SHARE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Classifier:
    """The whole model and the tensors between its parts.

    Attributes:
        model: (N, size, size, 3) RGB 0..255 to probabilities (N, C).
        features: (N, F) between backbone and head: what every level says, pooled, and the top's.
        logits: (N, C), before the softmax.
        backbone: Its layers end at the tensor before pooling.
        top: The backbone's output, pooled: the last part of the features.
        levels: The lower levels that the head sees, from the pixels up.
    """

    model: keras.Model
    features: Any
    logits: Any
    backbone: keras.Model
    top: Any
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True)
class Level:
    """A place in the backbone whose mean over the picture is part of the features.

    Attributes:
        tensor: (N, h, w, c), the last of its resolution.
        pooled: (N, c).
    """

    tensor: Any
    pooled: Any


@dataclass(frozen=True)
class Parts:
    """The two parts of a stage: what is frozen and computed once, and what learns.

    Attributes:
        frozen: From pixels to all that the part that learns needs; None where the cut is at the pixels.
        learning: From there to the logits.
        features: Which columns of what is frozen are the head's features; None where they are not among it.
    """

    frozen: keras.Model | None
    learning: keras.Model
    features: slice | None = None


def build_classifier(config: Config, class_names: Sequence[str]) -> Classifier:
    """Return the classifier with the backbone's weights and a fresh head.

    Raises:
        BackboneError: See `build_backbone`; also where an earlier run's weights do not fit.
        MissingExtraError: If a package that the backbone needs is not installed.
    """
    published = "imagenet" if config.BACKBONE_WEIGHTS == "imagenet" else None
    backbone = build_backbone(config.BACKBONE, image_size=config.IMAGE_SIZE, weights=published)
    levels = _pool_levels(backbone) if config.HEAD_FEATURES == "levels" else ()
    top = features = _pool(backbone.output, "pooling")
    if levels:
        features = keras.layers.Concatenate(name="features")([*(level.pooled for level in levels), top])
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
        hint = (
            "rename the layers of the backbone that are called pooling..., features, logits, probabilities "
            "or head_..."
        )
        fault = Fault(f"backbone {config.BACKBONE}", " ".join(str(error).split())[:200], hint=hint)
        raise BackboneError(fault) from error
    classifier = Classifier(
        model=model, features=features, logits=logits, backbone=backbone, top=top, levels=levels
    )
    if config.BACKBONE_WEIGHTS not in ("imagenet", None):
        load_earlier_weights(classifier, str(config.BACKBONE_WEIGHTS))
    return classifier


def _pool(features: Any, name: str) -> Any:
    """Return (N, F) from (N, h, w, F), (N, tokens, F) or (N, F)."""
    if len(features.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name=name)(features)
    if len(features.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(name=name)(features)
    return keras.layers.Activation("linear", name=name)(features)


def _pool_levels(backbone: keras.Model) -> tuple[Level, ...]:
    """Return for every resolution the last place and the last of its narrowest, where the backbone has them.

    Colour and texture are told from the lower levels at no cost, since their tensors are there anyway. Source
    of the idea: Evci et al. 2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer
    Learning".
    """
    if len(backbone.output.shape) != 4:
        return ()
    side, top_width = backbone.output.shape[1], backbone.output.shape[-1]
    by_side: dict[int, list[Cut]] = {}
    for cut in find_cuts(backbone, widest=math.inf)[1:]:
        padded = isinstance(cut.tensor._keras_history.operation, keras.layers.ZeroPadding2D)
        if len(cut.tensor.shape) == 4 and not padded:
            by_side.setdefault(cut.tensor.shape[1], []).append(cut)
    chosen: list[Cut] = []
    for height, cuts in by_side.items():
        narrowest = min(cut.tensor.shape[-1] for cut in cuts)
        narrow = [cut for cut in cuts if cut.tensor.shape[-1] == narrowest < top_width]
        found = {_last_whole(narrow, backbone), _last_whole(cuts if height > side else [], backbone)}
        chosen += [cut for cut in cuts if cut in found]
    return tuple(Level(cut.tensor, _pool(cut.tensor, f"pooling{place}")) for place, cut in enumerate(chosen))


def _last_whole(cuts: Sequence[Cut], backbone: keras.Model) -> Cut | None:
    return next((cut for cut in reversed(cuts) if _is_whole(cut, backbone)), None)


def load_earlier_weights(classifier: Classifier, source: str) -> None:
    """Give the classifier the weights of every layer that has the same name and shapes in an earlier model.

    Args:
        classifier: The new one; its head keeps fresh weights where the number of classes is another.
        source: A run folder, or a `.keras` or `.h5` file.

    Raises:
        BackboneError: If there is no such file, it cannot be read, or nothing in it fits the backbone.
    """
    path = _find_earlier(source)
    room = min(memory_bytes(), _LOADING_ROOM + 8 * path.stat().st_size)
    try:
        check_keras_file(path)
        # A GPU's driver reserves addresses by the hundred GB, which count as memory here.
        with contextlib.nullcontext() if list_gpus() else limited_memory(room):
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


# Beside eight times its weights, what a model from elsewhere may take in memory while it is loaded.
_LOADING_ROOM = 4 << 30
_EARLIER_HINT = "name a run folder, or a .keras or .h5 file of the same backbone"


def _find_earlier(source: str) -> Path:
    """Return the file that BACKBONE_WEIGHTS names."""
    path = Path(source)
    if path.is_dir():
        path = path / names.MODEL_KERAS
    if path.is_file():
        return path
    if source.startswith("s3://"):
        hint = (
            "download it (`classifold fetch` does so with a job's result), then name the file or run folder"
        )
        fault = Fault("setting BACKBONE_WEIGHTS", "not a local file", hint=hint, got=repr(source))
    else:
        what = "there is no such file"
        fault = Fault("setting BACKBONE_WEIGHTS", what, hint=_EARLIER_HINT, got=repr(source))
    raise BackboneError(fault)


def _fits(layer: Any, other: Any) -> bool:
    if other is None or not layer.weights or len(layer.weights) != len(other.weights):
        return False
    return all(a.shape == b.shape for a, b in zip(layer.weights, other.weights, strict=True))


def split_parts(classifier: Classifier, share: float, *, with_features: bool = False) -> Parts:
    """Cut the classifier so that `share` of the backbone learns, and set which weights are trainable.

    Batch normalisation keeps its statistics and its weights: a few pictures would only spoil them.
    Where the backbone has no cut near the share, the learning part holds frozen layers too.

    Args:
        classifier: Shares its layers with the parts.
        share: 0 for the head alone, 1 for the whole backbone.
        with_features: The frozen part gives the head's features besides, as they are before anything learns;
            not where the cut is at the pixels.
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
    if cut.tensor is classifier.features:
        return _join_parts(classifier, cut.tensor, [], [])
    below = {id(tensor) for tensor in _list_below(backbone, cut.tensor)}
    lower = [level.pooled for level in classifier.levels if id(level.tensor) in below]
    return _join_parts(classifier, cut.tensor, lower, _list_pooled(classifier) if with_features else lower)


def _list_pooled(classifier: Classifier) -> list[Any]:
    """Return the tensors that the features are made of, in their order."""
    return [*(level.pooled for level in classifier.levels), classifier.top]


def _list_below(backbone: keras.Model, tensor: Any) -> list[Any]:
    """Return a tensor and all that it is computed from."""
    return [end for layer in keras.Model(backbone.inputs[0], tensor).layers for end in _list_outputs(layer)]


def _list_outputs(layer: Any) -> list[Any]:
    return list(keras.tree.flatten(_OUTPUT(layer)))


def _join_parts(classifier: Classifier, cut: Any, lower: Sequence[Any], pooled: Sequence[Any]) -> Parts:
    """Return the two parts; where more than the cut is wanted, one row of numbers holds it all.

    Args:
        classifier: Whose parts they are.
        cut: The tensor at the cut.
        lower: Pooled levels below the cut, which the part that learns needs too.
        pooled: What the row holds behind the cut's own numbers; `lower` are the first of them.
    """
    pixels, logits = classifier.backbone.inputs[0], classifier.logits
    if not pooled:
        frozen = keras.Model(pixels, cut, name="frozen")
        features = slice(None) if cut is classifier.features else None
        return Parts(frozen, keras.Model(cut, logits, name="learning"), features)
    flat = keras.layers.Flatten()(cut)
    row = keras.layers.Concatenate()([flat, *pooled])
    above = keras.Model([cut, *lower], logits)
    given = keras.Input(row.shape[1:])
    ends = np.cumsum([flat.shape[1], *(one.shape[1] for one in lower)]).tolist()
    pieces = [given[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
    pieces[0] = keras.layers.Reshape(cut.shape[1:])(pieces[0])
    return Parts(
        frozen=keras.Model(pixels, row, name="frozen"),
        learning=keras.Model(given, above(pieces), name="learning"),
        features=slice(flat.shape[1], None) if len(pooled) > len(lower) else None,
    )


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


def find_cuts(backbone: keras.Model, *, widest: float = _WIDEST_CUT) -> list[Cut]:
    """Return the places where a backbone can be cut in two, from the pixels up.

    Args:
        backbone: A Keras graph.
        widest: A place is left out where it is so many times the smallest before it: activations that are
            kept there would take more memory than the pictures do.
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
        if seen and 0 < size <= widest * smallest:
            cuts.append(Cut(tensor=output, share=(total - seen) / total, size=size))
            smallest = min(smallest, size)
        open_until = max(open_until, last_use[index])
    return cuts


# A nested model's own `output` is a tensor inside it; this is the one that the graph around it holds.
_OUTPUT = keras.Operation.output.fget
_INPUT = keras.Operation.input.fget


def _last_uses(layers: Sequence[Any]) -> list[int]:
    """Return for every layer the index of the last layer that reads its output, its own where none does."""
    outputs = [_list_outputs(layer) for layer in layers]
    place = {id(tensor): index for index, tensors in enumerate(outputs) for tensor in tensors}
    last = list(range(len(layers)))
    for index, layer in enumerate(layers):
        for tensor in keras.tree.flatten(_INPUT(layer)):
            if id(tensor) in place:
                last[place[id(tensor)]] = max(last[place[id(tensor)]], index)
    return last
