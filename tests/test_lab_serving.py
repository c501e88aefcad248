"""The lab's endpoints and transform jobs run our own server, as a process and in the image."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from made_hosting import Hosted, client

RED = ("red", (250, 10, 10))
BLUE = ("blue", (10, 10, 250))


def draw(colour: tuple[int, int, int], kind: str = "JPEG") -> bytes:
    saved = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(saved, kind)
    return saved.getvalue()


@pytest.fixture
def flowers(hosted: Hosted, colour_run: Path) -> Hosted:
    """Return an account with a run's archive as its model, served by our own program."""
    hosted.cloud.serve_as("")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in colour_run.iterdir():
            archive.add(path, path.name)
    key = "rose/output/model.tar.gz"
    client("s3").put_object(Bucket="b.output", Key=key, Body=packed.getvalue())
    hosted.sagemaker.create_model(**hosted.model_request())
    return hosted


def test_an_endpoint_answers_for_pictures_with_our_server(flowers: Hosted) -> None:
    flowers.make_config()
    found = flowers.make_endpoint()
    assert found["EndpointStatus"] == "InService", found.get("FailureReason")
    for name, colour in (RED, BLUE):
        answer = flowers.ask(draw(colour))
        assert answer["predicted_class"] == name
        assert answer["confidence"] == answer["classes"][0]["confidence"] > 0.9
    answer = flowers.runtime.invoke_endpoint(
        EndpointName="petals", Body=draw(RED[1], "PNG"), ContentType="image/png", Accept="text/csv"
    )
    assert answer["ContentType"].startswith("text/csv")
    assert b"red" in answer["Body"].read()
    with pytest.raises(flowers.runtime.exceptions.ModelError) as caught:
        flowers.ask(b"no picture at all")
    assert caught.value.response["OriginalStatusCode"] == 422
    assert json.loads(caught.value.response["OriginalMessage"])["error"]
    lines = [
        one for stream in flowers.log_lines("/aws/sagemaker/Endpoints/petals").values() for one in stream
    ]
    assert lines


def test_a_transform_job_answers_for_pictures_with_our_server(flowers: Hosted) -> None:
    s3 = client("s3")
    for name, colour in (RED, BLUE):
        s3.put_object(Bucket="b.data", Key=f"in/{name}.jpg", Body=draw(colour))
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b.data/in/"}
    flowers.sagemaker.create_transform_job(
        TransformJobName="b-1",
        ModelName="rose",
        MaxConcurrentTransforms=2,
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "application/x-image"},
        TransformOutput={
            "S3OutputPath": "s3://b.output/out/",
            "Accept": "application/jsonlines",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    )
    assert wait(flowers)["TransformJobStatus"] == "Completed"
    for name, _ in (RED, BLUE):
        stored = s3.get_object(Bucket="b.output", Key=f"out/{name}.jpg.out")["Body"].read()
        (line,) = stored.decode().splitlines()
        assert json.loads(line)["predicted_class"] == name


def wait(hosted: Hosted) -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found: dict[str, Any] = hosted.sagemaker.describe_transform_job(TransformJobName="b-1")
        if found["TransformJobStatus"] in ("Completed", "Failed"):
            return found
        time.sleep(0.05)
    raise AssertionError("the job does not end")
