"""Explaining a request without a usable answer: credentials, profile, network, TLS, a proxy's page."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import s3transfer.exceptions
import urllib3.exceptions
from boto3.exceptions import Boto3Error
from botocore import exceptions
from botocore.parsers import ResponseParserError

from classifold.errors import AwsError, Fault, name_failure

_SIGN_IN = (
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
    exceptions.LoginError,
    exceptions.CredentialRetrievalError,
    exceptions.NoAuthTokenError,
    exceptions.RefreshWithMFAUnsupportedError,
)
LOGIN_HINT = "sign in again, for instance with: aws sso login; then run the command again"
_KEYS_HINT = "run `aws configure`, or set AWS_PROFILE to a profile that has credentials"
_AGAIN = "then run the command again: it resumes where it stopped"
NETWORK_HINT = f"check the network, HTTPS_PROXY and AWS_ENDPOINT_URL, {_AGAIN}"
_PROXY_HINT = f"check the network, and the proxy in HTTPS_PROXY, HTTP_PROXY and NO_PROXY, {_AGAIN}"
_TLS_HINT = (
    "if your organisation's proxy opens TLS connections, set AWS_CA_BUNDLE to the file of its certificates; "
    "else check this machine's clock and AWS_ENDPOINT_URL"
)
_UNREADABLE_HINT = (
    "open a web page in a browser to see whether the network asks you to sign in; check HTTPS_PROXY and "
    f"AWS_ENDPOINT_URL, {_AGAIN}"
)
_BROKEN_HINT = "run the command again: it resumes where it stopped"
_PROFILE_HINT = (
    "check this machine's AWS settings: ~/.aws/config, ~/.aws/credentials and the environment's AWS_...; "
    "`aws configure list` shows which are used"
)
_BOTO_HINT = (
    "boto3 may be too old or damaged: pip install --upgrade boto3; else look at the AWS settings with "
    "`aws configure list`"
)
# Exceptions raised before AWS can answer, or when its answer cannot be read: message and hint for each.
# The first row that fits counts.
_LOCAL: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((exceptions.NoCredentialsError,), "there are no AWS credentials", _KEYS_HINT),
    ((exceptions.PartialCredentialsError,), "the AWS credentials are incomplete: {}", _KEYS_HINT),
    (
        (exceptions.ProfileNotFound,),
        "{}",
        "set AWS_PROFILE to one that `aws configure list-profiles` lists",
    ),
    (_SIGN_IN, "the credentials have expired or cannot be obtained: {}", LOGIN_HINT),
    ((exceptions.SSLError,), "cannot reach AWS: {}", _TLS_HINT),
    (
        (exceptions.ProxyConnectionError, exceptions.InvalidProxiesConfigError),
        "cannot reach AWS: {}",
        _PROXY_HINT,
    ),
    (
        (
            exceptions.IncompleteReadError,
            exceptions.ResponseStreamingError,
            exceptions.ChecksumError,
            exceptions.FlexibleChecksumError,
        ),
        "AWS's answer is incomplete or was changed in transit: {}",
        _BROKEN_HINT,
    ),
    ((exceptions.HTTPClientError, exceptions.ConnectionError), "cannot reach AWS: {}", NETWORK_HINT),
    ((exceptions.WaiterError,), "AWS has not finished in time: {}", _BROKEN_HINT),
    (
        (
            exceptions.ConfigNotFound,
            exceptions.ConfigParseError,
            exceptions.InvalidConfigError,
            exceptions.InfiniteLoopConfigError,
            exceptions.InvalidRetryConfigurationError,
            exceptions.InvalidRetryModeError,
            exceptions.InvalidDefaultsMode,
            exceptions.InvalidIMDSEndpointError,
            exceptions.InvalidIMDSEndpointModeError,
            exceptions.InvalidEndpointConfigurationError,
            exceptions.UnknownCredentialError,
            exceptions.MetadataRetrievalError,
            exceptions.NoRegionError,
        ),
        "{}",
        _PROFILE_HINT,
    ),
)
# Exceptions of boto3's dependencies, which it lets through beside its own.
NEIGHBOURS = (
    Boto3Error,
    s3transfer.exceptions.RetriesExceededError,
    s3transfer.exceptions.S3UploadFailedError,
    s3transfer.exceptions.S3DownloadFailedError,
    urllib3.exceptions.HTTPError,
    ResponseParserError,
)


class UnreadableAnswerError(AwsError, exceptions.BotoCoreError):  # type: ignore[misc]  # boto is untyped
    """The answer is not from AWS: a proxy's page, a truncated text, a redirection.

    Args:
        problem: Why it cannot be read, as in "it is empty".
        status: HTTP status code; 0 if it is not known.
        location: Target address of a redirection; empty if it is not one.
    """

    def __init__(self, problem: str, *, status: int = 0, location: str = "") -> None:
        self.problem = problem
        number = f" (HTTP {status})" if status else ""
        leads = f", and leads to {location}" if location else ""
        what = f"the answer{number} is not AWS's, or was changed on its way: {problem}{leads}"
        # Botocore's own constructor takes no fault, and AwsError's would call it.
        self.faults = (Fault("AWS", what, hint=_UNREADABLE_HINT),)
        self.kwargs = {"problem": problem}
        Exception.__init__(self, *self.faults)


PASSING = (
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    exceptions.IncompleteReadError,
    exceptions.ChecksumError,
    exceptions.FlexibleChecksumError,
    UnreadableAnswerError,
    urllib3.exceptions.HTTPError,
)


@contextlib.contextmanager
def profile_errors(doing: str) -> Iterator[None]:
    """Turn Python's own exceptions from reading the AWS settings into an AwsError.

    Botocore does not catch them: output of a credential_process that is not JSON, an invalid number, a
    missing file.

    Args:
        doing: What was being done, as in "sign in".

    Raises:
        AwsError: With Python's message and where to look.
    """
    try:
        yield
    except exceptions.BotoCoreError:
        raise  # some of them are OSErrors or ValueErrors too
    except (ValueError, KeyError, TypeError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if "endpoint" in said:
            # Botocore's message for an invalid address, which comes from the environment or the profile.
            hint = "AWS_ENDPOINT_URL, or endpoint_url of the profile, is an address such as http://localhost:5000"
            raise AwsError(Fault(name_failure(doing), said, hint=hint)) from error
        what = f"the AWS settings or credentials of this machine cannot be read: {said}"
        raise AwsError(Fault(name_failure(doing), what, hint=_PROFILE_HINT)) from error


def explain_no_answer(error: exceptions.BotoCoreError, doing: str, hint: str) -> Fault:
    """Return the fault for a request that AWS did not answer, or whose answer cannot be used."""
    if isinstance(error, UnreadableAnswerError):
        fault = error.faults[0]
        return Fault(name_failure(doing), fault.what, hint=fault.hint)
    said = " ".join(str(error).split())
    for kinds, words, cure in _LOCAL:
        if isinstance(error, kinds):
            # These hints are certain; for the rest the caller may know a better one.
            is_sure = cure in (_KEYS_HINT, LOGIN_HINT, _TLS_HINT, _PROXY_HINT)
            return Fault(
                name_failure(doing),
                words.format(said + _find_cause(error)),
                hint=cure if is_sure or not hint else hint,
            )
    return Fault(name_failure(doing), said or type(error).__name__, hint=hint or _BOTO_HINT)


def _find_cause(error: exceptions.BotoCoreError) -> str:
    """Return the system's message on a failed connection, in brackets, if botocore leaves it out."""
    cause = str(getattr(error, "kwargs", {}).get("error", ""))
    reason = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", cause)
    return f" ({reason.group(1)})" if reason and reason.group(1) not in str(error) else ""
