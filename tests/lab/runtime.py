"""The stand-in for SageMaker's runtime: InvokeEndpoint and InvokeEndpointAsync reach the containers."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from lab.capture import capture
from lab.endpoint import Endpoint, Served
from lab.hosting import Hosting
from lab.operations import read_invocation
from lab.serving import Answer
from lab.storage import StorageError, split_uri

_MEGABYTE = 1024 * 1024
# "Payload sizes up to 25 MB and processing times of 60 seconds": Inference options in Amazon SageMaker AI.
# Serverless: "The maximum request and response payload size for serverless invocations is 4 MB".
REALTIME_BYTES = 25 * _MEGABYTE
SERVERLESS_BYTES = 4 * _MEGABYTE
ASYNC_BYTES = 1024 * _MEGABYTE
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


class Reply(NamedTuple):
    """What the runtime answers: HTTP's status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes


class InvocationError(Exception):
    """A request that is refused, or that the model could not answer."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.reply = Reply(
            status,
            {"Content-Type": "application/json", "x-amzn-errortype": code},
            json.dumps({"message": message, "Message": message, **more}).encode(),
        )


class Runtime:
    """Sends requests to the containers of one account's endpoints."""

    def __init__(self, hosting: Hosting) -> None:
        self.hosting = hosting
        self._threads: list[threading.Thread] = []

    def wait(self) -> None:
        """Wait for the requests that are still being answered."""
        for thread in self._threads:
            thread.join(timeout=60)
        self._threads.clear()

    def answer(self, environ: dict[str, Any], body: bytes, region: str) -> Reply:
        """Answer a request to the runtime."""
        found = read_invocation(environ["PATH_INFO"])
        if found is None:
            return InvocationError(404, "UnknownOperationException", "no such operation").reply
        operation, name = found
        try:
            endpoint = self._find(name, region)
            is_async = "AsyncInferenceConfig" in (endpoint.fleet.config if endpoint.fleet else {})
            if is_async != (operation == "InvokeEndpointAsync"):
                kind = "an asynchronous" if is_async else "not an asynchronous"
                raise _invalid(f"Endpoint {name} is {kind} endpoint: {operation} is not supported.")
            call = self._invoke_later if is_async else self._invoke
            return call(endpoint, environ, body)
        except InvocationError as error:
            return error.reply

    def _find(self, name: str, region: str) -> Endpoint:
        endpoint = self.hosting.endpoints.get(name, region)
        if endpoint is None or endpoint.fleet is None or endpoint.status == "Deleting":
            raise _invalid(f"Endpoint {name} of account {self.hosting.account} not found.")
        return endpoint

    def _invoke(self, endpoint: Endpoint, environ: dict[str, Any], body: bytes) -> Reply:
        served = _choose(endpoint, _header(environ, "X-Amzn-SageMaker-Target-Variant"))
        limit = SERVERLESS_BYTES if served.is_serverless else REALTIME_BYTES
        if len(body) > limit:
            raise _invalid(
                "1 validation error detected: Value at 'body' failed to satisfy constraint: "
                f"Member must have length less than or equal to {limit}"
            )
        headers = {
            "Content-Type": environ.get("CONTENT_TYPE") or "application/octet-stream",
            "Accept": _header(environ, "Accept") or "*/*",
        }
        for name in (_ATTRIBUTES, "X-Amzn-SageMaker-Inference-Id"):
            if _header(environ, name):
                headers[name] = _header(environ, name)
        answer = self._ask(endpoint, served, headers, body, self.hosting.behaviour.invoke_seconds)
        capture(endpoint, served, body=body, kind=headers["Content-Type"], answer=answer)
        if len(answer.body) > limit:
            raise _failed(
                endpoint, served, 0, f"the response is larger than {limit} bytes", self.hosting.account
            )
        given = {
            "Content-Type": answer.headers.get("content-type", "application/octet-stream"),
            "x-Amzn-Invoked-Production-Variant": served.name,
        }
        if _ATTRIBUTES.lower() in answer.headers:
            given[_ATTRIBUTES] = answer.headers[_ATTRIBUTES.lower()]
        return Reply(200, given, answer.body)

    def _ask(
        self, endpoint: Endpoint, served: Served, headers: dict[str, str], body: bytes, seconds: float
    ) -> Answer:
        """Return the container's answer to POST /invocations.

        Raises:
            InvocationError: ModelError, as the service says it, where the status is another than 2xx.
        """
        account = self.hosting.account
        try:
            answer = served.container.ask("POST", "/invocations", body=body, headers=headers, timeout=seconds)
        except TimeoutError:
            said = (
                "Your invocation timed out while waiting for a response from container primary. Review the "
                "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
            )
            raise _failed(endpoint, served, 0, said, account) from None
        except (OSError, http.client.HTTPException) as error:
            said = f"the container closed the connection: {error}"
            again = threading.Thread(
                target=served.container.revive, kwargs={"abandon": endpoint.abandon}, daemon=True
            )
            again.start()
            self._threads.append(again)
            raise _failed(endpoint, served, 500, said, account) from None
        if answer.status // 100 != 2:
            raise _failed(endpoint, served, answer.status, answer.body.decode("utf-8", "replace"), account)
        return answer

    # Asynchronous

    def _invoke_later(self, endpoint: Endpoint, environ: dict[str, Any], body: bytes) -> Reply:
        served = _choose(endpoint, "")
        source = _header(environ, "X-Amzn-SageMaker-InputLocation")
        if bool(source) == bool(body):
            raise _invalid("Exactly one of InputLocation and Body must be provided.")
        output = _read_output(endpoint)
        number = str(uuid.uuid4())
        inference_id = _header(environ, "X-Amzn-SageMaker-Inference-Id") or str(uuid.uuid4())
        good = _place(output.get("S3OutputPath", ""), f"{number}.out")
        bad = _place(output.get("S3FailurePath", ""), f"{number}-error.out")
        headers = {
            "Content-Type": _header(environ, "X-Amzn-SageMaker-Content-Type") or "application/octet-stream",
            "Accept": _header(environ, "X-Amzn-SageMaker-Accept") or "*/*",
            "X-Amzn-SageMaker-Inference-Id": inference_id,
        }
        seconds = float(_header(environ, "X-Amzn-SageMaker-InvocationTimeoutSeconds") or 900)
        arguments = (endpoint, served, source, body, headers, seconds, good, bad)
        self._threads.append(threading.Thread(target=self._answer_later, args=arguments, daemon=True))
        self._threads[-1].start()
        places = {"X-Amzn-SageMaker-OutputLocation": good, "X-Amzn-SageMaker-FailureLocation": bad}
        given = {"Content-Type": "application/json", **{name: one for name, one in places.items() if one}}
        return Reply(202, given, json.dumps({"InferenceId": inference_id}).encode())

    def _answer_later(
        self,
        endpoint: Endpoint,
        served: Served,
        source: str,
        body: bytes,
        headers: dict[str, str],
        seconds: float,
        good: str,
        bad: str,
    ) -> None:
        """Read the input, ask the container, and write its answer or why there is none, as the role."""
        storage = served.storage
        key = _read_output(endpoint).get("KmsKeyId", "")
        try:
            content = _read_input(lambda: storage.read(*split_uri(source))) if source else body
            answer = self._ask(endpoint, served, headers, content, seconds)
            storage.write(*split_uri(good), answer.body, kms_key=key)
        except (InvocationError, StorageError) as error:
            if not bad:
                return
            try:
                storage.write(*split_uri(bad), str(error).encode(), kms_key=key)
            except (StorageError, KeyError):
                served.log.write(f"the failure cannot be written to {bad}")


def _read_output(endpoint: Endpoint) -> dict[str, Any]:
    config = endpoint.fleet.config if endpoint.fleet else {}
    output: dict[str, Any] = config.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    return output


def _read_input(read: Callable[[], bytes]) -> bytes:
    try:
        content = read()
    except KeyError:
        raise StorageError("Failed to download the input: the object does not exist.") from None
    if len(content) > ASYNC_BYTES:
        raise StorageError(f"The input is larger than {ASYNC_BYTES} bytes.")
    return content


def _place(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else ""


def _choose(endpoint: Endpoint, variant: str) -> Served:
    found = endpoint.fleet.choose(variant) if endpoint.fleet else None
    if found is None:
        raise _invalid(f"Variant {variant} was not found for endpoint {endpoint.name}.")
    return found


def _header(environ: dict[str, Any], name: str) -> str:
    return str(environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


def _invalid(message: str) -> InvocationError:
    return InvocationError(400, "ValidationError", message)


def _failed(endpoint: Endpoint, served: Served, status: int, message: str, account: str) -> InvocationError:
    """Return ModelError: "the model (owned by the customer in the container) returned 4xx or 5xx"."""
    side = "client" if 400 <= status < 500 else "server"
    region, group = endpoint.region, f"/aws/sagemaker/Endpoints/{endpoint.name}"
    said = (
        f'Received {side} error ({status}) from primary with message "{message}". See '
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#logEventViewer:group={group} "
        f"in account {account} for more information."
    )
    return InvocationError(
        424,
        "ModelError",
        said,
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{served.log.stream}",
    )
