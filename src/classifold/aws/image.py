"""The images: built from the current source, pushed to the project's repository, and found there.

Its tag follows from its content, so that the same content is neither built nor pushed twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.image_base import Base, list_layers, resolve_base
from classifold.aws.image_build import run_build
from classifold.aws.image_context import ImagePlan, Variant, pin_plan, plan_image
from classifold.aws.image_push import push
from classifold.aws.image_record import RECORD, read_record, record_bases, record_push
from classifold.aws.repository import (
    ImageDetail,
    ensure_repository,
    find_repository,
    find_tagged_image,
    list_images,
)
from classifold.docker.engine import run_docker
from classifold.errors import AwsError, DockerError, Fault, MissingError
from classifold.settings.config import Config

Tell = Callable[[str], None]

# SageMaker's machines with a GPU of NVIDIA's: ml.g4dn, ml.g5, ml.g6e, ml.gr6, ml.p3, ml.p5en and their like.
_GPU_MACHINE = re.compile(r"ml\.(g|gr|p)[0-9]")
_OCI_HINT = (
    "turn off the containerd image store in Docker's settings, or install buildx; remove the refused tag "
    "with: aws ecr batch-delete-image; then run: classifold image"
)


@dataclass(frozen=True)
class Image:
    """An image in the local engine.

    Attributes:
        tag: Tag, computed from the content.
        reference: Name in the local engine, `<project>:<tag>`.
        variant: "cpu", "hosts", "gpu" or "serve".
        size_bytes: Uncompressed size in bytes.
        built: False if it existed already.
    """

    tag: str
    reference: str
    variant: Variant
    size_bytes: int
    built: bool


@dataclass(frozen=True)
class PushedImage:
    """An image in the project's repository.

    Attributes:
        uri_by_tag: `<registry>/<repository>:<tag>`.
        digest: sha256:...
        uri_by_digest: `<registry>/<repository>@<digest>`, which jobs are started with.
        pushed: False if the repository had it already.
        remark: A note for the user before a job starts from it; usually empty.
    """

    uri_by_tag: str
    digest: str
    uri_by_digest: str
    pushed: bool
    remark: str = ""


def choose_variant(instance_type: str) -> Variant:
    """Return the image that suits a machine: "gpu" for those with a GPU, else "cpu"."""
    return "gpu" if _GPU_MACHINE.match(instance_type) else "cpu"


def build_image(
    config: Config,
    *,
    variant: Variant | None = None,
    model: Path | None = None,
    is_base_renewed: bool = True,
    tell: Tell,
) -> Image:
    """Build the image of the current source, unless the engine has it already. Does not need AWS.

    Args:
        config: The settings.
        variant: "cpu", "hosts", "gpu" or "serve"; None: what the settings' machines need for training.
        model: The model.onnx that the image serves; None: it serves what is mounted at /opt/ml/model.
        is_base_renewed: Whether the registry of the base image is asked if it has another one by now; else
            that is asked only where the base is not here.
        tell: Called with a line for each step that takes time.

    Raises:
        BackboneError: Weights or a backbone of the user's own are not there.
        DockerError: The engine is not there, the base image is not to be had, or the build fails.
        DiskError: The disk is full.
        SettingsError: BASE_IMAGE is set, and the Dockerfile does not start from it.
    """
    content = plan_image(config, variant=variant or _variant_of(config), model=model)
    try:
        bases = [resolve_base(name, is_renewed=is_base_renewed, tell=tell) for name in content.base_names]
    except DockerError as error:
        earlier = _find_built(content)
        if earlier is None:
            raise
        tell(f"note: {error.faults[0].where}: {error.faults[0].what}: using the image that was built before")
        return earlier
    _tell_moved(bases, tell=tell)
    plan = pin_plan(content, bases)
    size = _find_size(plan.reference)
    is_new = size is None
    if is_new:
        kind = "serving" if plan.variant == names.SERVE_VARIANT else plan.variant.upper()
        tell(f"building the {kind} image {plan.reference}; the first one takes some minutes")
        run_build(plan, tell=tell)
        size = _find_size(plan.reference)
    if size is None:
        hint = "run `docker images` and see whether Docker keeps what it builds"
        raise DockerError(
            Fault("build the image", "it was built, but the engine does not have it", hint=hint)
        )
    if is_new:
        _check_base(plan, bases)
    record_bases(bases)
    return _describe(plan, size, built=is_new)


def _find_built(content: ImagePlan) -> Image | None:
    """Return the newest image in the engine that has this content; None if no image has it."""
    words = ["image", "ls", "--format", "{{.Tag}}", content.reference.partition(":")[0]]
    listed = run_docker(words, doing="look for the image").stdout.split()
    for tag in (one for one in listed if content.is_tag_of_content(one)):
        plan = replace(content, tag=tag, reference=f"{content.reference.partition(':')[0]}:{tag}")
        size = _find_size(plan.reference)
        if size is not None:
            return _describe(plan, size, built=False)
    return None


def _tell_moved(bases: Sequence[Base], *, tell: Tell) -> None:
    before = read_record().bases
    for base in bases:
        old = before.get(base.name, base.digest)
        if old != base.digest:
            tell(
                f"the base image {base.name} has changed since the last build here, from {_shorten(old)} to "
                f"{_shorten(base.digest)}"
            )


def _shorten(digest: str) -> str:
    return digest[:19]  # "sha256:" and 12 digits, as Docker shows them


def _check_base(plan: ImagePlan, bases: Sequence[Base]) -> None:
    """Refuse an image that was not built on the base that its tag names.

    A base with a registry's digest is pinned by it. Of one that only this engine has, the name alone can be
    given to the build, which may have moved meanwhile; and a builder of its own may look it up elsewhere.
    """
    if not bases or bases[-1].is_from_registry:
        return
    below = list_layers(bases[-1].name)
    if list_layers(plan.reference)[: len(below)] == below:
        return
    run_docker(["image", "rm", plan.reference], doing="remove the image", check=False)
    what = f"the builder used another image for {bases[-1].name} than this engine has"
    hint = (
        "run the command again; if a separate buildx builder is in use, switch back with: "
        "docker buildx use default"
    )
    raise DockerError(Fault("build the image", what, hint=hint))


def _variant_of(config: Config) -> Variant:
    """Return the one image that runs on every machine the job may get."""
    machines = (config.INSTANCE_TYPE, *config.INSTANCE_PREFERENCES)
    if "gpu" in {choose_variant(one) for one in machines}:
        return "gpu"
    return "hosts" if config.INSTANCE_COUNT > 1 else "cpu"


def _describe(plan: ImagePlan, size: int, *, built: bool) -> Image:
    return Image(tag=plan.tag, reference=plan.reference, variant=plan.variant, size_bytes=size, built=built)


def _find_size(reference: str) -> int | None:
    """Return the size in bytes of an image in the engine; None if the engine does not have it."""
    words = ["image", "inspect", "--format", "{{.Size}}", reference]
    done = run_docker(words, doing="look for the image", check=False)
    return int(done.stdout) if done.returncode == 0 else None


def push_image(aws: Aws, image: Image, *, tell: Tell) -> PushedImage:
    """Push an image to the project's repository, which is made or corrected first.

    Args:
        aws: The connection to AWS.
        image: The image to push, as `build_image` returned it; it is in the local engine.
        tell: Called with a line for each thing made or done.

    Raises:
        AwsError: AWS or the registry refuses, or has something else under the tag than was pushed from here.
        DockerError: The engine refuses, the push failed again and again, or the registry holds a manifest
            that SageMaker does not take.
    """
    repository_uri = ensure_repository(aws, tell=tell)
    found = find_tagged_image(aws, image.tag)
    is_new = found is None
    if found is None:
        _check_form(image)
        tell(f"pushing {image.reference}, {image.size_bytes / 1e9:.1f} GB before it is compressed")
        push(aws, image.reference, uri=f"{repository_uri}:{image.tag}", tell=tell)
        found = find_tagged_image(aws, image.tag)
    if found is None:
        what = "it was pushed, but the registry does not have it"
        raise DockerError(Fault("push the image", what, hint="run the command again"))
    pushed = _name_pushed(repository_uri, found, pushed=is_new)
    if not is_new:
        check_digest(pushed.uri_by_tag, pushed.digest)
    record_push(pushed.uri_by_tag, pushed.digest)
    return pushed


def find_image(aws: Aws, *, variant: Variant | None = None) -> PushedImage:
    """Return the pushed image of the current source, whatever its base.

    Of several the one that was pushed from here last is taken; where none was, the newest.

    Args:
        aws: The connection to AWS.
        variant: "cpu", "hosts", "gpu" or "serve"; None: what the settings' machines need for training.

    Raises:
        MissingError: It was not pushed.
        AwsError: AWS refuses, or the repository has something else under the tag than was pushed from here.
        BackboneError: Weights or a backbone of the user's own are not there.
        DockerError: The image is not in the form that SageMaker takes.
        SettingsError: BASE_IMAGE is set, and the Dockerfile does not start from it.
    """
    plan = plan_image(aws.config, variant=variant or _variant_of(aws.config))
    repository = find_repository(aws)
    listed = list_images(aws) if repository else []
    images = [one for one in listed if plan.is_tag_of_content(one.tag)]
    if repository is None or not images:
        hint = f"classifold image{_option_of(variant)}"
        raise MissingError(
            Fault(f"image {plan.reference}", "it is not in the project's repository", hint=hint)
        )
    uri = str(repository["repositoryUri"])
    chosen, remark = _choose_pushed(plan, uri, images)
    found = _name_pushed(uri, chosen, pushed=False, remark=remark)
    check_digest(found.uri_by_tag, found.digest)
    return found


def _option_of(variant: Variant | None) -> str:
    if variant is None:
        return ""
    return " --serve" if variant == names.SERVE_VARIANT else f" --variant {variant}"


def _choose_pushed(plan: ImagePlan, uri: str, images: Sequence[ImageDetail]) -> tuple[ImageDetail, str]:
    """Return the image of a content that a job gets, and a note about it, usually empty.

    Args:
        plan: The plan of the image.
        uri: `<registry>/<repository>`.
        images: The repository's images of this content, the newest first; at least one.
    """
    there = {f"{uri}:{one.tag}": one for one in images}
    recorded = [one for one in read_record().pushed if one.rpartition(":")[0] == uri]
    known = [one for one in recorded if plan.is_tag_of_content(one.rpartition(":")[2])]
    own = [there[one] for one in known if one in there]
    chosen, newest = own[-1] if own else images[0], images[0]
    if known and not own:
        said = f"the one that was pushed from here is gone; this one was pushed on {_day(newest)}"
        return chosen, f"{said} from elsewhere"
    if newest.pushed_at > chosen.pushed_at and newest not in own:
        said = f"a newer one of the same content, {newest.tag}, was pushed on {_day(newest)} from elsewhere"
        return chosen, f"{said}; the job takes the one that was pushed from here"
    return chosen, ""


def _day(image: ImageDetail) -> str:
    return f"{image.pushed_at:%Y-%m-%d}"


def check_digest(uri_by_tag: str, digest: str) -> None:
    """Refuse an image that replaced the one that was pushed from here under the same tag.

    Raises:
        AwsError: The digest differs from the one that was recorded.
    """
    recorded = read_record().pushed.get(uri_by_tag, digest)
    if recorded == digest:
        return
    what = f"{digest} has replaced {recorded}, which was pushed from here"
    hint = (
        "CloudTrail's event PutImage says who did that; remove it with aws ecr batch-delete-image and run "
        f"`classifold image`, or accept it by deleting {names.STATE_DIR}/{RECORD}"
    )
    raise AwsError(Fault(f"image {uri_by_tag}", what, hint=hint))


def _name_pushed(repository_uri: str, found: ImageDetail, *, pushed: bool, remark: str = "") -> PushedImage:
    uri = f"{repository_uri}:{found.tag}"
    if not found.suits_sagemaker:
        raise DockerError(_refuse_form(uri, found.media_type))
    return PushedImage(
        uri_by_tag=uri,
        digest=found.digest,
        uri_by_digest=f"{repository_uri}@{found.digest}",
        pushed=pushed,
        remark=remark,
    )


def _refuse_form(where: str, media_type: str) -> Fault:
    return Fault(where, "SageMaker takes Docker's manifests only", got=media_type or "none", hint=_OCI_HINT)


def _check_form(image: Image) -> None:
    """Refuse before the push what would be an OCI manifest: a tag that was pushed once cannot be moved."""
    words = ["image", "inspect", "--format", "{{json .}}", image.reference]
    inspected = json.loads(run_docker(words, doing="look at the image").stdout)
    media_type = (inspected.get("Descriptor") or {}).get("mediaType", "")
    if ".oci." in media_type:
        raise DockerError(_refuse_form(image.reference, media_type))
