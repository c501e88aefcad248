"""What AWS says when it refuses, in each service's own protocol and words."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

StartResponse = Callable[..., Any]
_QUERY_SERVICES = {"iam", "sts", "ec2", "cloudformation", "sns", "autoscaling"}
# Reasons of the status line; boto3 shows them for a HEAD, which has no body.
_REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}
_REASONS |= {500: "Internal Server Error", 503: "Slow Down"}


class Refusal(NamedTuple):
    """An error as AWS answers it: HTTP status, code and message."""

    status: int
    code: str
    message: str


def throttled(service: str) -> Refusal:
    """Return the answer to too many requests."""
    if service == "s3":
        return Refusal(503, "SlowDown", "Please reduce your request rate.")
    code = "Throttling" if service in _QUERY_SERVICES else "ThrottlingException"
    return Refusal(400, code, "Rate exceeded")


def expired(service: str) -> Refusal:
    """Return the answer to a session that has ended."""
    if service == "s3":
        return Refusal(400, "ExpiredToken", "The provided token has expired.")
    said = "The security token included in the request is expired"
    if service in _QUERY_SERVICES:
        return Refusal(403, "ExpiredToken", said)
    return Refusal(400, "ExpiredTokenException", said)


def unknown_key(service: str) -> Refusal:
    """Return the answer to an access key that AWS does not know."""
    if service == "s3":
        said = "The AWS Access Key Id you provided does not exist in our records."
        return Refusal(403, "InvalidAccessKeyId", said)
    said = "The security token included in the request is invalid."
    if service in _QUERY_SERVICES:
        return Refusal(403, "InvalidClientTokenId", said)
    return Refusal(400, "UnrecognizedClientException", said)


def denied(service: str, *, who: str, right: str, resource: str) -> Refusal:
    """Return the answer to a caller without the permission."""
    shown = f'"{resource}"' if service == "s3" else resource
    said = (
        f"User: {who} is not authorized to perform: {right} on resource: {shown} "
        f"because no identity-based policy allows the {right} action"
    )
    if service == "s3" or service in _QUERY_SERVICES:
        return Refusal(403, "AccessDenied", said)
    return Refusal(400, "AccessDeniedException", said)


def failed(service: str) -> Refusal:
    """Return the answer of a service that is out of order."""
    said = "We encountered an internal error. Please try again."
    return Refusal(500, "InternalError" if service == "s3" else "InternalFailure", said)


def answer(
    refusal: Refusal,
    service: str,
    environ: dict[str, Any],
    start_response: StartResponse,
    *,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    """Send a refusal in the protocol of the service."""
    status, code, message = refusal
    request_id = str(uuid.uuid4())
    if service == "s3":
        kind = "application/xml"
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
            f"<Message>{escape(message)}</Message><RequestId>{request_id}</RequestId></Error>"
        )
    elif service in _QUERY_SERVICES:
        kind = "text/xml"
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
            f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    else:
        kind = "application/x-amz-json-1.1"
        text = json.dumps({"__type": code, "message": message})
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()
    start_response(
        f"{status} {_REASONS.get(status, 'Error')}",
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", request_id),
            *headers,
        ],
    )
    return [body]


def answer_as_is(
    status: int, text: str, headers: dict[str, str], start_response: StartResponse
) -> list[bytes]:
    """Send what somebody between the client and AWS would answer, such as a proxy's page."""
    body = text.encode()
    start_response(
        f"{status} {_REASONS.get(status, 'Error')}",
        [("Content-Type", "text/html"), ("Content-Length", str(len(body))), *headers.items()],
    )
    return [body]


def answer_whole(
    status: int, headers: dict[str, str], body: bytes, start_response: StartResponse
) -> list[bytes]:
    """Send an answer with its own status and headers."""
    start_response(
        f"{status} {_REASONS.get(status, 'Other')}",
        [
            *headers.items(),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ],
    )
    return [body]


def answer_xml(text: str, start_response: StartResponse) -> list[bytes]:
    """Send a service's answer in the query protocol."""
    body = text.encode()
    start_response("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]


def answer_json(value: Any, start_response: StartResponse) -> list[bytes]:
    """Send a service's answer in the JSON protocol."""
    body = json.dumps(value).encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/x-amz-json-1.1"),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ],
    )
    return [body]
