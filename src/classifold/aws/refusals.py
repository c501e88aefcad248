"""Explaining AWS's refusals: the missing permission, the wrong region, bad credentials, and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from botocore import exceptions

from classifold.aws.no_answer import LOGIN_HINT, NEIGHBOURS, NETWORK_HINT, PASSING, explain_no_answer
from classifold.errors import AwsError, Fault, MissingError, name_failure

_MISSING = re.compile(
    r"NoSuch|NotFound|^404$|Requested resource not found|Could not find |does not exist|No scalable target"
)
_DENIED = re.compile(r"AccessDenied|^403$|^Forbidden$|Unauthorized|AllAccessDisabled|NotAuthorized")
_ELSEWHERE = (
    "301",
    "307",
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
_THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "SlowDown",
    "503",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "ExpiredTokenError")
_CLOCK = ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture")
# Other services report a wrong clock in the message, under the code of a wrong key.
_CLOCK_MESSAGE = re.compile(r"^Signature (expired|not yet current)")
_INVALID = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "AuthFailure",
    "InvalidToken",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
)
_INVALID_HINT = (
    "check the keys with `aws sts get-caller-identity`; a region that the account has to switch on first "
    "refuses good keys too"
)
_BUSY_HINT = "AWS is throttling requests or has an internal error: run the command again in a minute"
_GATEWAY_HINT = (
    "run the command again in a minute; if it stays so, check HTTPS_PROXY and AWS_ENDPOINT_URL, and AWS's "
    "own page: https://health.aws.amazon.com/health/status"
)
# Permissions that daily use does not need once a project is set up.
_SETUP_RIGHT = re.compile(
    r"s3:(Create|Delete)Bucket$|s3:Put(Bucket|Encryption|Lifecycle)|iam:(Create|Put|Delete|Detach|Tag|Update)"
    r"|ecr:(Create|Delete|Tag|PutImageScanning|PutImageTag|PutLifecycle)"
)
# Services whose name in permissions differs from the name that signs their requests.
_RIGHTS_OF = {"monitoring": "cloudwatch", "tagging": "tag"}
# Operations of S3 whose permission has another name.
_S3_RIGHTS = {
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
}


def note_origin(client: Any) -> None:
    """Add service and region to every answer of a client: botocore's errors lack them."""
    region = client.meta.region_name

    def note(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        origin = {"Service": model.service_model.signing_name, "Region": region}
        parsed.setdefault("ResponseMetadata", {}).update(origin)

    client.meta.events.register("after-call", note)


def error_code(error: Exception) -> str:
    """Return AWS's error code, such as AccessDenied; empty for any other exception."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_missing(error: Exception) -> bool:
    """Tell whether AWS says that the requested resource does not exist."""
    # SageMaker's code is always ValidationException; only its message says so.
    return bool(_MISSING.search(error_code(error)) or _MISSING.search(_message_of(error)))


@contextlib.contextmanager
def missing_is_fine() -> Iterator[None]:
    """Ignore that a resource is missing: an earlier run, or somebody else, has removed it."""
    try:
        yield
    except exceptions.ClientError as error:
        if not is_missing(error):
            raise


def is_denied(error: Exception) -> bool:
    """Tell whether a permission is missing."""
    return bool(_DENIED.search(error_code(error)))


def is_expired(error: BaseException | None) -> bool:
    """Tell whether the credentials were valid and have expired: signing in again is enough."""
    is_local = isinstance(error, exceptions.TokenRetrievalError | exceptions.UnauthorizedSSOTokenError)
    return is_local or (isinstance(error, Exception) and error_code(error) in _EXPIRED)


def is_passing(error: BaseException | None) -> bool:
    """Tell whether a retry later may succeed: too many requests, a fault of AWS's, the network."""
    if isinstance(error, PASSING):
        return True
    if not isinstance(error, exceptions.ClientError):
        return False
    return error_code(error) in _THROTTLED or _status_of(error) >= 500


def _status_of(error: exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _message_of(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Message", "")).strip()


@contextlib.contextmanager
def aws_errors(doing: str, *, hint: str = "") -> Iterator[None]:
    """Turn what boto3 raises into an AwsError that says what was being done, and what to do now.

    Args:
        doing: What was being done, as in "make the bucket flowers.data".
        hint: Hint for the user in place of the general one; empty to use the general one.

    Raises:
        MissingError: The requested resource does not exist.
        AwsError: AWS refuses for another reason, the credentials are not valid, or AWS cannot be reached.
    """
    try:
        yield
    except exceptions.ClientError as error:
        # For a missing permission the general hint is the better one: it names the permission.
        raise explain_refusal(error, doing, hint="" if is_denied(error) else hint) from error
    except exceptions.BotoCoreError as error:
        raise AwsError(explain_no_answer(error, doing, hint)) from error
    except NEIGHBOURS as error:
        # boto3's managed transfers wrap S3's error.
        cause = error.__cause__ or error.__context__
        if isinstance(cause, exceptions.ClientError):
            raise explain_refusal(cause, doing, hint="" if is_denied(cause) else hint) from cause
        if isinstance(cause, exceptions.BotoCoreError):
            raise AwsError(explain_no_answer(cause, doing, hint)) from cause
        raise AwsError(
            Fault(name_failure(doing), " ".join(str(error).split()), hint=hint or NETWORK_HINT)
        ) from error


def explain_refusal(error: exceptions.ClientError, doing: str, *, hint: str = "") -> AwsError:
    """Return AWS's refusal as an error with a hint; if a permission is missing, with its name."""
    code, message, where = error_code(error), _message_of(error), name_failure(doing)
    if code in _EXPIRED:
        return AwsError(Fault(where, "the credentials have expired", hint=LOGIN_HINT))
    if code in _CLOCK or _CLOCK_MESSAGE.match(message):
        return AwsError(Fault(where, f"this machine's clock is wrong ({code})", hint="set the clock"))
    if code in _INVALID:
        return AwsError(Fault(where, f"AWS does not take these credentials ({code})", hint=_INVALID_HINT))
    if code in _ELSEWHERE:
        return AwsError(_explain_elsewhere(error, where))
    if is_denied(error):
        return AwsError(_explain_denied(error, where, hint))
    if code.isdigit() and code.startswith("5"):
        what = f"AWS, or a gateway or proxy before it, answered HTTP {code}: {message or 'nothing more'}"
        return AwsError(Fault(where, what, hint=hint or _GATEWAY_HINT))
    what = f"AWS refused ({code}): {message or error.operation_name}"
    if is_passing(error):
        return AwsError(Fault(where, what, hint=hint or _BUSY_HINT))
    kind = MissingError if is_missing(error) else AwsError
    return kind(Fault(where, what, hint=hint))


def _explain_denied(error: exceptions.ClientError, where: str, hint: str) -> Fault:
    """Return the fault for a missing permission; S3 refuses another account's bucket with the same answer."""
    right, message = find_right(error), _message_of(error)
    says = f"{error_code(error)}: {message}" if message else error_code(error)
    is_plain = right.startswith("s3:") and "perform" not in message
    what = f"the permission {right} is missing" + (
        ", or the bucket is not this account's" if is_plain else ""
    )
    cure = f"ask whoever manages the account for the permission {right}; docs/aws.md has the whole policy"
    if _SETUP_RIGHT.match(right):
        cure = (
            f"ask whoever manages the account to run `classifold setup`, which needs the permission {right}; "
            "docs/aws.md has the policies, one to set up and one for daily use"
        )
    if "explicit deny" in message:
        cure = f"a policy of the account's denies {right} to everybody: ask whoever manages the account"
    return Fault(where, f"{what} ({says})", hint=hint or cure)


def _explain_elsewhere(error: exceptions.ClientError, where: str) -> Fault:
    """Return the fault for a bucket that is not in the project's region, with its region if S3 names it."""
    metadata = error.response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    there = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    here = metadata.get("Region", "")
    if there and there != here:
        return describe_other_region(where, there=there, here=here)
    what = f"the bucket is in another region than {here} ({error_code(error)}: {_message_of(error)})"
    return Fault(where, what, hint="set PROJECT_REGION to the bucket's region, or name another bucket")


def describe_other_region(where: str, *, there: str, here: str) -> Fault:
    """Return the fault for a bucket that is in another region than the project."""
    hint = f'set PROJECT_REGION = "{there}", or name a bucket in {here} with DATA_BUCKET or OUTPUT_BUCKET'
    return Fault(where, f"the bucket is in {there}, the project in {here}", hint=hint)


def find_right(error: exceptions.ClientError) -> str:
    """Return the missing permission, such as `s3:PutBucketPolicy`: as AWS names it, else the operation's."""
    named = re.search(r"perform:? ([a-z0-9-]+:[A-Za-z]+)", _message_of(error))
    if named:
        return named.group(1)
    signed = str(error.response.get("ResponseMetadata", {}).get("Service", "s3"))
    service, operation = _RIGHTS_OF.get(signed, signed), error.operation_name
    return f"{service}:{_S3_RIGHTS.get(operation, operation) if service == 's3' else operation}"
