"""ECR's side of the registry: moto knows the repositories, the registry the images that were pushed."""

from __future__ import annotations

import datetime
import hashlib
import time
from typing import Any

from lab.registry import Registry

READS = (
    *("DescribeImages", "ListImages", "BatchGetImage", "BatchDeleteImage", "PutImage"),
    "DescribeImageScanFindings",
)


def mend_digests() -> None:
    """Moto makes a digest of the layers' or a random one; it is the manifest's own."""
    from moto.ecr.models import Image

    def create_digest(image: Any) -> None:
        image._image_digest = f"sha256:{hashlib.sha256(image.image_manifest.encode()).hexdigest()}"

    setattr(Image, "_create_digest", create_digest)  # noqa: B010


def answer_token(account: str, region: str) -> dict[str, Any]:
    """Answer GetAuthorizationToken: moto's has expired in 2015."""
    registry = Registry(account, region)
    token = {
        "authorizationToken": registry.secret,
        "expiresAt": time.time() + 12 * 3600,
        "proxyEndpoint": f"https://{registry.host}",
    }
    return {"authorizationData": [token]}


def prepare(operation: str, asked: dict[str, Any], *, account: str, region: str) -> None:
    """Let moto know what was pushed, and the registry what goes, before moto answers.

    A new repository is empty, on AWS: what an earlier one of this name left in the registry is removed.
    """
    from moto.ecr.models import ecr_backends

    name = asked.get("repositoryName", "")
    registry = Registry(account, region)
    repository = ecr_backends[account][region].repositories.get(name)
    if operation in READS:
        if repository is not None and operation == "DescribeImageScanFindings":
            _scan(repository)
        if repository is None or not registry.is_there():
            return
        _tell_moto(ecr_backends[account][region], repository, registry)
        if operation == "BatchDeleteImage":
            _delete(repository, registry, asked.get("imageIds", []))
    elif operation in ("CreateRepository", "DeleteRepository"):
        is_new, is_forced = operation == "CreateRepository", bool(asked.get("force"))
        if (repository is None) == is_new and (is_new or is_forced) and registry.is_there():
            registry.empty(name)


def _tell_moto(backend: Any, repository: Any, registry: Registry) -> None:
    known = {(tag, image.get_image_digest()) for image in repository.images for tag in image.image_tags}
    fixed = {tag for tag, _ in known} if repository.image_tag_mutability == "IMMUTABLE" else set()
    for tag in registry.list_tags(repository.name):
        manifest = registry.read_manifest(repository.name, tag)
        # ECR would have refused to move a tag that cannot be moved; the registry takes it.
        if manifest and tag not in fixed and (tag, manifest.digest) not in known:
            backend.put_image(repository.name, manifest.text, tag, manifest.media_type, manifest.digest)


def _scan(repository: Any) -> None:
    """Scan what was pushed to a repository that scans on push, which moto does not."""
    if repository.image_scanning_configuration.get("scanOnPush"):
        for image in repository.images:
            image.last_scan = image.last_scan or datetime.datetime.now()


def _delete(repository: Any, registry: Registry, image_ids: list[dict[str, str]]) -> None:
    for image in list(repository.images):
        digest = image.get_image_digest()
        if any(
            one.get("imageDigest") == digest or one.get("imageTag") in image.image_tags for one in image_ids
        ):
            registry.delete(repository.name, digest)
