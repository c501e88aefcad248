from __future__ import annotations

import pytest

from classifold.settings.backbone_names import describe_licence


@pytest.mark.parametrize(
    ("backbone", "weights", "licence"),
    [
        ("EfficientNetLite0", "imagenet", "Apache-2.0"),
        ("ResNet50", "imagenet", "MIT"),
        ("ResNet50V2", "imagenet", "look it up where ResNet50V2 is published"),
        ("DenseNet121", "imagenet", "BSD-3-Clause"),
        ("VGG16", "imagenet", "CC-BY-4.0"),
        ("ConvNeXtTiny", "imagenet", "look it up where ConvNeXtTiny is published"),
        ("resnet_50_imagenet", "imagenet", "look it up where resnet_50_imagenet is published"),
        ("my_model.py:build", "imagenet", "that of your own function"),
        ("EfficientNetLite0", None, "none: the weights were random at the start"),
        ("EfficientNetLite0", "runs/a", "that of the weights in BACKBONE_WEIGHTS"),
    ],
)
def test_the_licence_of_the_first_weights_is_said_or_where_to_look(
    backbone: str, weights: str | None, licence: str
) -> None:
    assert describe_licence(backbone, weights) == licence
