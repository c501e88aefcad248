"""The role, image, buckets and key that a request names; missing ones get the names they would have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.preflight_findings import Finding, explain_blind
from classifold.aws.roles import find_role
from classifold.errors import AwsError, ClassifoldError
from classifold.settings.config import Config

# The account's number in made-up names where the account is not known.
NO_ACCOUNT = "000000000000"
FindImage = Callable[[], tuple[str, list[Finding]]]


@dataclass
class Places:
    """The AWS resources that a request names; a missing one with the name that it would have.

    Attributes:
        config: The settings, with KMS_KEY as the key's ARN.
        role_arn: The role that the job runs under.
        image_uri: The training image, by its digest.
        data_bucket: The bucket of the pictures.
        output_bucket: The bucket of the results.
        findings: What is missing, and remarks on the image.
        made_up: Those of `role_arn` and `image_uri` that do not exist yet.
        is_account_known: False without credentials; then all names are made up.
    """

    config: Config
    role_arn: str
    image_uri: str
    data_bucket: str
    output_bucket: str
    findings: list[Finding] = field(default_factory=list)
    made_up: tuple[str, ...] = ()
    is_account_known: bool = True


def find_places(aws: Aws, *, is_dry_run: bool, find_image: FindImage) -> Places:
    """Return role, image, buckets and key; what is missing gets a made-up name and a finding.

    Args:
        aws: The connection to AWS.
        is_dry_run: Whether nothing will be started: then it works without credentials too.
        find_image: Returns the address of the image, by its digest, and remarks on it.

    Raises:
        AwsError: There is no connection to AWS, and this is not a dry run.
    """
    config = aws.config
    try:
        account = aws.account
    except AwsError as error:
        if not is_dry_run:
            raise
        # Nothing starts without an account, whatever kept it from being found.
        return _make_up_places(aws, [replace(one, is_fatal=True) for one in explain_blind(error)])
    findings: list[Finding] = []
    # A key that does not exist is kept as the settings have it.
    kms_key = find_or_note(lambda: aws.kms_key, findings) or config.KMS_KEY
    role = find_or_note(lambda: find_role(aws), findings)
    image = find_or_note(lambda: _find_image(find_image, findings), findings)
    made_up = _make_up_names(aws, account)
    return Places(
        config=config.model_copy(update={"KMS_KEY": kms_key}),
        role_arn=role or made_up[0],
        image_uri=image or made_up[1],
        data_bucket=aws.data_bucket,
        output_bucket=aws.output_bucket,
        findings=findings,
        made_up=tuple(name for name, found in zip(made_up, (role, image), strict=True) if not found),
    )


def find_or_note(find: Callable[[], str], findings: list[Finding]) -> str:
    """Return what `find` returns; if it fails, an empty text, and the reason is added to the findings."""
    try:
        return find()
    except ClassifoldError as error:
        # Fatal, also if only a permission to look is missing: a request cannot be made without it.
        findings += [Finding(fault.where, fault.what, hint=fault.hint) for fault in error.faults]
        return ""


def _find_image(find_image: FindImage, findings: list[Finding]) -> str:
    uri, remarks = find_image()
    findings += remarks
    return uri


def _make_up_places(aws: Aws, findings: list[Finding]) -> Places:
    """Return the names that the resources would have in an account that is not known."""
    role_and_image, buckets = _make_up_names(aws, NO_ACCOUNT), aws.list_bucket_names(NO_ACCOUNT)
    return Places(
        aws.config,
        *role_and_image,
        data_bucket=buckets[0],
        output_bucket=buckets[1],
        findings=findings,
        is_account_known=False,
    )


def _make_up_names(aws: Aws, account: str) -> tuple[str, str]:
    role = aws.config.ROLE or names.role(aws.config.PROJECT_NAME)
    arn = role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
    repository = names.repository(aws.config.PROJECT_NAME)
    return arn, f"{account}.dkr.ecr.{aws.region}.amazonaws.com/{repository}:not-pushed-yet"
