"""Asking an endpoint about a picture: whether it answers, what it says, and how long that takes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import statistics
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.errors import AwsError, DataError, Fault, JobError, MissingError, disk_errors
from classifold.pictures.decode import load_picture
from classifold.pictures.limits import PictureError
from classifold.sagemaker.endpoint_request import Kind

# The first requests to a new endpoint may find it still settling.
_ATTEMPTS, _PAUSE = 3, 2.0
_REPEATS = 5
# How long an asynchronous answer may take: with no machine, one has to start first.
_ASYNC_SECONDS, _ASYNC_POLL = 900.0, 1.0
# SageMaker's limits of a request, in bytes. Source: its guide, "Real-time inference" and "Serverless".
_LIMITS: dict[Kind, int] = {"real-time": 25_000_000, "serverless": 4_000_000, "async": 10**9}
_TYPE = "application/x-image"
# What of an answer is shown: the keys of `predict --format json`.
_KEYS = ("predicted_class", "classes")
# Statuses by which the server refuses one picture, while it answers for others.
_REFUSED = (400, 413, 415, 422)
# What SageMaker says of such a status, in the file of an asynchronous failure too.
_CLIENT_ERROR = re.compile(
    r'client error \((?P<status>4\d\d)\)(?: from [^"]*"(?P<said>.*)"\. See )?', re.DOTALL
)
# Side in pixels at which a picture is read here, only to see whether it can be.
_TRIED_SIDE = 64


@dataclass(frozen=True)
class Probe:
    """What an endpoint answered.

    Attributes:
        answer: The prediction, with the keys of `classifold predict --format json`.
        cold_seconds: Time of the first answer, from this machine.
        median_seconds: Median time of five further answers; None if it was asked only once.
        refusal: Why it refused the user's picture; the answer is then that for a built-in one. Empty if it
            did not.
    """

    answer: dict[str, Any]
    cold_seconds: float
    median_seconds: float | None = None
    refusal: str = ""


class _RefusedPictureError(JobError):
    """The endpoint answers, and refuses this picture."""


def read_picture(path: Path, kind: Kind, *, max_pixels: int) -> bytes:
    """Return the content of a picture file, once it was read as a picture here.

    Raises:
        DataError: There is no such file, it is larger than a request may be, or it is no picture.
        DiskError: It cannot be read.
    """
    if not path.is_file():
        raise DataError(Fault(str(path), "no such picture", hint="check the path of --test"))
    size, limit = path.stat().st_size, _LIMITS[kind]
    if size > limit:
        what = f"a request to this kind of endpoint has at most {limit / 1e6:.0f} MB"
        raise DataError(Fault(str(path), what, hint="name a smaller picture", got=f"{size / 1e6:.1f} MB"))
    with disk_errors(path):
        content = path.read_bytes()
    try:
        load_picture(content, size=_TRIED_SIDE, max_pixels=max_pixels)
    except PictureError as error:
        hint = "name another picture for --test"
        raise DataError(Fault(str(path), f"the picture is unreadable: {error.reason}", hint=hint)) from error
    return content


def draw_picture() -> bytes:
    """Return a small picture as PNG, for when the user names none; any answer to it will do."""
    from PIL import Image

    found = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(found, "PNG")
    return found.getvalue()


def probe_endpoint(aws: Aws, name: str, picture: bytes | None, *, kind: Kind) -> Probe:
    """Ask an endpoint about a picture; if it refuses the user's, about a small built-in one.

    Args:
        aws: The connection to AWS.
        name: Name of the endpoint.
        picture: Content of the user's picture file, which is asked about five more times; None for the
            built-in one.
        kind: Kind of the endpoint.

    Raises:
        JobError: It does not answer, or its answer is not a prediction.
        AwsError: A permission is missing.
    """
    if picture is None:
        return _probe(aws, name, draw_picture(), kind=kind, is_measured=False)
    try:
        return _probe(aws, name, picture, kind=kind, is_measured=True)
    except _RefusedPictureError as error:
        refusal = error.faults[0].what
    # The new model is judged by a picture that it must be able to read.
    return replace(_probe(aws, name, draw_picture(), kind=kind, is_measured=False), refusal=refusal)


def _probe(aws: Aws, name: str, picture: bytes, *, kind: Kind, is_measured: bool) -> Probe:
    ask = _ask_async if kind == "async" else _ask
    for left in reversed(range(_ATTEMPTS)):
        began = time.perf_counter()
        try:
            answer = ask(aws, name, picture)
            break
        except _RefusedPictureError:
            raise  # it would be refused again
        except JobError:
            if not left:
                raise
            time.sleep(_PAUSE)
    cold = time.perf_counter() - began
    if not is_measured:
        return Probe(answer, cold)
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        ask(aws, name, picture)
        times.append(time.perf_counter() - began)
    return Probe(answer, cold, statistics.median(times))


def _ask(aws: Aws, name: str, picture: bytes) -> dict[str, Any]:
    doing = f"ask endpoint {name}"
    try:
        with aws_errors(doing):
            found = aws.client("sagemaker-runtime").invoke_endpoint(
                EndpointName=name, ContentType=_TYPE, Accept="application/json", Body=picture
            )
            body = found["Body"].read()
    except AwsError as error:
        raise _explain(error, name) from error
    return _read_answer(name, body)


def _ask_async(aws: Aws, name: str, picture: bytes) -> dict[str, Any]:
    """Send a picture through S3, and wait for the answer there."""
    s3, key = aws.client("s3"), f"{names.ASYNC_PREFIX}{name}/input/{uuid.uuid4()}"
    try:
        with aws_errors(f"send a picture for endpoint {name}"):
            s3.put_object(Bucket=aws.output_bucket, Key=key, Body=picture, ContentType=_TYPE)
        with aws_errors(f"ask endpoint {name}"):
            asked = aws.client("sagemaker-runtime").invoke_endpoint_async(
                EndpointName=name,
                ContentType=_TYPE,
                Accept="application/json",
                InputLocation=f"s3://{aws.output_bucket}/{key}",
            )
    except AwsError as error:
        raise _explain(error, name) from error
    until = time.monotonic() + _ASYNC_SECONDS
    while time.monotonic() < until:
        answer = _read_object(aws, asked["OutputLocation"])
        if answer is not None:
            return _read_answer(name, answer)
        failure = _read_object(aws, asked.get("FailureLocation", ""))
        if failure is not None:
            raise _explain_failure(failure.decode("utf-8", "replace"), name)
        time.sleep(_ASYNC_POLL)
    raise _no_answer(name, f"no answer in {_ASYNC_SECONDS / 60:.0f} minutes")


def _read_object(aws: Aws, uri: str) -> bytes | None:
    """Return an object's content; None if it is not there yet."""
    if not uri:
        return None
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        with aws_errors(f"read {uri}"):
            return bytes(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except MissingError:
        return None


def _read_answer(name: str, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or any(key not in answer for key in _KEYS):
        raise _no_answer(name, f"its answer is no prediction: {body[:200]!r}")
    return answer


def _explain(error: AwsError, name: str) -> AwsError | JobError:
    """Return a refusal as the endpoint's failure to answer, unless AWS itself refused the request."""
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
    if code in ("ModelError", "ModelNotReadyException", "InternalFailure", "ServiceUnavailable"):
        return _explain_failure(error.faults[0].what, name)
    return error


def _explain_failure(said: str, name: str) -> JobError:
    """Return what SageMaker says of a failed request as a refusal of the picture, or as no answer at all."""
    found = _CLIENT_ERROR.search(said)
    if found is None or int(found["status"]) not in _REFUSED:
        return _no_answer(name, said)
    reason = found["said"] or said
    with contextlib.suppress(ValueError, KeyError, TypeError):
        answer = json.loads(reason)
        reason = "; ".join(str(answer[key]) for key in ("error", "hint") if key == "error" or key in answer)
    what = f"it refuses the picture: {' '.join(reason.split())[:600]} (status {found['status']})"
    return _RefusedPictureError(Fault(f"endpoint {name}", what))


def _no_answer(name: str, reason: str) -> JobError:
    return JobError(Fault(f"endpoint {name}", f"it does not answer: {' '.join(reason.split())[:600]}"))
