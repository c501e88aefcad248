"""The image that endpoints and transform jobs run: the slim one that serves, else the training image."""

from __future__ import annotations

from classifold.aws.clients import Aws
from classifold.aws.image import PushedImage, find_image
from classifold.aws.image_context import Variant
from classifold.aws.preflight_findings import Finding
from classifold.errors import MissingError

_SERVE: Variant = "serve"
# Training images serve as well; they are larger, so that machines take longer to start.
_OTHERS: tuple[Variant, ...] = ("cpu", "gpu")


def find_serving_image(aws: Aws) -> tuple[str, list[Finding]]:
    """Return the address of the pushed image of the current source, by its digest, and remarks on it.

    Raises:
        MissingError: None was pushed.
        AwsError: AWS refuses, or something else is under its tag than was pushed from here.
    """
    try:
        found = find_image(aws, variant=_SERVE)
    except MissingError:
        other = _find_other(aws)
        if other is None:
            raise
        what = "it is larger than it needs to be: the training image serves, since the slim one is not there"
        hint = "run `classifold image --serve` for one that starts faster"
        return other.uri_by_digest, [Finding(f"image {other.uri_by_tag}", what, hint=hint, is_fatal=False)]
    if not found.remark:
        return found.uri_by_digest, []
    hint = "run `classifold image --serve` to build and push the current source"
    return found.uri_by_digest, [
        Finding(f"image {found.uri_by_tag}", found.remark, hint=hint, is_fatal=False)
    ]


def _find_other(aws: Aws) -> PushedImage | None:
    for variant in _OTHERS:
        try:
            return find_image(aws, variant=variant)
        except MissingError:
            continue
    return None
