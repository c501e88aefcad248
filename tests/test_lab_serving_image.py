"""The lab's endpoints and transform jobs run an image's `serve` as SageMaker runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from made_hosting import Hosted, client, refusal

if TYPE_CHECKING:
    from lab.cloud import Cloud
    from lab.registry import Registry

# It says where it runs: what it may do, whom it reaches, and whether it can write where its model is.
SERVE = """#!/usr/bin/env -S python3 -u
import http.server, json, os, pathlib, signal, sys
def look():
    status = pathlib.Path("/proc/self/status").read_text()
    found = {"pid": os.getpid(), "arguments": sys.argv[1:], "user": os.getuid()}
    found["model"] = pathlib.Path("/opt/ml/model/name").read_text()
    found["capabilities"] = [one.split()[1] for one in status.splitlines() if one.startswith("CapEff")][0]
    try:
        pathlib.Path("/opt/ml/model/new").write_text("")
        found["writes"] = True
    except OSError:
        found["writes"] = False
    return {**found, "batch": os.environ.get("SAGEMAKER_BATCH")}
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(200 if self.path == "/ping" else 404)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, json.dumps(look()).encode())
def leave(*_):
    print("asked to end")
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
print("serving")
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


@pytest.fixture
def image(lab: Cloud, hosted: Hosted, tmp_path: Path, registry: Registry) -> Iterator[str]:
    """Return the digest reference of a tiny image that serves, built and pushed as a user would."""
    name = f"{registry.host}/lab-serve"
    (tmp_path / "serve").write_text(SERVE)
    (tmp_path / "serve").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(
        "FROM python:3.11-slim\nCOPY serve /usr/local/bin/\nRUN useradd --uid 1000 user\nUSER 1000\n"
    )
    client("ecr").create_repository(repositoryName="lab-serve")
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(registry.docker_config())
    for command in (["build", "--quiet", "-t", f"{name}:1", str(tmp_path)], ["push", "--quiet", f"{name}:1"]):
        subprocess.run(
            ["docker", "--config", str(config), *command], check=True, capture_output=True, timeout=300
        )
    (found,) = client("ecr").describe_images(repositoryName="lab-serve")["imageDetails"]
    hosted.cloud.set_hosting(hosting="docker")
    yield f"{name}@{found['imageDigest']}"
    subprocess.run(["docker", "rmi", f"{name}:1"], check=False, capture_output=True, timeout=60)


def make_model(hosted: Hosted, image: str, name: str = "rose", **values: object) -> None:
    container = {"Image": image, "ModelDataUrl": hosted.put_archive(name)}
    request = hosted.model_request(name, PrimaryContainer=container, **values)
    hosted.sagemaker.create_model(**request)


def list_docker(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


def left_over() -> list[str]:
    """Return the lab's serving containers and networks that are still there."""
    chosen = ("--filter", "name=lab-serve-", "--format")
    return [
        *list_docker("ps", "--all", *chosen, "{{.Names}}"),
        *list_docker("network", "ls", *chosen, "{{.Name}}"),
    ]


@pytest.mark.parametrize("is_isolated", [True, False], ids=["isolated", "open"])
def test_an_endpoint_runs_the_image_without_rights_and_its_model_read_only(
    hosted: Hosted, image: str, is_isolated: bool
) -> None:
    make_model(hosted, image, EnableNetworkIsolation=is_isolated)
    hosted.make_config()
    found = hosted.make_endpoint()
    assert found["EndpointStatus"] == "InService", hosted.log_lines("/aws/sagemaker/Endpoints/petals")
    assert hosted.ask() == {
        "pid": 1,
        "arguments": [],
        "user": 1000,
        "model": "rose",
        "capabilities": "0000000000000000",
        "writes": False,
        "batch": None,
    }
    (network,) = list_docker("network", "ls", "--filter", "name=lab-serve-", "--format", "{{.Name}}")
    assert list_docker("network", "inspect", network, "--format", "{{.Internal}}") == [
        str(is_isolated).lower()
    ]
    hosted.sagemaker.delete_endpoint(EndpointName="petals")
    hosted.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="petals", WaiterConfig={"Delay": 1})
    ((_, lines),) = hosted.log_lines("/aws/sagemaker/Endpoints/petals").items()
    assert lines == ["serving", "asked to end"]
    assert left_over() == []


def test_a_transform_job_runs_the_image(hosted: Hosted, image: str) -> None:
    make_model(hosted, image)
    client("s3").put_object(Bucket="b.data", Key="in/a.jpg", Body=b"picture")
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b.data/in/"}
    hosted.sagemaker.create_transform_job(
        TransformJobName="b-1",
        ModelName="rose",
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "image/jpeg"},
        TransformOutput={"S3OutputPath": "s3://b.output/out"},
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    )
    waiter = hosted.sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="b-1", WaiterConfig={"Delay": 1})
    stored = client("s3").get_object(Bucket="b.output", Key="out/a.jpg.out")["Body"].read()
    assert json.loads(stored)["batch"] == "true"
    assert left_over() == []


def test_an_image_that_is_not_there_is_no_model(hosted: Hosted, image: str) -> None:
    wrong = f"{image.partition('@')[0]}@sha256:{'0' * 64}"
    container = {"Image": wrong, "ModelDataUrl": hosted.put_archive("rose")}
    call = hosted.sagemaker.create_model
    said = refusal(call, **hosted.model_request(PrimaryContainer=container))[1]
    assert said.startswith("Cannot find Image: lab-serve with image identifier: sha256:0000")
