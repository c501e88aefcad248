"""The project's ECR repository: made with every safeguard on, and asked for its images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.errors import AwsError, Fault

Tell = Callable[[str], None]

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
# Training images of earlier content that stay, of each kind. Slim serving images never expire: an endpoint
# starts new machines from its image for as long as it exists.
KEPT_IMAGES = 20
# Longer than a job can be under way: SageMaker's own limit is 28 days, waiting for spot machines included.
KEPT_UNTAGGED_DAYS = 30
_OURS = "classifold: "


@dataclass(frozen=True)
class ImageDetail:
    """What ECR says of an image, under one of its tags.

    Attributes:
        tag: The tag; empty for an untagged image that was looked for by its digest.
        digest: sha256:...
        media_type: Media type of the manifest, in Docker's or OCI's format; empty where ECR does not say it.
        pushed_at: Time of the push.
    """

    tag: str
    digest: str
    media_type: str
    pushed_at: datetime

    @property
    def suits_sagemaker(self) -> bool:
        """Whether it is one Docker manifest: SageMaker takes neither OCI's nor lists of them."""
        return self.media_type == DOCKER_MANIFEST


def _expire(priority: int, variant: str) -> dict[str, Any]:
    """Return the rule for a variant's images, known by how their tags begin; others stay."""
    return {
        "rulePriority": priority,
        "description": f"{_OURS}all but the newest {KEPT_IMAGES} {variant} images",
        "selection": {
            "tagStatus": "tagged",
            "tagPrefixList": [f"{variant}-"],
            "countType": "imageCountMoreThan",
            "countNumber": KEPT_IMAGES,
        },
        "action": {"type": "expire"},
    }


# No tag says whose an untagged image is; none is removed that was there before the rule.
_EXPIRE_UNTAGGED = {
    "rulePriority": len(names.TRAINING_VARIANTS) + 1,
    "description": f"{_OURS}untagged images, {KEPT_UNTAGGED_DAYS} days after their push",
    "selection": {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": KEPT_UNTAGGED_DAYS,
    },
    "action": {"type": "expire"},
}
_EXPIRE_TAGGED = [_expire(priority, variant) for priority, variant in enumerate(names.TRAINING_VARIANTS, 1)]
LIFECYCLE: dict[str, list[dict[str, Any]]] = {"rules": [*_EXPIRE_TAGGED, _EXPIRE_UNTAGGED]}


def find_repository(aws: Aws) -> dict[str, Any] | None:
    """Return ECR's description of the project's repository; None if it does not exist.

    Raises:
        AwsError: AWS refuses.
    """
    name = names.repository(aws.config.PROJECT_NAME)
    with aws_errors(f"look for the repository {name}"):
        try:
            answer = aws.client("ecr").describe_repositories(registryId=aws.account, repositoryNames=[name])
        except aws.client("ecr").exceptions.RepositoryNotFoundException:
            return None
    return dict(answer["repositories"][0])


def list_images(aws: Aws) -> list[ImageDetail]:
    """Return the tagged images of the project's repository, the newest first; one entry for each tag.

    Raises:
        AwsError: AWS refuses, or there is no repository.
    """
    name = names.repository(aws.config.PROJECT_NAME)
    return sorted(
        (
            _read_detail(one, tag)
            for one in _describe_images(aws, name, "TAGGED")
            for tag in one.get("imageTags", [])
        ),
        key=lambda one: one.pushed_at,
        reverse=True,
    )


def find_tagged_image(aws: Aws, tag: str) -> ImageDetail | None:
    """Return the image with this tag in the project's repository, or None.

    Raises:
        AwsError: AWS refuses.
    """
    name = names.repository(aws.config.PROJECT_NAME)
    with aws_errors(f"look for the image {name}:{tag}"):
        return describe_image(aws, account=aws.account, repository=name, image_id={"imageTag": tag})


def describe_image(
    aws: Aws, *, account: str, repository: str, image_id: Mapping[str, str]
) -> ImageDetail | None:
    """Return what ECR says of one image; None where there is no such image or no such repository.

    Args:
        aws: The way to AWS.
        account: Whose repository it is.
        repository: Its name.
        image_id: The image's `imageTag` or `imageDigest`.

    Raises:
        ClientError: AWS refuses, in its own words.
    """
    ecr = aws.client("ecr")
    try:
        answer = ecr.describe_images(registryId=account, repositoryName=repository, imageIds=[dict(image_id)])
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        return None
    detail = answer["imageDetails"][0]
    return _read_detail(detail, image_id.get("imageTag") or (detail.get("imageTags") or [""])[0])


def _read_detail(found: Mapping[str, Any], tag: str) -> ImageDetail:
    return ImageDetail(
        tag, str(found["imageDigest"]), str(found.get("imageManifestMediaType", "")), found["imagePushedAt"]
    )


def _describe_images(aws: Aws, name: str, status: Literal["TAGGED", "UNTAGGED"]) -> list[dict[str, Any]]:
    with aws_errors(f"list the images of the repository {name}"):
        pages = aws.client("ecr").get_paginator("describe_images")
        found = pages.paginate(registryId=aws.account, repositoryName=name, filter={"tagStatus": status})
        return [one for page in found for one in page["imageDetails"]]


def ensure_repository(aws: Aws, *, tell: Tell) -> str:
    """Make the project's repository, or correct what differs from its safeguards; return its URI.

    Tags of images cannot be moved, images are scanned when they are pushed and encrypted, ours expire but for
    the newest, and untagged ones after a time. A lifecycle policy with a rule of the user's stays as it is.

    Args:
        aws: The connection to AWS.
        tell: Called with a line for each thing that was made or changed.

    Returns:
        `<registry>/<repository>`.

    Raises:
        AwsError: AWS refuses, or it belongs to another project.
    """
    found = find_repository(aws)
    if found is None:
        found = _create(aws)
        tell(f"made the repository {found['repositoryName']}")
        _put_lifecycle(aws, found["repositoryName"], LIFECYCLE["rules"])
        return str(found["repositoryUri"])
    there = _read_tags(aws, found)
    _refuse_others(aws, found, there)
    changed = [
        said
        for said in (
            _fix_mutability(aws, found),
            _fix_scanning(aws, found),
            _fix_lifecycle(aws, found, tell=tell),
            _fix_tags(aws, found, there),
        )
        if said
    ]
    name = found["repositoryName"]
    tell(f"repository {name}: {', '.join(changed)}" if changed else f"repository {name} is as it should be")
    _note_encryption(aws, found, tell=tell)
    return str(found["repositoryUri"])


def _create(aws: Aws) -> dict[str, Any]:
    name = names.repository(aws.config.PROJECT_NAME)
    with aws_errors(f"make the repository {name}"):
        answer = aws.client("ecr").create_repository(
            registryId=aws.account,
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration=_encryption(aws),
            tags=_format_tags(aws.tags),
        )
    return dict(answer["repository"])


def _encryption(aws: Aws) -> dict[str, str]:
    if not aws.config.KMS_KEY:
        return {"encryptionType": "AES256"}
    return {"encryptionType": "KMS", "kmsKey": aws.kms_key}


def _format_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _fix_mutability(aws: Aws, found: Mapping[str, Any]) -> str:
    if found.get("imageTagMutability") == "IMMUTABLE":
        return ""
    name = found["repositoryName"]
    with aws_errors(f"make the tags of the repository {name} immutable"):
        aws.client("ecr").put_image_tag_mutability(
            registryId=aws.account, repositoryName=name, imageTagMutability="IMMUTABLE"
        )
    return "made its tags immutable"


def _fix_scanning(aws: Aws, found: Mapping[str, Any]) -> str:
    if found.get("imageScanningConfiguration", {}).get("scanOnPush"):
        return ""
    name = found["repositoryName"]
    with aws_errors(f"turn on the scanning of images in the repository {name}"):
        aws.client("ecr").put_image_scanning_configuration(
            registryId=aws.account,
            repositoryName=name,
            imageScanningConfiguration={"scanOnPush": True},
        )
    return "turned on scanning"


def _fix_lifecycle(aws: Aws, found: Mapping[str, Any], *, tell: Tell) -> str:
    name = found["repositoryName"]
    with aws_errors(f"read the lifecycle policy of the repository {name}"):
        try:
            answer = aws.client("ecr").get_lifecycle_policy(registryId=aws.account, repositoryName=name)
        except aws.client("ecr").exceptions.LifecyclePolicyNotFoundException:
            answer = {"lifecyclePolicyText": "{}"}
    rules = json.loads(answer["lifecyclePolicyText"]).get("rules", [])
    is_own = any(not rule.get("description", "").startswith(_OURS) for rule in rules)
    if is_own or rules == LIFECYCLE["rules"]:
        return ""
    wanted = LIFECYCLE["rules"]
    if untagged := _describe_images(aws, name, "UNTAGGED"):
        tell(
            f"note: untagged images in the repository {name}: {len(untagged)}. They stay, and while they are "
            "there untagged images do not expire; remove them with: aws ecr batch-delete-image"
        )
        wanted = _EXPIRE_TAGGED
    if rules == wanted:
        return ""
    _put_lifecycle(aws, name, wanted)
    return f"set it to keep the newest {KEPT_IMAGES} training images of each kind"


def _put_lifecycle(aws: Aws, name: str, rules: Sequence[Mapping[str, Any]]) -> None:
    with aws_errors(f"set the lifecycle policy of the repository {name}"):
        aws.client("ecr").put_lifecycle_policy(
            registryId=aws.account, repositoryName=name, lifecyclePolicyText=json.dumps({"rules": rules})
        )


def _read_tags(aws: Aws, found: Mapping[str, Any]) -> dict[str, str]:
    with aws_errors(f"read the tags of the repository {found['repositoryName']}"):
        answer = aws.client("ecr").list_tags_for_resource(resourceArn=found["repositoryArn"])
    return {tag["Key"]: tag["Value"] for tag in answer["tags"]}


def _refuse_others(aws: Aws, found: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Refuse a repository that bears another project's tag, and one with images that bears none.

    An empty one without the tag passes: an interrupted run may have made it.
    """
    project, name = tags.get(names.PROJECT_TAG), found["repositoryName"]
    if project == aws.config.PROJECT_NAME:
        return
    if project is not None:
        what = f"it is there already, and project {project} made it"
        raise AwsError(Fault(f"repository {name}", what, hint="choose another PROJECT_NAME"))
    with aws_errors(f"look whether the repository {name} is empty"):
        images = aws.client("ecr").list_images(registryId=aws.account, repositoryName=name, maxResults=1)
    if images.get("imageIds"):
        what = "it is there already, holds images, and has no project tag"
        tag = f"{names.PROJECT_TAG}={aws.config.PROJECT_NAME}"
        hint = f"choose another PROJECT_NAME, or give it the tag {tag} if it is this project's"
        raise AwsError(Fault(f"repository {name}", what, hint=hint))


def _fix_tags(aws: Aws, found: Mapping[str, Any], there: Mapping[str, str]) -> str:
    """Add the tags that are missing or different; others stay."""
    wanted = {key: value for key, value in aws.tags.items() if there.get(key) != value}
    if not wanted:
        return ""
    with aws_errors(f"tag the repository {found['repositoryName']}"):
        aws.client("ecr").tag_resource(resourceArn=found["repositoryArn"], tags=_format_tags(wanted))
    return f"set the tags {', '.join(wanted)}"


def _note_encryption(aws: Aws, found: Mapping[str, Any], *, tell: Tell) -> None:
    """Say where the key is another than KMS_KEY: ECR fixes it when a repository is made."""
    wanted = _encryption(aws)
    has = found.get("encryptionConfiguration") or {"encryptionType": "AES256"}
    if has.get("encryptionType") != wanted["encryptionType"] or has.get("kmsKey") != wanted.get("kmsKey"):
        key = has.get("kmsKey", "AWS's own key")
        tell(
            f"note: repository {found['repositoryName']} is encrypted with {key}, and ECR cannot change that"
        )
