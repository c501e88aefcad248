"""The backbones that go by a name: known without Keras, so that a typing error is reported at the start."""

from __future__ import annotations

import difflib
import os
import re

from classifold.errors import Fault

LITE0 = "EfficientNetLite0"
# Of keras.applications; a test says when Keras has others.
APPLICATIONS = tuple(
    """
    ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge DenseNet121 DenseNet169 DenseNet201
    EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
    EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2L
    EfficientNetV2M EfficientNetV2S InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 MobileNetV3Large
    MobileNetV3Small NASNetLarge NASNetMobile ResNet101 ResNet101V2 ResNet152 ResNet152V2 ResNet50 ResNet50V2
    VGG16 VGG19 Xception
    """.split()  # noqa: SIM905 - a line per name else
)
# Licences of published weights: the package's own, and what Keras's documentation says of each family. The
# others (ConvNeXt, ResNet V2, KerasHub's) are for the user to look up.
_LICENCES = {
    re.compile("EfficientNet|Inception|MobileNet|NASNet"): "Apache-2.0",
    re.compile("ResNet[0-9]+$|Xception"): "MIT",
    re.compile("DenseNet"): "BSD-3-Clause",
    re.compile("VGG"): "CC-BY-4.0",
}
# KerasHub's presets say what they were trained on, as in resnet_50_imagenet.
_PRESET = re.compile(r"[a-z][a-z0-9.]*(_[a-z0-9.]+)+")


def find_backbone_fault(name: str) -> Fault | None:
    """Return the fault for a BACKBONE that can be no backbone, with the name that was most likely meant.

    A file, a folder, and what may be a preset of KerasHub pass: only `train` can tell whether it is there.
    """
    near = {_simplify(one): one for one in (LITE0, *APPLICATIONS)}
    if name in near.values() or "/" in name or ".py:" in name or os.path.isdir(name):  # noqa: PTH112 - any text
        return None
    if _PRESET.fullmatch(name) and _simplify(name) not in near:
        return None
    return explain_unknown_backbone(name)


def describe_licence(backbone: str, weights: str | None) -> str:
    """Return under which licence the weights are that a model starts from.

    Args:
        backbone: BACKBONE.
        weights: BACKBONE_WEIGHTS.
    """
    if weights is None:
        return "none: the weights were random at the start"
    if weights != "imagenet":
        return "that of the weights in BACKBONE_WEIGHTS"
    if ".py:" in backbone:
        return "that of your own function"
    known = [licence for name, licence in _LICENCES.items() if name.match(backbone)]
    return known[0] if known else f"look it up where {backbone} is published"


def explain_unknown_backbone(name: str) -> Fault:
    """Return the fault for a name that no backbone has, with the nearest one that is."""
    if name.endswith(".py"):
        hint = f'name the function in the file as well: BACKBONE = "{name}:build"'
    else:
        near = {_simplify(one): one for one in (LITE0, *APPLICATIONS)}
        found = difflib.get_close_matches(_simplify(name), near, n=1, cutoff=0.5)
        hint = f"did you mean {near[found[0]]}? " if found else ""
        hint += "docs/settings.md lists the names; KerasHub's presets are like resnet_50_imagenet"
    return Fault("setting BACKBONE", "there is no such backbone", hint=hint, got=repr(name))


def _simplify(name: str) -> str:
    """Return a name without what is easily got wrong: upper and lower case, hyphens, underscores, spaces."""
    return re.sub(r"[-_ ]", "", name.lower())
