"""The way to AWS: one session with its region and account, and what AWS refuses said in our words."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config as ClientConfig

import classifold
from classifold import names
from classifold.config import Config
from classifold.errors import AwsError, Fault, MissingError

_MISSING = re.compile(r"NoSuch|NotFound|ResourceNotFound|NoSuchEntity|404|RecordNotFound")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "AllAccessDisabled")
_THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "SlowDown",
    "RequestLimitExceeded",
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_INVALID = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "InvalidToken",
)
_LOGIN_HINT = "sign in again, for instance with: aws sso login; then run the command again"
_KEYS_HINT = "run `aws configure`, or set AWS_PROFILE to a profile that has credentials"
_NETWORK_HINT = (
    "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL, then run the command again: it goes on from there"
)


class Aws:
    """A user's way into one AWS account, in the project's region.

    Credentials, profiles, SSO, proxies and AWS_ENDPOINT_URL are boto3's own; the region is the settings'.

    Args:
        config: The settings.

    Attributes:
        config: The settings.
        region: PROJECT_REGION.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.region = config.PROJECT_REGION
        with aws_errors("sign in"):
            self.session = boto3.session.Session(region_name=self.region)
        self._clients: dict[tuple[str, int], Any] = {}

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """Who is asking: `Account`, `Arn` and `UserId`; asked for once.

        Raises:
            AwsError: Without credentials, or with ones that AWS refuses.
        """
        with aws_errors("find out whose account this is"):
            return dict(self.client("sts").get_caller_identity())

    @property
    def account(self) -> str:
        """The number of the account, 12 digits."""
        return self.identity["Account"]

    @property
    def partition(self) -> str:
        """The first word of every ARN: aws, aws-cn or aws-us-gov."""
        return str(self.session.get_partition_for_region(self.region))

    def client(self, service: str, *, connections: int = 10) -> Any:
        """Return boto3's client of a service, in the project's region, with patient retries.

        S3's sends the expected owner with every request: a bucket of somebody else's is refused.

        Args:
            service: Boto3's name of it.
            connections: How many requests may be under way at once.
        """
        key = service, connections
        if key not in self._clients:
            self._clients[key] = self._make_client(service, connections)
        return self._clients[key]

    def _make_client(self, service: str, connections: int) -> Any:
        settings = ClientConfig(
            region_name=self.region,
            retries={"mode": "standard", "max_attempts": 8},
            max_pool_connections=connections,
            user_agent_extra=f"classifold/{classifold.__version__}",
            connect_timeout=20,
        )
        with aws_errors(f"reach {service}"):
            client = self.session.client(service, config=settings)
        if service == "s3":
            account = self.account
            client.meta.events.register(
                "provide-client-params.s3",
                lambda params, model, **_: _expect_owner(params, model, account),
            )
        return client

    # Where this project's things are

    @property
    def data_bucket(self) -> str:
        """The bucket of the pictures."""
        return self.config.DATA_BUCKET or self._bucket(names.data_bucket(self.config.PROJECT_NAME))

    @property
    def output_bucket(self) -> str:
        """The bucket of the results."""
        return self.config.OUTPUT_BUCKET or self._bucket(names.output_bucket(self.config.PROJECT_NAME))

    def _bucket(self, name: str) -> str:
        if self.config.BUCKET_NAMESPACE == "global":
            return name
        return names.regional_bucket(name, account=self.account, region=self.region)

    @property
    def tags(self) -> dict[str, str]:
        """The user's tags, and the one that says which project a thing belongs to."""
        return {**self.config.TAGS, names.PROJECT_TAG: self.config.PROJECT_NAME}


def _expect_owner(params: dict[str, Any], model: Any, account: str) -> dict[str, Any]:
    members = model.input_shape.members if model.input_shape else {}
    owner = {
        name: account for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner") if name in members
    }
    if "CopySource" not in params:
        owner.pop("ExpectedSourceBucketOwner", None)
    return {**owner, **params}


def error_code(error: Exception) -> str:
    """Return AWS's own word for a refusal, such as AccessDenied; empty for anything else."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_missing(error: Exception) -> bool:
    """Tell whether AWS says that what was asked for is not there."""
    return bool(_MISSING.search(error_code(error)))


@contextlib.contextmanager
def aws_errors(doing: str, *, hint: str = "") -> Iterator[None]:
    """Turn what boto3 raises into an AwsError that says what was being done, and the cure.

    Args:
        doing: What was being done, as in "make the bucket flowers.data".
        hint: The cure, where the caller knows better than the general one.

    Raises:
        MissingError: What was asked for is not there.
        AwsError: Any other refusal of AWS's, of the credentials or of the network.
    """
    try:
        yield
    except exceptions.ClientError as error:
        raise explain_refusal(error, doing, hint=hint) from error
    except exceptions.BotoCoreError as error:
        raise AwsError(_explain_local(error, doing, hint)) from error


def explain_refusal(error: exceptions.ClientError, doing: str, *, hint: str = "") -> AwsError:
    """Return AWS's refusal in our words; for a missing right, with the name of the right."""
    code, message = error_code(error), str(error.response.get("Error", {}).get("Message", "")).strip()
    what = f"AWS refused ({code}): {message or error.operation_name}"
    if code in _DENIED:
        right = find_right(error)
        cure = f"ask whoever manages the account for the right {right}; docs/aws.md has the whole policy"
        return AwsError(Fault(doing, f"the right {right} is missing ({code}: {message})", hint=hint or cure))
    if code in _EXPIRED:
        return AwsError(Fault(doing, "the credentials have expired", hint=_LOGIN_HINT))
    if code in _INVALID:
        return AwsError(Fault(doing, f"AWS does not take these credentials ({code})", hint=_KEYS_HINT))
    if code in _THROTTLED:
        cure = "too many requests from this account at once: run the command again in a minute"
        return AwsError(Fault(doing, what, hint=hint or cure))
    kind = MissingError if _MISSING.search(code) else AwsError
    return kind(Fault(doing, what, hint=hint))


def find_right(error: exceptions.ClientError) -> str:
    """Return the right whose want AWS names, else that of the operation: `s3:PutBucketPolicy`."""
    message = str(error.response.get("Error", {}).get("Message", ""))
    named = re.search(r"perform:? ([a-z0-9-]+:[A-Za-z]+)", message)
    if named:
        return named.group(1)
    # Operations whose right has another name.
    other = {
        "HeadBucket": "s3:ListBucket",
        "ListObjectsV2": "s3:ListBucket",
        "HeadObject": "s3:GetObject",
        "CreateMultipartUpload": "s3:PutObject",
        "UploadPart": "s3:PutObject",
        "CompleteMultipartUpload": "s3:PutObject",
        "DeleteObjects": "s3:DeleteObject",
        "ListObjectVersions": "s3:ListBucketVersions",
        "PutBucketEncryption": "s3:PutEncryptionConfiguration",
        "GetBucketEncryption": "s3:GetEncryptionConfiguration",
        "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
        "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
        "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
        "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    }
    if error.operation_name in other:
        return other[error.operation_name]
    return f"{_find_service(error)}:{error.operation_name}"


def _find_service(error: exceptions.ClientError) -> str:
    """Return the service's name as rights have it, from the operation's own model."""
    by_prefix = {
        "iam": ("Role", "Policy", "SimulatePrincipal"),
        "ecr": ("Repositor", "Image", "AuthorizationToken", "LifecyclePolicy"),
        "sagemaker": ("TrainingJob", "Search", "AddTags", "ListTags"),
        "logs": ("Log",),
        "sts": ("CallerIdentity", "AssumeRole"),
        "servicequotas": ("ServiceQuota",),
        "pricing": ("Products",),
    }
    name = error.operation_name
    if "Bucket" in name or "Object" in name:
        return "s3"
    found = [service for service, words in by_prefix.items() if any(word in name for word in words)]
    return found[0] if found else "s3"


def _explain_local(error: exceptions.BotoCoreError, doing: str, hint: str) -> Fault:
    """Return what stopped a request before AWS could answer it: credentials, profile, network, parameters."""
    said = " ".join(str(error).split())
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return Fault(doing, "there are no AWS credentials", hint=_KEYS_HINT)
    if isinstance(error, exceptions.ProfileNotFound):
        return Fault(
            doing, said, hint="`aws configure list-profiles` lists those that there are; set AWS_PROFILE"
        )
    if isinstance(
        error,
        exceptions.TokenRetrievalError
        | exceptions.SSOTokenLoadError
        | exceptions.UnauthorizedSSOTokenError
        | exceptions.CredentialRetrievalError,
    ):
        return Fault(doing, f"the credentials have expired or cannot be had: {said}", hint=_LOGIN_HINT)
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return Fault(doing, f"no way to AWS: {said}", hint=hint or _NETWORK_HINT)
    return Fault(doing, said, hint=hint)
