"""The training image: built from what is here now, pushed to the project's repository, found there again.

Its tag follows from its content, so that the same content is neither built nor pushed twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.image_build import run_build
from classifold.aws.image_context import ImagePlan, Variant, plan_image
from classifold.aws.registry import Manifest, find_manifest, push
from classifold.aws.repository import ensure_repository, find_repository
from classifold.config import Config
from classifold.docker import run_docker
from classifold.errors import DockerError, Fault, MissingError, disk_errors
from classifold.files import write_whole

Tell = Callable[[str], None]

RECORD = "image.json"
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
        tag: Follows from the content.
        reference: The image's name here: `<project>:<tag>`.
        variant: "cpu", "hosts" or "gpu".
        size_bytes: On the disk, not compressed.
        built: False where it was there already.
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
        pushed: False where it was there already.
    """

    uri_by_tag: str
    digest: str
    uri_by_digest: str
    pushed: bool


def choose_variant(instance_type: str) -> Variant:
    """Return the image that suits a machine: "gpu" for those with a GPU, else "cpu"."""
    return "gpu" if _GPU_MACHINE.match(instance_type) else "cpu"


def build_image(config: Config, *, variant: Variant | None = None, tell: Tell) -> Image:
    """Build the image of what is here now, unless the engine has it already. Asks nothing of AWS.

    Args:
        config: The settings.
        variant: "cpu", "hosts" or "gpu"; None: what the settings' machines need.
        tell: Told a line for each step that takes time.

    Raises:
        BackboneError: Weights or a backbone of the user's own are not there.
        DockerError: The engine is not there, or the build fails.
        DiskError: The disk is full.
    """
    plan = plan_image(config, variant=variant or _variant_of(config))
    size = _find_size(plan.reference)
    if size is not None:
        return _describe(plan, size, built=False)
    tell(f"building the {plan.variant.upper()} image {plan.reference}; the first one takes some minutes")
    run_build(plan, tell=tell)
    size = _find_size(plan.reference)
    if size is None:
        hint = "run `docker images` and see whether Docker keeps what it builds"
        raise DockerError(
            Fault("build the image", "it was built, but the engine does not have it", hint=hint)
        )
    return _describe(plan, size, built=True)


def _variant_of(config: Config) -> Variant:
    """Return the one image that runs on every machine the job may get."""
    machines = (config.INSTANCE_TYPE, *config.INSTANCE_PREFERENCES)
    if "gpu" in {choose_variant(one) for one in machines}:
        return "gpu"
    return "hosts" if config.INSTANCE_COUNT > 1 else "cpu"


def _describe(plan: ImagePlan, size: int, *, built: bool) -> Image:
    return Image(tag=plan.tag, reference=plan.reference, variant=plan.variant, size_bytes=size, built=built)


def _find_size(reference: str) -> int | None:
    """Return the size in bytes of an image in the engine, and None where it is not there."""
    words = ["image", "inspect", "--format", "{{.Size}}", reference]
    done = run_docker(words, doing="look for the image", check=False)
    return int(done.stdout) if done.returncode == 0 else None


def push_image(aws: Aws, image: Image, *, tell: Tell) -> PushedImage:
    """Push an image to the project's repository, which is made or put right first.

    Args:
        aws: The way to AWS.
        image: In the local engine.
        tell: Told a line for each thing made or done.

    Raises:
        AwsError: AWS or the registry refuses.
        DockerError: The engine refuses, the push broke off again and again, or the registry holds a manifest
            that SageMaker does not take.
    """
    repository_uri = ensure_repository(aws, tell=tell)
    found = find_manifest(aws, repository_uri, image.tag)
    is_new = found is None
    if found is None:
        _check_form(image)
        tell(f"pushing {image.reference}, {image.size_bytes / 1e9:.1f} GB before it is compressed")
        push(aws, image.reference, uri=f"{repository_uri}:{image.tag}", tell=tell)
        found = find_manifest(aws, repository_uri, image.tag)
    if found is None:
        what = "it was pushed, but the registry does not have it"
        raise DockerError(Fault("push the image", what, hint="run the command again"))
    pushed = _name_pushed(repository_uri, image.tag, found, pushed=is_new)
    _write_record(pushed)
    return pushed


def find_image(aws: Aws, *, variant: Variant | None = None) -> PushedImage:
    """Return the pushed image of the content that is here now.

    Args:
        aws: The way in.
        variant: "cpu", "hosts" or "gpu"; None: what the settings' machines need.

    Raises:
        MissingError: It was not pushed.
        AwsError: AWS or the registry refuses.
        BackboneError: Weights or a backbone of the user's own are not there.
    """
    plan = plan_image(aws.config, variant=variant or _variant_of(aws.config))
    repository = find_repository(aws)
    found = find_manifest(aws, repository["repositoryUri"], plan.tag) if repository else None
    if repository is None or found is None:
        hint = f"classifold image --variant {variant}" if variant else "classifold image"
        raise MissingError(
            Fault(f"image {plan.reference}", "it is not in the project's repository", hint=hint)
        )
    return _name_pushed(repository["repositoryUri"], plan.tag, found, pushed=False)


def _name_pushed(repository_uri: str, tag: str, found: Manifest, *, pushed: bool) -> PushedImage:
    uri = f"{repository_uri}:{tag}"
    if not found.suits_sagemaker:
        raise DockerError(_refuse_form(uri, found.media_type))
    return PushedImage(
        uri_by_tag=uri,
        digest=found.digest,
        uri_by_digest=f"{repository_uri}@{found.digest}",
        pushed=pushed,
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


def _write_record(pushed: PushedImage) -> None:
    """Write down the digest, beside what else commands remember."""
    folder = Path(names.STATE_DIR)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    with write_whole(folder / RECORD) as path:
        path.write_text(json.dumps(asdict(pushed), indent=2) + "\n", encoding="utf-8")
