"""Data capture of an endpoint: requests and answers as lines in S3, written with the rights of the role."""

from __future__ import annotations

import base64
import json
import random
import time
import uuid
from typing import Any

from lab.endpoint import Endpoint, Served
from lab.serving import Answer
from lab.storage import StorageError, split_uri


def capture(endpoint: Endpoint, served: Served, *, body: bytes, kind: str, answer: Answer) -> None:
    """Keep a request and its answer, where the configuration asks for it.

    The place and the form of a line are those of "Capture data from real-time endpoint". Where the role may
    not write, nothing is kept, and the request is answered all the same.

    Args:
        endpoint: That was asked.
        served: The variant that answered.
        body: Of the request.
        kind: Its content type.
        answer: The container's.
    """
    config = (endpoint.fleet.config if endpoint.fleet else {}).get("DataCaptureConfig", {})
    if not config.get("EnableCapture"):
        return
    if random.random() * 100 >= config["InitialSamplingPercentage"]:
        return
    modes = {one["CaptureMode"] for one in config["CaptureOptions"]}
    types = config.get("CaptureContentTypeHeader", {})
    data = {}
    if modes & {"Input", "InputAndOutput"}:
        data["endpointInput"] = _describe("INPUT", body, kind, types)
    if modes & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = _describe(
            "OUTPUT", answer.body, answer.headers.get("content-type", ""), types
        )
    now = time.gmtime()
    event = {"eventId": str(uuid.uuid4()), "inferenceTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", now)}
    line = json.dumps({"captureData": data, "eventMetadata": event, "eventVersion": "0"})
    folder = time.strftime("%Y/%m/%d/%H", now)
    bucket, prefix = split_uri(config["DestinationS3Uri"].rstrip("/"))
    key = f"{prefix}/{endpoint.name}/{served.name}/{folder}/{uuid.uuid4()}.jsonl".lstrip("/")
    try:
        served.storage.write(bucket, key, f"{line}\n".encode(), kms_key=config.get("KmsKeyId", ""))
    except (StorageError, KeyError):
        return


def _describe(mode: str, body: bytes, kind: str, types: dict[str, Any]) -> dict[str, str]:
    """Return one side of a line: text where its content type was named as text, else Base64."""
    named = {"CSV": types.get("CsvContentTypes", []), "JSON": types.get("JsonContentTypes", [])}
    encoding = next((name for name, kinds in named.items() if kind.partition(";")[0] in kinds), "BASE64")
    data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode("utf-8", "replace")
    return {"observedContentType": kind, "mode": mode, "data": data, "encoding": encoding}
